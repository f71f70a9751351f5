"""Progress on the terminal: a bar for the current phase, plain lines where there is no terminal."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Steps:
    """Called with (phase, done, total); one bar a phase, and on a log one line a phase."""

    def __init__(self, title: str) -> None:
        self.console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            refresh_per_second=2,
            disable=not self.console.is_terminal,
        )
        self._title, self._phase, self._task = title, "", TaskID(0)

    def __enter__(self) -> "Steps":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        phase = f"{phase} {note}".rstrip()
        if phase != self._phase:
            if self._phase:
                self._bars.remove_task(self._task)
            self._phase, self._task = phase, self._bars.add_task(phase, total=total or None)
            if not self.console.is_terminal:
                print(f"{self._title}: {phase}", file=sys.stderr, flush=True)
        self._bars.update(self._task, completed=done, total=total or None)
