"""The run as tables for a terminal of 100 columns, as one sentence, and as data for machines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis import prediction, words
from analysis.findings import Cell, Findings, components_of, find
from analysis.operations import Mix, OperationCosts
from analysis.prediction import Checked
from analysis.runs import read_unfinished

VERDICT_STYLES = {"better": "bold green", "worse": "bold red", "equivalent": "cyan", "inconclusive": "yellow"}


def render(run_dir: str | Path) -> RenderableType:
    """Costs, times and the answer; raises UnusableRun when the run gives no figures."""
    findings = find(run_dir)
    if findings.operations is not None:
        return operation_costs(findings, findings.operations)
    notes = [
        *words.doubt_lines(findings),
        *words.identical_lines(findings),
        words.validity_line(findings),
        words.detectable_line(findings),
    ]
    notes += [line for line in [words.starts_line(findings)] if line]
    notes += [words.fit_line(findings, target) for target in findings.challengers]
    notes += [line for name in findings.run.targets if (line := words.applied_line(findings, name))]
    notes += [words.checks_line(findings), words.durability_line(findings)]
    # Text, never markup: target names come from users.
    return Group(
        Text("CPU µs per operation; ratio to the baseline with its 95 % interval", style="bold"),
        _costs(findings, findings.cells),
        Text("\nLatency from the intended start, and time until a write is visible, ms", style="bold"),
        _times(findings),
        Text(),
        *(Text("· " + note) for note in notes),
        Text("\n" + words.answer(findings), style="bold"),
    )


def render_unfinished(run_dir: str | Path) -> RenderableType:
    """How far a run came that was stopped, what it still lacks, and how to go on with it; no figures."""
    path = Path(run_dir)
    manifest, slices = read_unfinished(path)
    return Group(*(Text(line) for line in words.unfinished(path, manifest, slices)))


def sentence(run_dir: str | Path) -> str:
    """The answer in words, computed."""
    return words.answer(find(run_dir))


def summary(run_dir: str | Path) -> dict[str, Any]:
    """The same for machines; what was not measured or is void is null."""
    findings = find(run_dir)
    manifest = findings.run.manifest
    return {
        "run": manifest.run,
        "profile": manifest.profile,
        "answer": words.answer(findings),
        "baseline": findings.baseline,
        "cells": [_cell_data(cell) for cell in findings.cells],
        "crossovers": {name: _plain(found) for name, found in findings.crossovers.items()},
        "identical": [
            {"one": p.one, "other": p.other, "failed": p.failed, **_plain(p.comparison)} for p in findings.identical
        ],
        "validity": {
            "rounds": findings.validity.rounds.height,
            "cpu_rounds": len(findings.validity.cpu_rounds()),
            "latency_rounds": len(findings.validity.latency_rounds()),
            "void": findings.validity.counts(),
        },
    }


def operation_costs(findings: Findings, costs: OperationCosts) -> RenderableType:
    """Each operation by itself, and what that predicts for the workload of the run."""
    notes = [*words.identical_lines(findings), words.validity_line(findings), words.starts_line(findings)]
    notes += [words.checks_line(findings)]
    notes += words.sum_lines(prediction.check_itself(findings))
    return Group(
        Text("CPU µs of each operation by itself, ± half its 95 % interval; idle: µs a second", style="bold"),
        _costs(findings, prediction.of_operations(findings)),
        Text(),
        *(Text("· " + note) for note in notes),
        Text(f"\n{words.mix_line(costs.mix)}: {words.answer(findings)}", style="bold"),
    )


def predictions(findings: Findings, mix: Mix, found: list[Cell]) -> RenderableType:
    """What a mix would cost, and where the costs of the targets meet."""
    crossing = findings._replace(crossovers=prediction.crossovers(findings, mix))
    return Group(
        Text(f"Predicted CPU µs per operation, ± half the 95 % interval: {words.mix_line(mix)}", style="bold"),
        _costs(findings, found),
        Text("\n" + words.answer(crossing), style="bold"),
    )


def checks(mixed: Findings, found: list[Checked]) -> RenderableType:
    """Predictions beside what was measured: cost, then ratio to the baseline."""
    table = empty_table()
    for heading in ("predicted", "95 % interval", "measured", "error", "ratio", "measured", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    for each in found:
        cell, real = each.predicted, each.measured_ratio
        ratio = cell.comparison.ratio if cell.comparison else None
        error = f"{100 * (ratio / real - 1):+.1f} %" if ratio else ""
        table.add_row(
            *_where(mixed, cell),
            f"{cell.cost.total_us:,.0f}" if cell.cost else "",
            f"{each.interval_us.low:,.0f}–{each.interval_us.high:,.0f}",
            f"{each.measured_us:,.0f}",
            f"{100 * each.error:+.1f} %",
            f"{ratio:.2f}" if ratio else "",
            f"{real:.2f}" if ratio else "",
            error,
            Text("yes", style="green") if each.holds else Text("no", style="bold red"),
        )
    workload = mixed.run.manifest.fingerprint.workload["name"]
    return Group(Text(f"Predicted beside measured: {workload}, run {mixed.run.manifest.run}", style="bold"), table)


def _costs(findings: Findings, cells: Sequence[Cell]) -> Table:
    """Verdicts in words where there is room: of read shares, not of operations."""
    components, told = components_of(findings), not any(cell.operation for cell in cells)
    table = empty_table("read" if told else "operation")
    for heading in ("all", *components, "±" if findings.operations else "ops per\ncore-s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    if told:
        table.add_column("verdict", no_wrap=True)
    for cell in cells:
        verdict = cell.comparison.verdict if cell.comparison else "baseline"
        style = VERDICT_STYLES.get(verdict, "dim")
        parts = cell.cost.by_component_us if cell.cost else {}
        table.add_row(
            *_where(findings, cell),
            f"{cell.cost.total_us:,.0f}" if cell.cost else "–",
            *(f"{parts[name]:,.0f}" if name in parts else "" for name in components),
            words.half_width(cell) if cell.interval_us else _per_core_second(cell),
            Text(words.ratio_text(cell.comparison) if cell.comparison else "1", style="" if told else style),
            *([Text(verdict, style=style)] if told else []),
            end_section=told and cell.target == findings.run.targets[-1],
        )
    return table


def _per_core_second(cell: Cell) -> str:
    return f"{cell.cost.operations_per_core_second:,.0f}" if cell.cost else "–"


def _times(findings: Findings) -> Table:
    table = empty_table()
    for heading in (
        "p50",
        "p95",
        "p99",
        "visible\np50",
        "visible\np99",
        "stale\nat once",
        "versions\nbehind",
        "a token adds",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in findings.cells:
        late, seen = cell.latency, cell.visibility
        times = [f"{ms:.1f}" for ms in (late.p50_ms, late.p95_ms, late.p99_ms)] if late else ["void", "void", "void"]
        visible = (
            [visible_text(time, seen.first_look_us) for time in (seen.p50_us, seen.p99_us)] if seen else ["–", "–"]
        )
        table.add_row(
            *_where(findings, cell),
            *times,
            *visible,
            f"{100 * seen.stale_first:.0f} %" if seen else "–",
            f"{seen.behind_max}" if seen else "–",
            words.token_text(cell.token),
            end_section=cell.target == findings.run.targets[-1],
        )
    return table


def visible_text(time_us: float | None, first_look_us: float) -> str:
    """A time to visible in ms; nothing shorter than the earliest read can be told apart."""
    if time_us is None:
        return "not seen"
    return f"≤ {time_us / 1000:.1f}" if time_us <= first_look_us * 1.05 else f"{time_us / 1000:.1f}"


def empty_table(first: str = "read") -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, justify="right", no_wrap=True)
    table.add_column("target", overflow="fold", min_width=8, max_width=12)
    return table


def _where(findings: Findings, cell: Cell) -> tuple[Text, Text]:
    first = cell.target == findings.run.targets[0]
    return Text(words.where(cell) if first else ""), Text(cell.target)


def _cell_data(cell: Cell) -> dict[str, Any]:
    cost = None
    if cell.cost:
        cost = {**cell.cost._asdict(), "operations_per_core_second": cell.cost.operations_per_core_second}
    return {
        "read_share_pct": cell.read_share_pct,
        "target": cell.target,
        "cost": cost,
        "latency": _plain(cell.latency),
        "visibility": _plain(cell.visibility),
        "token": _plain(cell.token),
        "comparison": _plain(cell.comparison),
    }


def _plain(value: Any) -> Any:
    """Named tuples as dicts, all the way down, for JSON."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: _plain(item) for key, item in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
