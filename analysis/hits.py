"""What a cache serves, by its own counters: the share of reads that hit, with its interval over rounds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from analysis.runs import Run
from analysis.statistics import RESAMPLES, Interval, NotComputable, expanded_tail, quantiles, resample_indices

ASKED = ("hits", "misses", "bypassed")  # every read that comes to a cache is one of these


class Hits(NamedTuple):
    reads: int
    hits: int
    loads: int  # of an answer from the database
    evictions: int
    interval: Interval | None  # of the share; None: too few rounds

    @property
    def share(self) -> float:
        return self.hits / self.reads


def hits(run: Run, rounds: Sequence[int], share: float, target: str, *, seed: int) -> Hits | None:
    """Of the measured slices of these rounds; None where no read was counted."""
    own = (pl.col("target") == target) & (pl.col("read_share_pct") == share) & (pl.col("phase") == "measure")
    slices = run.slices.filter(own & pl.col("round").is_in(rounds)).select("slice", "restart")
    counter, count = pl.col("counter").str.strip_prefix("cache_"), pl.col("count")
    sums = {name: count.filter(counter == name).sum() for name in ("hits", "loads", "evictions")}
    by_slice = run.counts.join(slices, on="slice").group_by("slice", "restart", maintain_order=True)
    found = by_slice.agg(reads=count.filter(counter.is_in(ASKED)).sum(), **sums)
    if not (reads := int(found["reads"].sum())):
        return None
    total = {name: int(found[name].sum()) for name in sums}
    return Hits(reads, **total, interval=_interval(found, seed))


def _interval(by_slice: pl.DataFrame, seed: int) -> Interval | None:
    """95% bootstrap of the ratio of two sums (Efron 1979), over rounds within each restart."""
    starts = by_slice["restart"].to_numpy().astype(np.int64)
    try:
        tail = expanded_tail(len(starts), len(np.unique(starts)))
    except NotComputable:
        return None
    picks = resample_indices(starts, RESAMPLES, np.random.default_rng(seed))
    hit, reads = (by_slice[name].to_numpy()[picks].sum(axis=1) for name in ("hits", "reads"))
    return quantiles(hit / np.maximum(reads, 1), tail)
