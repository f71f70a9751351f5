"""The progress of a run: its step, the time left, and the ratios so far; live on a terminal, plain lines elsewhere."""

import sys
import textwrap
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from crossover.forecast import MEASURE, Forecast, duration
from crossover.so_far import SoFar

READ_EVERY_S = 5.0  # the rounds on disk; rarely, because the run needs the same cores
LINE_EVERY_S_MIN, LINES = 10.0, 30  # without a terminal: about this many lines per run
PACE_FROM_S, PACE_MIN, PACE_MAX = 15.0, 0.5, 3.0
ACTIVITY = {
    "warm-up": "warming up",
    "cliff": "writes alone",
    "burst": "a burst of writes",
    "restart": "fresh processes",
}


class RunSteps:
    """Called with (phase, done, total, note)."""

    def __init__(
        self,
        title: str,
        forecast: Forecast,
        so_far: SoFar,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self._clock = console or Console(stderr=True), clock
        self._title, self._forecast, self._so_far = title, forecast, so_far
        self._ratios: list[tuple[str, list[str]]] = []  # for the thread that draws
        self._measuring: tuple[float, float] | None = None  # its start, and what was done by then
        self._begun_s = self._at_s = self._read_s = clock()
        self._detail, self._printed, self._printed_s = "", "", 0.0
        # Once a second: on a small machine each drawing takes from what is measured.
        self._live = Live(console=self.console, get_renderable=self.region, refresh_per_second=1, transient=True)

    def __enter__(self) -> Self:
        length = duration(self._forecast.total_s)
        print(f"{self._title}: takes about {length} ({self._forecast.extent})", file=sys.stderr, flush=True)
        if self.console.is_interactive:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        forecast, before = self._forecast, self._forecast.step
        forecast(phase, done, total)
        self._at_s, measuring = self._clock(), forecast.step == MEASURE
        if measuring and self._measuring is None:
            self._measuring = self._at_s, forecast.done_s
        start = f"start {forecast.start} of {forecast.plan.restarts}" if forecast.plan.restarts > 1 else ""
        self._detail = ", ".join(filter(None, [start, note, ACTIVITY.get(phase, "")])) if measuring else ""
        if (measuring and self._at_s - self._read_s >= READ_EVERY_S) or (before == MEASURE and not measuring):
            self._so_far.read()
            self._ratios, self._read_s = self._so_far.ratios(), self._at_s
        if not self.console.is_interactive:
            self._print_lines()

    def _print_lines(self) -> None:
        every_s = max(LINE_EVERY_S_MIN, self._forecast.total_s / LINES)
        if self._forecast.step == self._printed and self._at_s - self._printed_s < every_s:
            return
        self._printed, self._printed_s = self._forecast.step, self._at_s
        for line in (f"{self.where()}; {self.percent():.0f}%, about {duration(self.left_s())} left", *self.figures()):
            print(f"{self._title}: {line}", file=sys.stderr, flush=True)

    def where(self) -> str:
        forecast = self._forecast
        step = f"step {forecast.number} of {len(forecast.steps)}: {forecast.step}"
        return f"{step}, {self._detail}" if self._detail else step

    def percent(self) -> float:
        return 100 * self._forecast.done_s / self._forecast.total_s

    def left_s(self) -> float:
        """What the plan has left, at the pace of its measuring, which is most of it."""
        since_s, before_s = self._measuring or (0.0, self._forecast.done_s)
        done_s = self._forecast.done_s - before_s
        pace = (self._at_s - since_s) / done_s if done_s > PACE_FROM_S else 1.0
        left_s = (self._forecast.total_s - self._forecast.done_s) * min(PACE_MAX, max(PACE_MIN, pace))
        return max(0.0, left_s - (self._clock() - self._at_s))

    def figures(self, width: int = 10_000) -> list[str]:
        """Lines of the ratios so far; none is broken within a figure."""
        lines = []
        for pair, ratios in self._ratios:
            text = f"CPU so far, {pair}:  " + "  ".join(ratio.replace(" ", "\xa0") for ratio in ratios)
            lines += [line.replace("\xa0", " ") for line in textwrap.wrap(text, width, subsequent_indent="  ")]
        return lines

    def region(self) -> Group:
        width = self.console.width
        where = textwrap.wrap(f"{self._title}  {self.where()}", width)
        filled = round(self.percent() / 4)
        bar = Text.assemble(("━" * filled, "cyan"), ("─" * (25 - filled), "dim"))
        spent = f"{duration(self._clock() - self._begun_s)} gone, about {duration(self.left_s())} left"
        return Group(
            *map(Text, where), bar.append(f" {self.percent():3.0f}%  {spent}"), *map(Text, self.figures(width))
        )
