"""A run as tables for a terminal, as one sentence, and as data for machines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from analysis import answer, prediction, sentences
from analysis.findings import Cell, Findings, find
from analysis.layout import STYLES, Sheet, page
from analysis.operations import Mix, growth_lines
from analysis.prediction import Checked
from analysis.runs import read_unfinished
from analysis.staleness import Visibility
from analysis.statistics import SAMPLES_MIN, Comparison

NOT_MEASURED = (
    "No measurement stands beside this: no cell of the run and no run of `crossover compare` in its folder asked for "
    "this mix at this rate on the same machine. Give one with --against."
)


def render(run_dir: str | Path) -> RenderableType:
    """Costs, times and the answer; raises UnusableRun when the run gives no figures."""
    findings = find(run_dir)
    if findings.operations is not None:
        return _operations(findings, findings.operations.mix)
    notes = [*sentences.identical_lines(findings), *sentences.latency_lines(findings)]
    notes += [line(findings) for line in (sentences.validity_line, sentences.detectable_line, sentences.starts_line)]
    notes += growth_lines(findings.run)
    notes += [sentences.fit_line(findings, target) for target in findings.challengers]
    notes += [sentences.checks_line(findings), sentences.durability_line(findings)]
    return page(
        "CPU µs per operation; ratio to the baseline with its 95% interval",
        _costs(findings, findings.cells),
        Text("\nLatency from scheduled start, ms (the load generator added at most; ~ uncertain)", style="bold"),
        _latency(findings),
        Text("\nTime until a write is visible, ms", style="bold"),
        _staleness(findings),
        notes=notes,
        answer=answer.lines(findings),
        headline=answer.headline(findings),
    )


def render_unfinished(run_dir: str | Path) -> RenderableType:
    """How far a run came that was stopped, what is missing, and how to resume it; no figures."""
    path = Path(run_dir)
    return Group(*(Text(line) for line in sentences.unfinished(path, *read_unfinished(path))))


def sentence(run_dir: str | Path) -> str:
    """Who wins, and the crossover, computed."""
    return answer.text(find(run_dir))


def summary(run_dir: str | Path) -> dict[str, Any]:
    """The same for machines; what was not measured or is void is null."""
    findings = find(run_dir)
    manifest, valid = findings.run.manifest, findings.validity
    return {
        "run": manifest.run,
        "profile": manifest.profile,
        "answer": answer.text(findings),
        "headline": answer.headline(findings),
        "lines": answer.lines(findings),
        "baseline": findings.baseline,
        "parents": findings.parents,
        "parts": {name: findings.parts(name) for name in findings.run.targets},
        "recommended": [{"read_share_pct": share, "target": name} for share, name in findings.cheapest.items()],
        "cells": [_cell_data(cell) for cell in findings.cells],
        "crossovers": {name: _plain(found) for name, found in findings.crossovers.items()},
        "identical": [
            {"one": p.one, "other": p.other, "failed": p.failed, **_plain(p.comparison)} for p in findings.identical
        ],
        "validity": {"rounds": valid.rounds.height, "good_rounds": len(valid.good_rounds()), "void": valid.counts()},
    }


def _operations(findings: Findings, mix: Mix) -> RenderableType:
    """Each operation by itself, and what that predicts for the workload of the run."""
    title = "CPU µs of each operation by itself, ± half its 95% interval; idle: µs a second"
    notes = sentences.identical_lines(findings)
    notes += [line(findings) for line in (sentences.validity_line, sentences.starts_line, sentences.checks_line)]
    notes += sentences.sum_lines(prediction.check_itself(findings)) + prediction.grounds(findings)
    said = f"{sentences.mix_line(mix)}: {answer.text(findings)}"
    return page(title, _costs(findings, prediction.of_operations(findings)), notes=notes, answer=said)


def predictions(
    findings: Findings, mix: Mix, found: list[Cell], caveats: Sequence[str] = (), beside: Sequence[RenderableType] = ()
) -> RenderableType:
    """What lies outside the measurements, what a mix would cost, what was measured of it, and where costs meet."""
    crossing = findings._replace(crossovers=prediction.crossovers(findings, mix))
    title = f"Predicted CPU µs per operation, ± half the 95% interval: {sentences.mix_line(mix)}"
    notes = [*([] if beside else [NOT_MEASURED]), *prediction.grounds(findings)]
    shown = page(title, _costs(findings, found), *beside, notes=notes, answer=answer.text(crossing))
    return Group(*(Text(line, style="yellow") for line in caveats), shown)


def checks(where: str, found: list[Checked]) -> RenderableType:
    """Predictions beside what was measured: cost, then ratio to the baseline."""
    costs, ratios = ("predicted", "95% interval", "measured", "distance"), ("ratio", "measured", "distance")
    sheet, last = Sheet(["read", "<target", *costs, *ratios, "<holds"], split=6), None
    for each in found:
        cell, measured = each.predicted, Comparison(0, each.measured_ratio, each.measured_interval)
        ratio = (
            [sentences.ratio_text(cell.comparison), sentences.ratio_text(measured), f"{100 * off:+.1f}%"]
            if (off := each.ratio_error) is not None
            else [""] * 3
        )
        sheet.add(
            cell.where if cell.read_share_pct != last else "",
            cell.target,
            f"{cell.cost.total_us:,.0f}" if cell.cost else "",
            f"{each.interval_us.low:,.0f}–{each.interval_us.high:,.0f}",
            f"{each.measured_us:,.0f}",
            f"{100 * each.error:+.1f}%",
            *ratio,
            "yes" if each.holds else "no",
        )
        last = cell.read_share_pct
    return page(f"\nPredicted beside measured CPU µs per operation: {where}", sheet)


def _costs(findings: Findings, cells: Sequence[Cell]) -> Sheet:
    """Verdicts as words where there is room: of read shares, not of operations, whose ratios they colour."""
    components, by_share = findings.components, not any(cell.operation for cell in cells)
    spread = "±" if findings.operations else "ops per\ncore-s"
    judged = ["ratio", *(["<verdict"] if by_share else [])]
    fitted = bool(findings.operations)  # then the spread belongs to the cost, before what is judged of it
    shown = [spread, *judged] if fitted else [*judged, spread]
    headings = ["read" if by_share else "operation", "<target", "all", *shown, *components]
    sheet = Sheet(headings, split=3 + len(judged) + fitted)
    for cell in cells:
        parts = cell.cost.by_component_us if cell.cost else {}
        verdict, ratio = "baseline", "1"
        if cell.comparison:
            verdict, ratio = cell.comparison.verdict, sentences.ratio_text(cell.comparison)
        measured = f"{cell.cost.operations_per_core_second:,.0f}" if cell.cost else "–"
        if cell.cost and cell.interval_us:
            low, high = cell.interval_us
            measured = f"{50 * (high - low) / cell.cost.total_us:.0f}%" if cell.cost.total_us > 0 else "–"
        sheet.add(
            *_where(findings, cell),
            f"{cell.cost.total_us:,.0f}" if cell.cost else "–",
            *([measured] if fitted else []),
            Text(ratio, "" if by_share else STYLES.get(verdict, "")),
            *([verdict] if by_share else []),
            *([] if fitted else [measured]),
            *(f"{parts[name]:,.0f}" if name in parts else "" for name in components),
            last=by_share and cell.target == findings.run.targets[-1],
        )
    return sheet


def _latency(findings: Findings) -> Sheet:
    sheet = Sheet(["read", "<target", "p50", "p95", "p99"])
    for cell in findings.cells:
        late = cell.latency
        texts = [found.in_short for found in late.percentiles.values()] if late else []
        sheet.add(*_where(findings, cell), *(texts or ["void"] * 3), last=cell.target == findings.run.targets[-1])
    return sheet


def _staleness(findings: Findings) -> Sheet:
    headings = ["visible\np50", "visible\np99", "stale at\nfirst read", "versions\nbehind", "a token adds"]
    sheet = Sheet(["read", "<target", *headings])
    for cell in findings.cells:
        seen = cell.visibility
        sheet.add(
            *_where(findings, cell),
            *([visible_text(seen, 0.50), visible_text(seen, 0.99)] if seen else ["–"] * 2),
            *([f"{100 * seen.stale_first:.0f}%", f"{seen.behind_max}"] if seen else ["–"] * 2),
            sentences.token_text(cell.token),
            last=cell.target == findings.run.targets[-1],
        )
    return sheet


def visible_text(seen: Visibility, share: float) -> str:
    """A time to visible in ms; nothing shorter than the first read can be resolved."""
    time_us = seen.p50_us if share == 0.50 else seen.p99_us
    if seen.probes < SAMPLES_MIN.get(share, 1):
        return f"≤ {seen.longest_us / 1000:.1f} in {seen.probes - seen.never} of {seen.probes}"
    if time_us is None:
        return "not seen"
    return f"≤ {time_us / 1000:.1f}" if time_us <= seen.first_read_us * 1.05 else f"{time_us / 1000:.1f}"


def _where(findings: Findings, cell: Cell) -> tuple[str, str]:
    return cell.where if cell.target == findings.run.targets[0] else "", cell.target


def _cell_data(cell: Cell) -> dict[str, Any]:
    of_operations = ("interval_us", "operation")  # empty in a cell of a read share
    data = {name: _plain(value) for name, value in cell._asdict().items() if name not in of_operations}
    if cell.cost:
        data["cost"]["operations_per_core_second"] = cell.cost.operations_per_core_second
    return data


def _plain(value: Any) -> Any:
    """Named tuples as dicts, all the way down, for JSON."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: _plain(item) for key, item in value._asdict().items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
