"""Quantiles of the Hodges–Lehmann estimate over bootstrap resamples, exact, without the estimate of each resample.

A resample of n rounds has n·(n+1)/2 pairs, and thousands of resamples have too many to write out. How many pairs of
all resamples lie up to a given mean is cheap, because resamples differ only in how often they drew each round. So a
search over the means finds those between which the quantile lies, and only resamples whose estimate may lie there,
some dozens, are looked at closely. 5,000 resamples of 60 rounds take 10 ms instead of 400.
"""

from bisect import bisect_left
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def quantile(values: Floats, drawn: NDArray[np.int32], share: float) -> float:
    """As `numpy.quantile` gives it of all estimates; `drawn` is how often each resample, a row, drew each value."""
    order = np.argsort(values)
    sums = values[order][:, None] + values[order]
    means = np.unique(sums[np.triu_indices(len(values))] / 2)
    times = np.ascontiguousarray(drawn[:, order].T)
    up_to = np.vstack([np.zeros_like(times[:1]), np.cumsum(times, axis=0, dtype=np.int32)])
    pairs = int(up_to[-1, 0]) * (int(up_to[-1, 0]) + 1) // 2
    middle = (pairs + 1) // 2, pairs // 2 + 1  # the same pair where their number is odd

    def twice(place: int, times: NDArray[np.int32], up_to: NDArray[np.int32]) -> NDArray[np.int32]:
        """Twice the number of pairs of each resample whose mean is at most `means[place]`."""
        within = sums <= 2 * means[place]
        apart, with_itself = np.einsum("vr,vr->r", times, up_to[within.sum(axis=1)]), up_to[within.diagonal().sum()]
        return np.asarray(apart + with_itself)

    @cache
    def reached(place: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of which resamples the lower and the upper middle pair lie up to `means[place]`."""
        counted = twice(place, times, up_to) if place >= 0 else np.zeros(len(drawn), np.int32)
        return counted >= 2 * middle[0], counted >= 2 * middle[1]

    def place_of(rank: int, side: int) -> int:
        return bisect_left(range(len(means) - 1), rank + 1, key=lambda place: int(reached(place)[side].sum()))

    def estimates(resamples: NDArray[np.int64], first: int, last: int) -> Floats:
        own = times[:, resamples], up_to[:, resamples]
        while first > 0 and (twice(first - 1, *own) >= 2 * middle[0]).any():
            first -= 1
        while (twice(last, *own) < 2 * middle[1]).any():
            last += 1
        counted = np.stack([twice(place, *own) for place in range(first, last + 1)])
        both = np.stack([means[first + np.argmax(counted >= 2 * number, axis=0)] for number in middle])
        return np.asarray(both.mean(axis=0))

    rank = share * (len(drawn) - 1)
    low, high = place_of(int(rank), 0), place_of(min(int(rank) + 1, len(drawn) - 1), 1)
    before = reached(low - 1)[1]
    near = np.sort(estimates(np.flatnonzero(reached(high)[0] & ~before), low, high))
    return float(np.interp(rank - np.count_nonzero(before), np.arange(len(near)), near))
