"""The ratios so far: CPU per operation over the baseline's, from the rounds that a run has on disk already."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import polars as pl

COLUMNS = ["slice", "read_share_pct", "cell", "target", "phase", "completed"]


class SoFar:
    """A glance, not a result: no round is void in it, and it has no interval."""

    def __init__(self, out: Path, targets: Sequence[str]) -> None:
        self._rounds, self._targets, self._last, self.measured = out / "rounds", targets, "", 0
        self._ratios: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in targets[1:]}

    def read(self) -> None:
        """What has come since the last time: two small files a round."""
        if self._rounds.is_dir():
            names = (folder.name for folder in self._rounds.iterdir())
            for name in sorted(name for name in names if name[0] != "." and name > self._last):
                self._add(self._rounds / name)
                self._last = name

    def _add(self, folder: Path) -> None:
        slices = pl.read_parquet(folder / "slices.parquet", columns=COLUMNS)
        if slices["phase"][0] != "measure":
            return
        self.measured += 1
        cpu: defaultdict[int, int] = defaultdict(int)
        for number, cpu_us in pl.read_parquet(folder / "cpu.parquet", columns=["slice", "cpu_us"]).iter_rows():
            cpu[number] += cpu_us
        costs = {}
        for number, share, cell, target, _, completed in slices.iter_rows():
            costs[target] = cpu[number] / completed if completed else 0.0
            label = cell or f"{share:g}%"
        if baseline := costs.get(self._targets[0]):
            for name, ratios in self._ratios.items():
                if costs.get(name):
                    ratios[label].append(costs[name] / baseline)

    def ratios(self) -> list[tuple[str, list[str]]]:
        """For each other target its name over the baseline's, and its ratio at each read share or operation."""
        return [
            (f"{name} / {self._targets[0]}", [f"{label} {statistics.median(each):.2f}" for label, each in of.items()])
            for name, of in self._ratios.items()
            if of
        ]
