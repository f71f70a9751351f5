"""CPU µs per operation: by slice and component, as log-ratios of two targets by round, and fitted by least squares."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.runs import Run
from analysis.statistics import Floats, NotComputable

CONDITION_MAX = 1e12  # above it the columns come in one proportion


class Cost(NamedTuple):
    """CPU µs per operation of a target at one read share: all of it, and by component."""

    total_us: float
    by_component_us: dict[str, float]

    @property
    def operations_per_core_second(self) -> float:
        return 1e6 / self.total_us


def components(run: Run) -> list[str]:
    """Whatever the run recorded, in the order of the alphabet: the same in every run, table and figure."""
    return sorted(run.cpu["component"].unique())


def slice_costs(run: Run) -> pl.DataFrame:
    """By measured slice: round, restart, read_share_pct, target, operations, reads, writes, cpu_us (null = unknown)."""
    cpu = run.cpu.group_by("slice").agg(pl.col("cpu_us").sum())
    columns = ["slice", "round", "restart", "read_share_pct", "target", "operations", "reads", "writes", "cpu_us"]
    measured = run.slices.filter((pl.col("phase") == "measure") & (pl.col("completed") > 0))
    return measured.join(cpu, on="slice", how="left").rename({"completed": "operations"}).select(columns)


def pairs(costs: pl.DataFrame, baseline: str, target: str) -> pl.DataFrame:
    """One row a round in which the CPU of both is known, with operations, reads, writes, cpu_us as _base and _other."""
    keys, columns = ["round", "restart", "read_share_pct"], ["operations", "reads", "writes", "cpu_us"]
    base, other = (
        costs.filter((pl.col("target") == name) & (pl.col("cpu_us") > 0)).select(
            *keys, pl.col(columns).cast(pl.Float64).name.suffix(suffix)
        )
        for name, suffix in ((baseline, "_base"), (target, "_other"))
    )
    return base.join(other, on=keys).sort("round")


def log_ratios(costs: pl.DataFrame, baseline: str, target: str, share: float | None = None) -> pl.DataFrame:
    """By round, at one read share or at all: restart and log of (CPU per operation of target over baseline)."""
    base, other = (pl.col(f"cpu_us_{side}") / pl.col(f"operations_{side}") for side in ("base", "other"))
    rows = pairs(costs, baseline, target)
    rows = rows if share is None else rows.filter(pl.col("read_share_pct") == share)
    return rows.select("round", "restart", log_ratio=(other / base).log())


def family(costs: pl.DataFrame, baseline: str, target: str, share: float | None) -> tuple[Floats, NDArray[np.int64]]:
    """The same as two arrays: log-ratios, and the start each belongs to."""
    rows = log_ratios(costs, baseline, target, share)
    return rows["log_ratio"].to_numpy(), rows["restart"].to_numpy().astype(np.int64)


def cost_of(run: Run, costs: pl.DataFrame, share: float, target: str) -> Cost | None:
    """Sums over valid rounds: all CPU over all operations."""
    slices = costs.filter((pl.col("read_share_pct") == share) & (pl.col("target") == target) & (pl.col("cpu_us") > 0))
    operations = int(slices["operations"].sum())
    if not operations:
        return None
    parts = run.cpu.filter(pl.col("slice").is_in(slices["slice"].to_list())).group_by("component")
    found = dict(parts.agg(pl.col("cpu_us").sum()).sort("component").iter_rows())
    return Cost(sum(found.values()) / operations, {name: us / operations for name, us in found.items()})


# Least squares of relative errors (Gauss 1809), for the whole sample and for all bootstrap draws at once. Ours because
# thousands of resampled fits are solved in one call from sums by block; SciPy fits one sample a call.


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
    size = np.linalg.eigvalsh(normal)  # in ascending order; their ratio is the condition of a symmetric matrix
    if np.any(size[:, -1] > CONDITION_MAX * size[:, 0]):
        raise NotComputable("reads and writes, or operations, came in one proportion: their costs cannot be separated")
    return np.asarray(np.linalg.solve(left, (times @ sums.right)[:, :, None])[:, :, 0], dtype=np.float64)
