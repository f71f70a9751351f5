"""A run made small enough to keep in git, and the README's answer written from it."""

import hashlib
import os
import re
import shutil
from pathlib import Path
from urllib.parse import quote

import msgspec
import polars as pl

from analysis import answer as words
from analysis import report, sentences
from analysis.findings import Findings, find
from analysis.legible import as_code, as_markdown
from analysis.runs import UnusableRun, open_run, read_manifest, require_alike
from loadtests.format import TABLES

# Two runs that differ in their clients may also differ in their commit; workload, settings and machine are the same.
CLIENTS_APART = frozenset({"clients", "commit", "dirty"})
BEGIN, END = "<!-- answer:begin -->", "<!-- answer:end -->"


def compacted(run_dir: Path, into: Path) -> Path:
    """The same run with all its rounds in one folder: the same rows, a fraction of the bytes; returns `into`.

    Raises UnusableRun for a run without figures and FileExistsError where something is already.
    """
    open_run(run_dir)
    names = list(read_manifest(run_dir).files)
    rounds = into / "rounds" / "all"
    rounds.mkdir(parents=True)
    files = {}
    for table in TABLES:
        parts = sorted(name for name in names if Path(name).name == f"{table}.parquet")
        if not parts:
            continue
        path = rounds / f"{table}.parquet"
        pl.concat([pl.read_parquet(run_dir / name) for name in parts]).write_parquet(path, compression_level=19)
        files[path.relative_to(into).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = msgspec.json.decode((run_dir / "manifest.json").read_bytes()) | {"files": files}
    (into / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    return into


def published(run_dir: Path, folder: Path) -> Path:
    """The run under `folder`, compacted unless it is there already, with its report and plots written anew."""
    into = folder / run_dir.resolve().name
    if into.exists() and read_manifest(into).run != read_manifest(run_dir).run:
        raise UnusableRun(f"{into} holds another run: give the folder of {run_dir} another name.")
    if not into.exists():
        building = into.with_name(f".{into.name}.tmp")
        shutil.rmtree(building, ignore_errors=True)
        try:
            compacted(run_dir, building).rename(into)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    report.write_all(into)
    return into


def answer_in(readme: str, run_dir: Path, home: Path, beside: Path | None = None) -> str:
    """The README with the answer of this run between its two marks. `beside`: the same run with other clients, quoted
    after it. ValueError where a mark is missing."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"The README needs the marks {BEGIN} and {END}, once each.")
    findings = find(run_dir)
    block = answer(findings, os.path.relpath(run_dir, home))
    if beside is not None:
        block += f"\n\n{other_clients(findings, find(beside), os.path.relpath(beside, home))}"
    return re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{block}\n{END}", readme, flags=re.DOTALL)


def other_clients(findings: Findings, other: Findings, path: str) -> str:
    """The crossovers with the other clients, and the cause of the difference: what a read and a write cost relative to
    the baseline, at both levels. Each ratio is within one run."""
    run, beside = findings.run.manifest, other.run.manifest
    require_alike(run, beside, may_differ=CLIENTS_APART)
    level, its_level = run.fingerprint.clients, beside.fingerprint.clients
    if level == its_level:
        raise ValueError(f"Run {beside.run} has {level} clients like run {run.run}, so it shows nothing beside it.")
    lines = [f"**With {as_code(str(its_level))} clients** instead of {as_code(str(level))} ones, on all sides:\n"]
    lines += [f"- {as_markdown(line)}" for line in words.crossover_lines(other)]
    for target in findings.challengers:
        pair = [each.crossovers[target] for each in (findings, other)]
        costs = [(one.baseline, one.target) for one in pair if one.baseline and one.target]
        if len(costs) == 2:
            (reads, its_reads), (writes, its_writes) = (
                [getattr(target, name) / getattr(base, name) for base, target in costs]
                for name in ("read_us", "write_us")
            )
            said = (
                f"A read of {target} costs {reads:.2f} times one of {findings.baseline} with {level} clients and "
                f"{its_reads:.2f} with {its_level} ones; a write {writes:.2f} and {its_writes:.2f}."
            )
            lines.append(f"- {as_markdown(said)}")
    return "\n".join([*lines, f"\nThat run is in {as_code(f'{path}/')}."])


def answer(findings: Findings, path: str) -> str:
    """The answer in Markdown: picture, crossovers, what to choose and its price, table. The report says the rest."""
    fingerprint = findings.run.manifest.fingerprint
    workload = fingerprint.workload["name"] if isinstance(fingerprint.workload, dict) else "?"
    headline, names = as_markdown(words.headline(findings)), [findings.baseline, *findings.challengers]
    first, *others = map(as_markdown, names)
    columns = [f"{first}, CPU µs per operation", *(f"{name} / {first} (95% interval)" for name in others)]
    rows = [f"| read share | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for share in findings.read_shares:
        base, *cells = (findings.cell(share, name) for name in names)
        texts = [f"{share:g}%", f"{base.cost.total_us:,.0f}" if base.cost else "–"]
        for cell in cells:
            verdict = f" {cell.comparison.verdict}" if cell.comparison else ""
            texts.append(f"{sentences.ratio_text(cell.comparison)}{verdict}")
        rows.append(f"| {' | '.join(texts)} |")
    return "\n".join(
        [
            f"![{headline}]({quote(path)}/plots/ratio.png)\n",
            f"**{as_markdown(' '.join(words.crossover_lines(findings)) or words.text(findings))}**\n",
            *(f"- {as_markdown(line)}" for line in [*words.recommendation(findings), *words.price(findings)]),
            "",
            f"Workload {as_code(workload)}, size {as_code(str(fingerprint.size))}, "
            f"{fingerprint.rate_per_s:g} operations a second, {as_markdown(findings.run.manifest.profile)} profile"
            f"{f', {as_code(fingerprint.clients)} clients' if fingerprint.clients else ''}; "
            f"{as_markdown(str(fingerprint.placement))}.\n",
            *rows,
            f"\nThe run, with its report, is in {as_code(f'{path}/')}.",
        ]
    )
