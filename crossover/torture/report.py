"""What a torture came to: the report line, what was broken first, and the history on disk."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.markup import escape

from crossover.torture.history import COMMANDS, Fault, Finding, Operation, write_lines

FINDINGS = ("lost", "phantom", "duplicate", "differing", "stale", "trouble")
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
    stale_share: float | None  # of reads without a token after an own write or read
    recovery_s: Spread
    convergence_s: Spread
    rebuild_s: float | None

    @property
    def clean(self) -> bool:
        return not any(self.found.values())


class Books(NamedTuple):
    """All that was written down of one torture."""

    operations: list[Operation]
    faults: list[Fault]
    findings: list[Finding]

    def report(self, **more: Any) -> Report:
        """The figures that follow from the books, and `more`: the rest."""
        outcomes = Counter(operation.outcome for operation in self.operations if operation.kind in COMMANDS)
        found = Counter(finding.kind for finding in self.findings)
        return Report(
            operations=len(self.operations),
            acknowledged=outcomes["ok"],
            refused=outcomes["refused"],
            unknown=outcomes["unknown"],
            faults=len(self.faults),
            kinds=dict(sorted(Counter(fault.kind for fault in self.faults).items())),
            found={kind: found[kind] for kind in FINDINGS},
            recovery_s=spread([fault.recovery_s for fault in self.faults]),
            convergence_s=spread([fault.convergence_s for fault in self.faults]),
            **more,
        )


def keep(folder: Path, books: Books) -> None:
    """The history, one JSON object a line: enough to study what happened without running it again."""
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "operations.jsonl", books.operations)
    write_lines(folder / "faults.jsonl", books.faults)
    write_lines(folder / "findings.jsonl", books.findings)


def write_report(folder: Path, report: Report) -> None:
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def show(console: Console, report: Report, findings: Sequence[Finding], folder: Path) -> None:
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
        f"stale without a token {stale} · parked {report.parked} · recovery p50/p95/max {report.recovery_s} · "
        f"convergence {report.convergence_s} · rebuild {rebuilt}",
        *(f"[red]{f.kind}[/red], {escape(f.phase)}: {escape(f.what[:400])}" for f in findings[:FIRST_SHOWN]),
        f"The history is in {escape(str(folder))}.",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
