"""One trial of a rate: whether the target held its goals, and if not, what gave way."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from loadtests.format import THRESHOLDS
from loadtests.visibility import Row

if TYPE_CHECKING:  # importing it would bring Locust, which patches the process
    from loadtests.openloop import Played

WINDOWS = 10  # a trial is seen as so many windows: neighbouring samples share their noise, windows hardly
STUDENT = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306)  # 97.5 % quantiles by degrees of freedom
GROWTH_MIN = 0.01  # of what comes: a queue that grows by less than 1 % of it is no growing queue
STALE_MAX = 0.05  # of the reads sent when the freshness is due; 95 % must show the write


class Goal(Struct, frozen=True):
    """95 % of operations answered within `p95_ms` of their intended start, 95 % of writes seen after `freshness_ms`."""

    p95_ms: float
    freshness_ms: float


class Trend(NamedTuple):
    """The slope a second of a line through points, with its 95 % interval."""

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
    goal: Goal, played: "Played", looks: Sequence[Row], lags: Sequence[tuple[int, int]], drained: bool, slice_s: float
) -> Trial:
    """`looks`: reads sent `freshness_ms` after a write; `lags`: (µs since the start, events behind)."""
    answered = [s for s in played.samples if s.outcome in ("ok", "refused")]
    late_us = sorted(s.done_us - s.operation.due_us for s in answered)
    p95_us = late_us[math.ceil(0.95 * len(late_us)) - 1] if late_us else int(1e9)
    queue = trend([(s.operation.due_us, s.done_us - s.operation.due_us) for s in answered], slice_s, middle=True)
    lag = trend([point for point in lags if point[0] < slice_s * 1e6], slice_s)
    stale_share = sum(row.stale for row in looks) / len(looks) if looks else 0.0
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
        looks=len(looks),
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
    freedom = len(line) - 2
    if freedom < 1:
        return Trend(0.0, -math.inf, math.inf)
    x0, y0 = (sum(column) / len(line) for column in zip(*line, strict=True))
    spread = sum((x - x0) ** 2 for x, _ in line)
    slope = sum((x - x0) * (y - y0) for x, y in line) / spread
    left = sum((y - y0 - slope * (x - x0)) ** 2 for x, y in line)
    half = STUDENT[freedom] * math.sqrt(left / freedom / spread)
    return Trend(slope, slope - half, slope + half)
