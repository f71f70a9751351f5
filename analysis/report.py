"""The run as one HTML file that opens offline: the answer first, then what it rests on."""

import json
import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis import capacity_plots, plots, sentences, tables
from analysis.findings import EXTERNAL, Findings, find
from analysis.prediction import check_itself, of_operations
from analysis.runs import read_manifest
from analysis.validity import REASONS, conditions

HERE = Path(__file__).parent


def write_all(run_dir: Path) -> None:
    """The plots of a run of any kind, and the report of one that compares."""
    if read_manifest(run_dir).kind == "capacity":
        capacity_plots.write(run_dir)
    else:
        plots.write(run_dir)
        write(run_dir)


def write(run_dir: str | Path) -> Path:
    """Writes report.html into the run and returns its path; raises UnusableRun when the run gives no figures."""
    findings = find(run_dir)
    path = Path(run_dir) / "report.html"
    unfinished = path.with_suffix(".html.tmp")
    unfinished.write_text(page(findings), encoding="utf-8")
    unfinished.replace(path)
    return path


def page(findings: Findings) -> str:
    """The whole page; every text that is not ours is escaped."""
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    environment.filters["thousands"] = lambda value: f"{value:,.0f}"
    return environment.get_template("report.html").render(
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        findings=findings,
        manifest=findings.run.manifest,
        sentences=sentences,
        visible_text=tables.visible_text,
        components=findings.components,
        itself=check_itself(findings) if findings.operations else {},
        cells=of_operations(findings) if findings.operations else findings.cells,
        figures={plot.name: {"title": plot.title, "svg": plot.inline_svg()} for plot in plots.draw(findings)},
        strip=_strip(findings),
        reasons=REASONS,
        conditions=conditions(findings.run),
        environment=_environment(findings),
        workload=json.dumps(findings.run.manifest.fingerprint.workload, indent=2, ensure_ascii=False),
        repeat=repeat_command(findings),
    )


def repeat_command(findings: Findings) -> str:
    """The command line that makes this run again."""
    manifest = findings.run.manifest
    fingerprint = manifest.fingerprint
    parts = ["crossover", manifest.kind]
    ours = [target.rung for target in fingerprint.targets if target.rung != EXTERNAL]
    if ours:
        parts += ["--rungs", ",".join(dict.fromkeys(ours))]
    for target in fingerprint.targets:
        if target.rung == EXTERNAL:
            parts += ["--target", f"{target.name}={target.url}"]
    workload = fingerprint.workload
    if isinstance(workload, dict) and isinstance(workload.get("name"), str):
        parts += ["--workload", workload["name"]]
    if fingerprint.read_shares:
        parts += ["--read-shares", ",".join(f"{share:g}" for share in fingerprint.read_shares)]
    elif operations := [cell["name"] for cell in fingerprint.cells if cell["name"] in cell["shares"]]:
        parts += ["--operations", ",".join(operations)]
    if fingerprint.rate_per_s is not None:
        parts += ["--rate", f"{fingerprint.rate_per_s:g}"]
    if fingerprint.size is not None:
        parts += ["--size", fingerprint.size]
    return shlex.join([*parts, "--profile", manifest.profile])


def _strip(findings: Findings) -> list[dict[str, Any]]:
    """Round by round, one row a read share: what became of each."""
    rows = []
    for share in findings.read_shares:
        rounds = findings.validity.rounds.filter(findings.validity.rounds["read_share_pct"] == share)
        marks = [(number, reason, ok) for number, reason, ok in rounds.select("round", "reason", "cpu_ok").iter_rows()]
        good = sum(reason is None for _, reason, _ in marks)
        rows.append({"share": share, "marks": marks, "good": good, "rounds": len(marks)})
    return rows


def _environment(findings: Findings) -> list[tuple[str, str]]:
    """The fingerprint as rows of name and value; the workload stands by itself."""
    manifest = findings.run.manifest
    rows = [("run", manifest.run), ("started", manifest.created_at), ("profile", manifest.profile)]
    for field in type(manifest.fingerprint).__struct_fields__:
        if field not in ("targets", "workload"):
            rows += _flat(field, getattr(manifest.fingerprint, field))
    return [(name.replace("_", " "), value) for name, value in rows]


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in _flat(f"{name} {key}", item)]
    if isinstance(value, tuple | list):
        return [(name, ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value))]
    if value is None:
        return [(name, "unknown")]
    return [(name, f"{value:g}" if isinstance(value, float) else str(value))]
