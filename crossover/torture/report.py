"""The outcome of a torture: the report, the first broken promises, and the history on disk."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.markup import escape

from crossover.torture.nemesis import Fault
from loadtests.history import COMMANDS, Entry
from loadtests.judge import KINDS, Finding
from loadtests.sessions import Span

FIRST_SHOWN = 5


class Spread(NamedTuple):
    """Seconds; None where there were none."""

    p50: float | None
    p95: float | None
    most: float | None

    def __str__(self) -> str:
        return " / ".join("–" if s is None else f"{s:.2f}" for s in self) + " s"


def spread(seconds: Sequence[float | None]) -> Spread:
    """By nearest rank; what never came counts as infinitely late."""
    found = sorted(math.inf if s is None else s for s in seconds)
    if not found:
        return Spread(None, None, None)
    return Spread(*(found[math.ceil(len(found) * q) - 1] for q in (0.5, 0.95, 1.0)))


class Report(Struct, frozen=True):
    """`unknown` commands had no answer that tells; `resolved` of them turned out to have happened."""

    rung: str
    seed: int
    seconds: float
    operations: int
    acknowledged: int
    refused: int
    unknown: int
    resolved: int
    faults: int
    kinds: dict[str, int]
    left_out: list[str]
    found: dict[str, int]
    parked: str
    reasons: str  # seen in /ready, of faults in which a server refused
    stale_share: float | None  # of reads without a token after an own write or read
    recovery_s: Spread
    convergence_s: Spread
    convergence_after_start_s: Spread  # of what was killed
    rebuild_s: float | None

    @property
    def clean(self) -> bool:
        return not any(self.found.values())


class Results:
    """Everything that is written down of one torture."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.faults: list[Fault] = []
        self.findings: list[Finding] = []
        self.left_out: list[str] = []
        self.parked, self.resolved, self.stale, self.stale_of = "–", 0, 0, 0
        self.rebuild_s: float | None = None

    @property
    def restored(self) -> list[Span]:
        """In what was answered then, later data may be missing."""
        return [(fault.start_s, fault.restored_s) for fault in self.faults if fault.restored_s is not None]

    def find(self, phase: str, findings: Iterable[Finding]) -> None:
        """What an earlier phase has found already is not counted again."""
        known = {(finding.kind, finding.what) for finding in self.findings}
        self.findings.extend(Finding(f.kind, f.what, phase) for f in findings if (f.kind, f.what) not in known)

    def report(self, *, rung: str, seed: int, seconds: float) -> Report:
        outcomes = Counter(entry.outcome for entry in self.entries if entry.name in COMMANDS)
        found = Counter(finding.kind for finding in self.findings)
        reasons = [fault.reason for fault in self.faults if fault.reason is not None]
        return Report(
            rung=rung,
            seed=seed,
            seconds=seconds,
            operations=len(self.entries),
            acknowledged=outcomes["ok"],
            refused=outcomes["refused"],
            unknown=outcomes["unknown"],
            resolved=self.resolved,
            faults=len(self.faults),
            kinds=dict(sorted(Counter(fault.kind for fault in self.faults).items())),
            left_out=self.left_out,
            found={kind: found[kind] for kind in KINDS},
            parked=self.parked,
            reasons=f"{len(list(filter(None, reasons)))} of {len(reasons)}" if reasons else "–",
            stale_share=self.stale / self.stale_of if self.stale_of else None,
            recovery_s=spread([fault.recovery_s for fault in self.faults]),
            convergence_s=spread([fault.convergence_s for fault in self.faults]),
            convergence_after_start_s=spread(
                [one.convergence_s and max(0.0, one.convergence_s - one.start_took_s) for one in self.faults]
            ),
            rebuild_s=self.rebuild_s,
        )

    def keep(self, folder: Path) -> None:
        """The history, one JSON object a line: enough to study what happened without running it again."""
        if not self.entries:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in (("operations", self.entries), ("faults", self.faults), ("findings", self.findings)):
            (folder / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def show(console: Console, report: Report, results: Results, folder: Path) -> Report:
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    found = " · ".join(f"{kind} {n}" for kind, n in report.found.items())
    stale = "–" if report.stale_share is None else f"{report.stale_share:.1%}"
    rebuilt = "–" if report.rebuild_s is None else f"{report.rebuild_s:.2f} s"
    lines = [
        f"[bold]{report.rung}[/bold], seed {report.seed}: {report.operations:,} operations, "
        f"{report.acknowledged:,} commands acknowledged, {report.refused:,} refused, {report.unknown:,} unknown "
        f"→ {report.resolved:,} had happened",
        f"{report.faults} faults × {len(report.kinds)} kinds"
        + (f" (left out: {', '.join(report.left_out)})" if report.left_out else ""),
        f"[{'green' if report.clean else 'red'}]{found}[/] (stale: despite a token)",
        f"stale without a token {stale} · parked {report.parked} · reasons seen in /ready: {report.reasons} · "
        f"recovery p50/p95/max {report.recovery_s} · "
        f"convergence {report.convergence_s}, once what was killed answers {report.convergence_after_start_s} · "
        f"rebuild {rebuilt}",
        *(f"[red]{f.kind}[/red], {escape(f.phase)}: {escape(f.what[:400])}" for f in results.findings[:FIRST_SHOWN]),
        f"The history is in {escape(str(folder))}.",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    return report
