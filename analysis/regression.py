"""Costs by least squares of relative errors (Gauss 1809), for the whole sample and for all bootstrap draws at once.

Ours because thousands of resampled fits are solved in one call from sums by block; SciPy fits one sample a call.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.statistics import Floats, NotComputable

CONDITION_MAX = 1e12  # above it the columns come in one proportion


class Equations(NamedTuple):
    """XᵀX and Xᵀy of each block (a round or a pass): a draw's sums are the sums of the blocks it drew."""

    left: Floats  # block × cost × cost
    right: Floats  # block × cost


def equations(x: Floats, y: Floats, scale: Floats, block: NDArray[np.int64]) -> Equations:
    """One row an observation; dividing by `scale` makes errors relative, since noise grows with the cost."""
    x, y, count = x / scale[:, None], y / scale, int(block.max()) + 1
    left, right = np.zeros((count, x.shape[1], x.shape[1])), np.zeros((count, x.shape[1]))
    np.add.at(left, block, x[:, :, None] * x[:, None, :])
    np.add.at(right, block, x * y[:, None])
    return Equations(left, right)


def solve(sums: Equations, times: Floats | None = None) -> Floats:
    """The costs, one row for each row of how often each block counts; without it one row that counts each once."""
    times = np.ones((1, len(sums.left))) if times is None else times
    left = (times @ sums.left.reshape(len(sums.left), -1)).reshape(-1, *sums.left.shape[1:])
    scale = np.sqrt(np.diagonal(left, axis1=1, axis2=2))
    with np.errstate(divide="ignore", invalid="ignore"):
        normal = np.nan_to_num(left / scale[:, :, None] / scale[:, None, :])
    if np.any(np.linalg.cond(normal) > CONDITION_MAX):
        raise NotComputable("reads and writes, or operations, came in one proportion: their costs cannot be separated")
    return np.asarray(np.linalg.solve(left, (times @ sums.right)[:, :, None])[:, :, 0], dtype=np.float64)
