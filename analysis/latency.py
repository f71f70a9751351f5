"""Latency of a cell: percentiles, what the generator's lag may have added to them, and a comparison of two targets.

Void rounds are left out, as for CPU. The lag is judged over the whole cell: a percentile is uncertain if the lag may
have added more than a tenth of it, and void if it may have added more than the target itself took.
"""

from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.runs import Run
from analysis.staleness import wilson
from analysis.statistics import SAMPLES_MIN, Floats, Interval
from analysis.validity import Validity


class Percentile(NamedTuple):
    """From the scheduled start. Of too few samples there is none: `ms` is the slowest, `share` the share so fast."""

    samples: int
    ms: float
    lag_ms: float  # what the generator may have added to it
    mark: Literal["", "uncertain", "void"] = ""
    share: Interval | None = None

    @property
    def in_short(self) -> str:
        """`~` marks what is uncertain."""
        if self.mark == "void":
            return "void"
        if self.share is not None:
            return f"≤ {self.ms:.1f} in {self.samples} of {self.samples}"
        return f"{'~' if self.mark else ''}{self.ms:.1f} (≤ {self.lag_ms:.1f})"

    @property
    def in_words(self) -> str:
        if self.mark == "void":
            return "void"
        if self.share is not None:
            low, high = (100 * end for end in self.share)
            return f"≤ {self.ms:.1f} ms in {self.samples} of {self.samples} ({low:.0f}–{high:.0f}%)"
        return f"{self.ms:.1f} ms, generator lag ≤ {self.lag_ms:.1f} ms{', uncertain' if self.mark else ''}"


class Latency(NamedTuple):
    """All samples of the valid rounds of a cell; a description, not a comparison."""

    p50: Percentile
    p95: Percentile
    p99: Percentile
    service_p50_ms: float
    generator_core_share: float

    @property
    def percentiles(self) -> dict[str, Percentile]:
        return {"p50": self.p50, "p95": self.p95, "p99": self.p99}


def samples(run: Run, valid: Validity, share: float, target: str) -> pl.DataFrame:
    """Answered samples of the valid rounds: slice, latency_us from the scheduled start, service_us, lag_us."""
    slices = _slices(run, valid, share, target)["slice"].to_list()
    answered = pl.col("slice").is_in(slices) & pl.col("outcome").is_in(["ok", "refused"])
    due, sent, done = (pl.col(f"{name}_us") for name in ("due", "sent", "done"))
    times = {"latency_us": done - due, "service_us": done - sent, "lag_us": sent - due}
    return run.samples.filter(answered).select("slice", **times)


def latency(run: Run, valid: Validity, share: float, target: str) -> Latency | None:
    times = samples(run, valid, share, target)
    if times.is_empty() or valid.too_many_gone(share):
        return None
    limits = run.manifest.thresholds
    slices = _slices(run, valid, share, target)
    busy = float(slices.select(pl.col("generator_cpu_us").sum() / pl.col("wall_us").sum()).item())
    late = busy > limits.generator_core_share_max  # a busy generator reads responses late too, which nothing shows
    p50, p95, p99 = (_percentile(times, q, limits.lag_share_max, late) for q in (0.50, 0.95, 0.99))
    return Latency(p50, p95, p99, _quantile(times["service_us"], 0.5), busy)


def _percentile(times: pl.DataFrame, q: float, lag_share_max: float, late: bool) -> Percentile:
    if few := times.height < SAMPLES_MIN.get(q, 1):
        q = 1.0
    ms, service, lag = (_quantile(times[f"{name}_us"], q) for name in ("latency", "service", "lag"))
    added = max(lag, ms - service)
    share = wilson(times.height, times.height) if few else None
    mark: Literal["", "uncertain", "void"] = "uncertain" if late or added > lag_share_max * ms else ""
    return Percentile(times.height, ms, added, "void" if added > service else mark, share)


def medians(run: Run, valid: Validity, baseline: str, target: str, share: float) -> tuple[Floats, NDArray[np.int64]]:
    """By round the log of (median latency of the target over that of the baseline), and the start it belongs to."""
    base, other = (
        samples(run, valid, share, name)
        .group_by("slice")
        .agg(pl.col("latency_us").median().clip(1))
        .join(run.slices.select("slice", "round", "restart"), on="slice")
        for name in (baseline, target)
    )
    rows = base.join(other, on="round", suffix="_other").sort("round")
    logs = (rows["latency_us_other"] / rows["latency_us"]).log().to_numpy()
    return logs, rows["restart"].to_numpy().astype(np.int64)


def _slices(run: Run, valid: Validity, share: float, target: str) -> pl.DataFrame:
    own = (pl.col("target") == target) & (pl.col("read_share_pct") == share) & (pl.col("phase") == "measure")
    return run.slices.filter(own & pl.col("round").is_in(valid.good_rounds()))


def _quantile(us: pl.Series, q: float) -> float:
    return float(str(us.quantile(q, "higher"))) / 1000
