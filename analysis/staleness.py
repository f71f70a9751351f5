"""Staleness as readers see it: P(stale | time since the acknowledgement), and the time until a write is visible."""

import math
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from analysis.statistics import SAMPLES_MIN, Interval, NotComputable, bootstrap_interval, hodges_lehmann


class Point(NamedTuple):
    """The share of reads, sent around `delay_us` after the acknowledgement, that missed the acknowledged write."""

    delay_us: float
    stale: int
    reads: int
    share: float
    interval: Interval


class Visibility(NamedTuple):
    """Time until the first fresh read that no stale one followed; the reads' spacing bounds its resolution."""

    probes: int
    never: int  # probes that stayed stale to their last read
    p50_us: float | None  # None: that many probes never saw their write
    p95_us: float | None  # and of the others: there are too few probes for it
    p99_us: float | None
    longest_us: float  # of the writes that were seen
    stale_first: float  # share of probes whose earliest read was stale
    first_read_us: float  # median delay of that earliest read: nothing faster can be resolved
    behind_max: int  # versions that the stalest read missed


def curve(rows: pl.DataFrame) -> list[Point]:
    """A point for the first read of all probes, one for the second, and so on, with Wilson intervals."""
    if rows.is_empty():
        return []
    delay, stale = pl.col("delay_us"), pl.col("stale")
    nth_read = delay.rank("ordinal").over("slice", "operation", "probe")
    bins = rows.group_by(bin=nth_read).agg(delay.median(), stale.sum(), reads=pl.len()).sort("bin").drop("bin")
    return [Point(at, missed, reads, missed / reads, wilson(missed, reads)) for at, missed, reads in bins.iter_rows()]


def wilson(hits: int, trials: int) -> Interval:
    """95% interval of a share (Wilson 1927): sensible at 0 and at 1, where the textbook interval has no width."""
    if trials <= 0:
        raise NotComputable("a share of no trials")
    low, high = stats.binomtest(hits, trials).proportion_ci(method="wilson")
    return Interval(float(low), float(high))


def visibility(rows: pl.DataFrame) -> Visibility | None:
    """None without a probe."""
    if rows.is_empty():
        return None
    reads = rows.sort("delay_us").group_by("slice", "operation", "probe")
    probes = reads.agg(pl.col("stale").first(), pl.col("delay_us").first(), pl.col("visible_us").max())
    # A write that was never seen took longer than any that was.
    times = sorted(math.inf if time is None else float(time) for time in probes["visible_us"])
    return Visibility(
        probes=len(times),
        never=int(probes["visible_us"].is_null().sum()),
        p50_us=_quantile(times, 0.50),
        p95_us=_quantile(times, 0.95),
        p99_us=_quantile(times, 0.99),
        longest_us=max((time for time in times if math.isfinite(time)), default=0.0),
        stale_first=float(probes["stale"].cast(pl.Float64).mean()),  # type: ignore[arg-type]
        first_read_us=float(probes["delay_us"].median()),  # type: ignore[arg-type]
        behind_max=max(rows["versions_behind"], default=0),
    )


class TokenPrice(NamedTuple):
    """What read-your-writes costs: reads right after a write, in pairs with its token and without."""

    pairs: int
    added_ms: float  # Hodges–Lehmann of the differences; with a token less what without
    interval_ms: Interval | None  # None: too few pairs
    stale_without: float  # share; with a token it is zero, or the run is refused
    behind: int  # reads with a token that were refused because the views did not get there in time


def token_price(rows: pl.DataFrame, *, seed: int) -> TokenPrice | None:
    """None without a pair. A pair is the unit: its reads share their moment; pairs lie far apart."""
    if rows.is_empty():
        return None
    added_ms = (rows["with_us"] - rows["without_us"]).to_numpy() / 1000
    try:
        interval = bootstrap_interval(added_ms, np.zeros(len(added_ms), dtype=np.int64), seed=seed)
    except NotComputable:
        interval = None
    stale = float(rows["stale_without"].cast(pl.Float64).mean())  # type: ignore[arg-type]
    return TokenPrice(rows.height, hodges_lehmann(added_ms), interval, stale, int(rows["behind"].sum()))


class Applied(NamedTuple):
    """Projector lag: ages of events when they were applied to the views, as upper bounds of its histogram's buckets."""

    events: int
    p50_ms: float
    p99_ms: float


def applied(rows: pl.DataFrame) -> Applied | None:
    """None where no projector reported."""
    whole = rows.group_by("within_s").agg(pl.col("events").sum()).sort("within_s")
    events = max(whole["events"], default=0)
    if not events:
        return None
    p50, p99 = (float(whole.filter(pl.col("events") >= q * events)["within_s"][0]) * 1000 for q in (0.50, 0.99))
    return Applied(events, p50, p99)


def _quantile(ordered: list[float], share: float) -> float | None:
    """The smallest time by which at least this share of probes had seen their write."""
    if len(ordered) < SAMPLES_MIN.get(share, 1):
        return None
    time = ordered[math.ceil(share * len(ordered)) - 1]
    return None if math.isinf(time) else time
