"""Predictions from the measured costs of single operations: for other mixes and read shares, and the map of sizes."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crossover.errors import UserError
from crossover.kinds import costs_of
from crossover.machine import machine
from crossover.options import Options
from crossover.planning import listed, shares_of
from crossover.session import measure
from crossover.show import wide_console, write
from loadtests import workload as workloads
from loadtests.dataset import SIZES

if TYPE_CHECKING:  # it brings numpy and matplotlib, which other commands need not wait for
    from analysis.findings import Findings
    from analysis.operations import Mix
    from loadtests.format import Manifest


def predict(
    folder: Path, workload: str | None, read_shares: str, rate_per_s: float | None, against: list[Path]
) -> None:
    """Print what a mix would cost, beside all measurements of it: cells of the run, runs beside it, those given."""
    from analysis import prediction, tables
    from analysis.findings import find

    findings = prediction.find_costs(folder)
    mix = mix_of(findings, workload, rate_per_s)
    shown = prediction.predict(findings, mix, shares_of(read_shares))
    own = prediction.check_of(findings, mix)
    checks = [tables.checks("whole mixes in this run", own)] if own else []
    for mixed in map(find, against or beside([findings], mix)):
        was = mixed.run.manifest.fingerprint
        where = f"{was.workload['name']} at {was.rate_per_s:g} operations/s, run {mixed.run.manifest.run}"
        checks.append(tables.checks(where, prediction.check(findings, mixed)))
    caveats = prediction.caveats(findings, mix, machine())
    wide_console().print(tables.predictions(findings, mix, shown, caveats, checks))


def beside(runs: "list[Findings]", mix: "Mix") -> list[Path]:
    """Runs of `crossover compare` in the folder of a run of costs, if they measured just this mix."""
    from analysis.prediction import measures

    each = ((run, *other) for run in runs for other in runs_beside(run.run.folder))
    return list(dict.fromkeys(path for run, path, manifest in each if measures(manifest, run, mix)))


def capacities_beside(folder: Path) -> list[Path]:
    return [path for path, manifest in runs_beside(folder) if manifest.kind == "capacity"]


def runs_beside(folder: Path) -> Iterator[tuple[Path, "Manifest"]]:
    """Every complete run in the folder that holds this one."""
    from analysis.runs import UnusableRun, read_manifest

    for file in sorted(folder.resolve().parent.glob("*/manifest.json")):
        with contextlib.suppress(UnusableRun):
            yield file.parent, read_manifest(file.parent)


def measured(sizes: str, options: Options, rungs: str, profile: str, out: Path) -> list[Path]:
    """The folders of runs of costs, one for each of these sizes, measured now."""
    each = [replace(options, size=size, out=out / size) for size in listed(sizes)]
    sessions = [costs_of(one, rungs, profile=profile) for one in each]
    for session in sessions:
        measure(session, write)
    return [session.access.out for session in sessions]


def draw_map(
    folders: list[Path], workload: str | None, rate_per_s: float | None, out: Path, against: list[Path]
) -> None:
    """Draw the map of cost runs that differ in size, and print it as a table."""
    from analysis import map
    from analysis.findings import find

    if not folders:
        raise UserError("Give runs of costs, or --sizes to measure some, for instance --sizes s,m.")
    runs = [find(folder) for folder in folders]
    mix = mix_of(runs[0], workload, rate_per_s)
    found = map.rows([(orders_of(run), run) for run in runs], mix)
    out.mkdir(parents=True, exist_ok=True)
    wide_console().print(map.table(found, mix, [find(path) for path in against or beside(runs, mix)], machine()))
    print(f"Map: {map.write(found, mix, out)[-1]}")


def mix_of(findings: "Findings", workload: str | None, rate_per_s: float | None) -> "Mix":
    """A workload at its own rate or at another; without one that of the run."""
    from analysis.prediction import costs_in

    mix = costs_in(findings).mix
    if workload is not None:
        asked = workloads.load(workload)
        mix = mix._replace(name=asked.name, reads=asked.reads, writes=asked.writes, rate_per_s=asked.rate_per_s)
    if rate_per_s is not None and not (math.isfinite(rate_per_s) and rate_per_s > 0):
        raise UserError(f"--rate is above 0 operations per second, not {rate_per_s:g}.")
    return mix if rate_per_s is None else mix._replace(rate_per_s=rate_per_s)


def orders_of(findings: "Findings") -> int:
    size = findings.run.manifest.fingerprint.size
    if size not in SIZES:
        raise UserError(f"{findings.run.folder} names no size, so it has no place on a map.")
    return SIZES[size].orders
