"""Costs of single operations, measured, and what they predict: other mixes, other read shares, other sizes."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossover.compare import compare, usable, wide_console
from crossover.errors import UserError
from crossover.preflight import Wish, share_of, wanted, words
from loadtests import workload as workloads
from loadtests.dataset import SIZES
from loadtests.workload import READS, WRITES

if TYPE_CHECKING:  # it brings numpy and matplotlib, which other commands need not wait for
    from analysis.findings import Findings
    from analysis.operations import Mix


def wanted_costs(operations: str, **wish: Any) -> Wish:
    """A run of kind `costs` that can be carried out, `wish` being as for any run; raises UserError."""
    known = (*READS, *WRITES)
    asked = known if operations == "all" else tuple(words(operations))
    if unknown := [name for name in asked if name not in known]:
        raise UserError(f"There is no operation '{unknown[0]}': choose of {', '.join(known)}, or all.")
    found = wanted(read_shares="50", **wish)  # of no meaning here: its cells are operations
    return replace(found, kind="costs", operations=asked, read_shares=())


def predict(
    folder: Path, workload: str | None, read_shares: str, rate_per_s: float | None, against: list[Path]
) -> None:
    """Print what a mix would cost, or the predictions beside mixed runs that were measured."""
    from analysis import prediction, tables
    from analysis.findings import find

    with usable():
        findings = find(folder)
        for other in against:
            mixed = find(other)
            wide_console().print(tables.checks(mixed, prediction.check(findings, mixed)))
        if not against:
            mix = mix_of(findings, workload, rate_per_s)
            shares = [workloads.check_read_share(share_of(word)) for word in words(read_shares)]
            wide_console().print(tables.predictions(findings, mix, prediction.predict(findings, mix, shares)))


def measured(sizes: str, rungs: str, workload: str, rate: float | None, profile: str, out: Path) -> list[Path]:
    """The folders of runs of costs, one for each of these sizes, measured now."""
    wish: dict[str, Any] = {"rungs": rungs, "workload": workload, "rate_per_s": rate, "profile": profile}
    wishes = [wanted_costs("", size=size, out=out / size, **wish) for size in words(sizes)]
    for each in wishes:
        compare(each)
    return [each.out for each in wishes]


def draw_map(folders: list[Path], workload: str | None, rate_per_s: float | None, out: Path) -> None:
    """Draw the map of cost runs that differ in size, and print it as a table."""
    from analysis import map
    from analysis.findings import find

    if not folders:
        raise UserError("Give runs of costs, or --sizes to measure some, for instance --sizes s,m.")
    with usable():
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
        raise UserError(f"--rate is above 0 operations a second, not {rate_per_s:g}.")
    return mix if rate_per_s is None else mix._replace(rate_per_s=rate_per_s)


def orders_of(findings: "Findings") -> int:
    size = findings.run.manifest.fingerprint.size
    if size not in SIZES:
        raise UserError(f"{findings.run.folder} names no size, so it has no place on a map.")
    return SIZES[size].orders
