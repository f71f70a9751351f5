"""Runs and benchmarks in formats for CI: a Markdown summary, JSON for github-action-benchmark, JUnit XML."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite
from msgspec import Struct

from analysis import answer as words
from analysis import gate, sentences
from analysis.findings import Findings, find
from analysis.legible import as_code, as_markdown
from analysis.runs import UnusableRun


class Case(NamedTuple):
    """One verdict; `worse` fails a build, `inconclusive` skips."""

    name: str
    verdict: str
    reason: str


class Reported(NamedTuple):
    findings: Findings
    answer: str
    notes: list[str]
    cases: list[Case]


class Stats(Struct):
    """Seconds."""

    median: float
    stddev: float
    rounds: int


class Benchmark(Struct):
    fullname: str
    stats: Stats
    extra_info: dict[str, Any] = {}


class BenchmarkFile(Struct):
    """The part that is used here of what `pytest --benchmark-json` writes."""

    benchmarks: list[Benchmark]


def write(
    runs: Sequence[str | Path], out: Path, *, benchmarks: Path | None = None, history: Path | None = None
) -> list[Path]:
    """Writes summary.md, benchmarks.json and verdicts.xml into `out`; raises UnusableRun for what gives no figures."""
    gate.require_history(history)
    reported = [report(folder, history) for folder in runs]
    measured = read_benchmarks(benchmarks) if benchmarks else []
    listed = json.dumps(entries(reported, measured), indent=2, ensure_ascii=False) + "\n"
    texts = {"summary.md": markdown(reported, measured), "benchmarks.json": listed, "verdicts.xml": junit(reported)}
    out.mkdir(parents=True, exist_ok=True)
    for name, content in texts.items():
        (out / name).write_text(content, encoding="utf-8")
    return [out / name for name in texts]


def report(folder: str | Path, history: Path | None) -> Reported:
    findings = find(folder)
    if findings.run.manifest.kind == "gate":
        judged = gate.judge(folder, history)
        answer, *notes = gate.lines(judged)
        reason = f"ratio {sentences.ratio_text(judged.change)}: {judged.reason}"
        return Reported(findings, answer, notes, [Case("head against base", judged.answer, reason)])
    cases = []
    for cell, found in findings.compared():
        what = f"{cell.target} against {findings.baseline} at {cell.read_share_pct:g}% reads"
        cases.append(Case(what, found.verdict, f"ratio {sentences.ratio_text(found)}: {found.reason}"))
    notes = [*words.lines(findings), *sentences.identical_lines(findings)]
    notes += [line(findings) for line in (sentences.validity_line, sentences.detectable_line, sentences.checks_line)]
    return Reported(findings, words.headline(findings), notes, cases)


def read_benchmarks(file: Path) -> list[Benchmark]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=BenchmarkFile).benchmarks
    except OSError as error:
        raise UnusableRun(f"{file} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UnusableRun(f"{file} is not what `pytest --benchmark-json` writes: {error}.") from None


def markdown(reported: Sequence[Reported], benchmarks: Sequence[Benchmark]) -> str:
    """A job summary, or a comment on a pull request."""
    lines = []
    for run in reported:
        was = run.findings.run.manifest
        lines += [
            f"### Crossover: {as_markdown(was.kind)} {as_code(was.run)}, {as_markdown(was.profile)} profile",
            "",
            f"**{as_markdown(run.answer)}**",
            "",
        ]
        lines += ["| reads | target | CPU µs per operation | ratio (95% interval) | verdict |"]
        lines += ["|---:|---|---:|---|---|"]
        for cell in run.findings.cells:
            cost = f"{cell.cost.total_us:,.0f}" if cell.cost else "–"
            judged = cell.comparison.verdict if cell.comparison and was.kind != "gate" else ""
            ratio = sentences.ratio_text(cell.comparison) if cell.comparison else "1"
            lines += [f"| {cell.read_share_pct:g}% | {as_markdown(cell.target)} | {cost} | {ratio} | {judged} |"]
        lines += ["", *(f"- {as_markdown(note)}" for note in run.notes), ""]
    if benchmarks:
        lines += ["### Single paths", "", "| benchmark | median | standard deviation | more |", "|---|---:|---:|---|"]
        for one in benchmarks:
            more = ", ".join(f"{name} {value}" for name, value in one.extra_info.items())
            times = f"{1000 * one.stats.median:,.3f} ms | {1000 * one.stats.stddev:,.3f} ms"
            lines += [f"| {as_markdown(one.fullname)} | {times} | {as_markdown(more)} |"]
        lines += [""]
    return "\n".join(lines)


def entries(reported: Sequence[Reported], benchmarks: Sequence[Benchmark]) -> list[dict[str, Any]]:
    """`customSmallerIsBetter` of github-action-benchmark: name, unit, value, range, extra.

    Ratios are what a machine of the next day can be compared by; costs in µs stand beside them.
    """
    found = []
    for run in reported:
        was = run.findings.run.manifest
        named = (was.fingerprint.workload or {}).get("name", "")
        for cell in run.findings.cells:
            name = f"{was.kind} {named} {cell.read_share_pct:g}% reads: {cell.target}"
            if cell.comparison and cell.comparison.ratio and cell.comparison.interval:
                low, high = cell.comparison.interval
                ratio = {"unit": "ratio", "value": cell.comparison.ratio, "range": f"{low:.3f} to {high:.3f}"}
                found.append({"name": f"{name} over {run.findings.baseline}", **ratio, "extra": run.answer})
            if cell.cost:
                parts = ", ".join(f"{part} {us:.0f}" for part, us in cell.cost.by_component_us.items())
                found.append({"name": name, "unit": "CPU µs/operation", "value": cell.cost.total_us, "extra": parts})
    for one in benchmarks:
        extra = "\n".join(f"{name}: {value}" for name, value in one.extra_info.items())
        spread = f"± {one.stats.stddev:.3g}"
        found.append({"name": one.fullname, "unit": "s", "value": one.stats.median, "range": spread, "extra": extra})
    return found


def junit(reported: Sequence[Reported]) -> str:
    """A case a verdict: `worse` fails, `inconclusive` is skipped, each with its reason."""
    file = JUnitXml()
    for run in reported:
        suite = TestSuite(f"crossover {run.findings.run.manifest.run}")
        for name, verdict, reason in run.cases:
            case = TestCase(name, classname="crossover")
            if verdict in ("worse", "inconclusive"):
                case.result = [Failure(reason) if verdict == "worse" else Skipped(reason)]
            suite.add_testcase(case)
        file.add_testsuite(suite)
    return bytes(file.tostring()).decode() + "\n"  # type: ignore[no-untyped-call]
