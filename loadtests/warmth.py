"""When targets are warm: their CPU an operation in the last three windows of a second agrees."""

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing it would bring Locust, which patches the process
    from loadtests.target import Figures

WITHIN = 0.05


class Warmth:
    def __init__(self) -> None:
        self.seconds = 0.0
        self._windows: defaultdict[str, list[float]] = defaultdict(list)
        self._open: dict[str, tuple[float, int, int]] = {}  # seconds, µs, operations of the window under way

    def add(self, slice_s: float, found: "Mapping[str, Figures]") -> None:
        self.seconds += slice_s
        for target, figures in found.items():
            seconds, cpu_us, operations = self._open.get(target, (0.0, 0, 0))
            seconds, cpu_us = seconds + slice_s, cpu_us + sum(figures.cpu_us.values())
            operations += len(figures.played.samples)
            if seconds >= 1.0:
                self._windows[target].append(cpu_us / max(1, operations))
                seconds, cpu_us, operations = 0.0, 0, 0
            self._open[target] = seconds, cpu_us, operations

    def enough(self, at_most_s: float) -> bool:
        if self.seconds >= at_most_s:
            return True
        lasts = [windows[-3:] for windows in self._windows.values()]
        return bool(lasts) and all(len(last) == 3 and 0 < max(last) <= min(last) * (1 + WITHIN) for last in lasts)
