"""What measured costs of single operations predict: other mixes, other read shares, other sizes."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crossover.errors import UserError
from crossover.kinds import costs_of
from crossover.options import Options
from crossover.planning import listed, shares_of
from crossover.session import measure
from crossover.show import wide_console, write
from loadtests import workload as workloads
from loadtests.dataset import SIZES

if TYPE_CHECKING:  # it brings numpy and matplotlib, which other commands need not wait for
    from analysis.findings import Findings
    from analysis.operations import Mix


def predict(
    folder: Path, workload: str | None, read_shares: str, rate_per_s: float | None, against: list[Path]
) -> None:
    """Print what a mix would cost, or the predictions beside mixed runs that were measured."""
    from analysis import prediction, tables
    from analysis.findings import find

    findings = find(folder)
    for other in against:
        mixed = find(other)
        wide_console().print(tables.checks(mixed, prediction.check(findings, mixed)))
    if not against:
        mix = mix_of(findings, workload, rate_per_s)
        shown = prediction.predict(findings, mix, shares_of(read_shares))
        wide_console().print(tables.predictions(findings, mix, shown))


def measured(sizes: str, options: Options, rungs: str, profile: str, out: Path) -> list[Path]:
    """The folders of runs of costs, one for each of these sizes, measured now."""
    each = [replace(options, size=size, out=out / size) for size in listed(sizes)]
    sessions = [costs_of(one, rungs, profile=profile) for one in each]
    for session in sessions:
        measure(session, write)
    return [session.access.out for session in sessions]


def draw_map(folders: list[Path], workload: str | None, rate_per_s: float | None, out: Path) -> None:
    """Draw the map of cost runs that differ in size, and print it as a table."""
    from analysis import map
    from analysis.findings import find

    if not folders:
        raise UserError("Give runs of costs, or --sizes to measure some, for instance --sizes s,m.")
    runs = [find(folder) for folder in folders]
    mix = mix_of(runs[0], workload, rate_per_s)
    found = map.rows([(orders_of(run), run) for run in runs], mix)
    wide_console().print(map.table(found, mix))
    out.mkdir(parents=True, exist_ok=True)
    print(f"Map: {map.write(found, mix, out)[-1]}")


def mix_of(findings: "Findings", workload: str | None, rate_per_s: float | None) -> "Mix":
    """A workload at a rate; without them that of the run."""
    from analysis.prediction import costs_in

    mix = costs_in(findings).mix
    if workload is not None:
        asked = workloads.load(workload)
        mix = mix._replace(name=asked.name, reads=asked.reads, writes=asked.writes)
    if rate_per_s is not None and not (math.isfinite(rate_per_s) and rate_per_s > 0):
        raise UserError(f"--rate is above 0 operations per second, not {rate_per_s:g}.")
    return mix if rate_per_s is None else mix._replace(rate_per_s=rate_per_s)


def orders_of(findings: "Findings") -> int:
    size = findings.run.manifest.fingerprint.size
    if size not in SIZES:
        raise UserError(f"{findings.run.folder} names no size, so it has no place on a map.")
    return SIZES[size].orders
