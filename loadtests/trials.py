"""Trials of a rate: what one trial showed, and the search for the highest rate that meets its targets."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from scipy import stats

from loadtests.format import THRESHOLDS
from loadtests.plan import Goal
from loadtests.staleness import StalenessRow

if TYPE_CHECKING:  # importing it would bring Locust, which patches the process
    from loadtests.openloop import Played

WINDOWS = 10  # of a trial: neighbouring samples share their noise, windows hardly do
GROWTH_MIN = 0.01  # of the inflow: a queue that grows by less is not growing
STALE_MAX = 0.05  # of the reads sent when the freshness target is due

PRECISION = 1.05  # the search ends when the lowest rate that failed is this close to the highest that held
RATES_MAX = 20
RATE_MIN, RATE_MAX = 1.0, 50_000.0

Outcome = Literal["held", "failed", "generator", "other", "void"]


class Trend(NamedTuple):
    """The slope a second of a line through points, with its 95% interval."""

    slope: float
    low: float
    high: float

    def grows(self, inflow_per_s: float) -> bool:
        return self.low > 0 and self.slope > GROWTH_MIN * inflow_per_s


class Trial(NamedTuple):
    failures: tuple[str, ...]  # of "errors", "dropped", "late", "stale", "queue grows", "lag grows"
    p95_us: int
    stale_share: float
    looks: int
    lag: Trend  # events a second
    in_flight: float  # the mean over the trial, by Little's law
    throughput_per_s: float
    generator_core_share: float

    @property
    def generator_busy(self) -> bool:
        return self.generator_core_share > THRESHOLDS.generator_core_share_max


def judge(
    goal: Goal,
    played: "Played",
    reads: Sequence[StalenessRow],
    lags: Sequence[tuple[int, int]],
    drained: bool,
    slice_s: float,
) -> Trial:
    """`reads`: sent `freshness_ms` after a write; `lags`: (µs since the start, events behind)."""
    answered = [s for s in played.samples if s.outcome in ("ok", "refused")]
    late_us = sorted(s.done_us - s.operation.due_us for s in answered)
    p95_us = late_us[math.ceil(0.95 * len(late_us)) - 1] if late_us else int(1e9)
    queue = trend([(s.operation.due_us, s.done_us - s.operation.due_us) for s in answered], slice_s, middle=True)
    lag = trend([point for point in lags if point[0] < slice_s * 1e6], slice_s)
    stale_share = sum(row.stale for row in reads) / len(reads) if reads else 0.0
    writes_per_s = sum(s.operation.kind == "write" for s in played.samples) / slice_s
    errors = sum(s.outcome == "error" for s in played.samples)
    found = {
        "errors": errors > THRESHOLDS.error_share_max * len(played.samples),
        "dropped": any(s.outcome == "dropped" for s in played.samples),
        "late": p95_us > goal.p95_ms * 1000,
        "stale": stale_share > STALE_MAX,
        "queue grows": queue.grows(1e6),  # µs of waiting a second
        "lag grows": lag.grows(writes_per_s) or not drained,
    }
    return Trial(
        failures=tuple(name for name, true in found.items() if true),
        p95_us=p95_us,
        stale_share=stale_share,
        looks=len(reads),
        lag=lag,
        in_flight=sum(late_us) / played.wall_us,
        throughput_per_s=len(answered) / played.wall_us * 1e6,
        generator_core_share=played.generator_cpu_us / played.wall_us,
    )


def trend(points: Sequence[tuple[int, int]], slice_s: float, *, middle: bool = False) -> Trend:
    """Least squares through the windows' means, or middles, with Student's t; flat when there are too few windows."""
    windows: list[list[int]] = [[] for _ in range(WINDOWS)]
    for at_us, value in points:
        windows[min(WINDOWS - 1, int(at_us / (slice_s * 1e6) * WINDOWS))].append(value)
    line = [
        ((place + 0.5) * slice_s / WINDOWS, sorted(w)[len(w) // 2] if middle else sum(w) / len(w))
        for place, w in enumerate(windows)
        if w
    ]
    if len(line) < 3:
        return Trend(0.0, -math.inf, math.inf)
    fit = stats.linregress(*zip(*line, strict=True))
    half = float(stats.t.ppf(0.975, len(line) - 2) * fit.stderr)
    return Trend(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half)


def goal_outcome(trial: Trial) -> Outcome:
    """What the generator could not send is never held against the target."""
    return "held" if not trial.failures else "generator" if trial.generator_busy else "failed"


def lag_outcome(trial: Trial) -> Outcome:
    """Whether the projection keeps up; "other": the command side, or the generator, gave way before it."""
    if "lag grows" in trial.failures:
        return "failed"
    return "other" if trial.generator_busy or {"queue grows", "dropped", "errors"} & {*trial.failures} else "held"


class Found(NamedTuple):
    """The highest rate that held and the lowest above it that did not; None where there was none."""

    held_per_s: float | None
    failed_per_s: float | None


def search(start_per_s: float, holds_at: Callable[[float], bool], precision: float = PRECISION) -> Found:
    """Doubles, or halves, until one rate holds and one does not, then narrows down by geometric bisection."""
    held = failed = None
    rate = max(RATE_MIN, start_per_s)
    for _ in range(RATES_MAX):
        if two_of_three(rate, holds_at):
            held = rate
        else:
            failed = rate
        if held and failed:
            if failed / held <= precision:
                break
            rate = math.sqrt(held * failed)
        else:
            rate = 2 * held if held else rate / 2
        if not RATE_MIN <= rate <= RATE_MAX:
            break
    return Found(held, failed)


def two_of_three(rate: float, holds_at: Callable[[float], bool]) -> bool:
    first, second = holds_at(rate), holds_at(rate)
    return first if first == second else holds_at(rate)
