"""The run as one HTML file that opens offline: the answer first, then the evidence."""

import json
import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis import answer, capacity_plots, plots, sentences, tables
from analysis.figures import Plot
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
        drawn = plots.draw(find(run_dir))
        for plot in drawn:
            plot.save(run_dir / "plots")
        write(run_dir, drawn)


def write(run_dir: str | Path, drawn: list[Plot] | None = None) -> Path:
    """Writes report.html into the run and returns its path; raises UnusableRun when the run gives no figures."""
    findings = find(run_dir)
    path = Path(run_dir) / "report.html"
    unfinished = path.with_suffix(".html.tmp")
    unfinished.write_text(page(findings, plots.draw(findings) if drawn is None else drawn), encoding="utf-8")
    unfinished.replace(path)
    return path


def page(findings: Findings, drawn: list[Plot]) -> str:
    """The whole page; every text that is not ours is escaped."""
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    environment.filters["thousands"] = lambda value: f"{value:,.0f}"
    return environment.get_template("report.html").render(
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        findings=findings,
        manifest=findings.run.manifest,
        answer=answer,
        sentences=sentences,
        visible_text=tables.visible_text,
        components=findings.components,
        itself=check_itself(findings) if findings.operations else {},
        cells=of_operations(findings) if findings.operations else findings.cells,
        figures={plot.name: {"title": plot.title, "svg": plot.inline_svg()} for plot in drawn},
        reasons=REASONS,
        conditions=conditions(findings.run),
        environment=_environment(findings),
        workload=json.dumps(findings.run.manifest.fingerprint.workload, indent=2, ensure_ascii=False),
        repeat=repeat_command(findings),
    )


def repeat_command(findings: Findings) -> str:
    """The command line that makes this run again."""
    manifest = findings.run.manifest
    was = manifest.fingerprint
    named = isinstance(was.workload, dict) and isinstance(was.workload.get("name"), str)
    ours = dict.fromkeys(target.rung for target in was.targets if target.rung != EXTERNAL)
    shares, operations = was.read_shares, [cell["name"] for cell in was.cells if cell["name"] in cell["shares"]]
    options = [
        ("--rungs", ",".join(ours)),
        *(("--target", f"{target.name}={target.url}") for target in was.targets if target.rung == EXTERNAL),
        ("--workload", was.workload["name"] if named else ""),
        ("--read-shares", ",".join(f"{share:g}" for share in shares)),
        ("--operations", "" if shares else ",".join(operations)),
        ("--rate", "" if was.rate_per_s is None else f"{was.rate_per_s:g}"),
        ("--size", was.size or ""),
        ("--clients", was.clients or ""),
        ("--profile", manifest.profile),
    ]
    return shlex.join(["crossover", manifest.kind, *(word for option in options if option[1] for word in option)])


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
        return [(name, ", ".join(_flat("", item)[0][1] if isinstance(item, float) else str(item) for item in value))]
    return [(name, "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value))]
