"""The cost of a mix, predicted from the costs of its operations, and its distance from a run that measured the mix."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from analysis.costs import Cost
from analysis.crossover import Crossover
from analysis.findings import Cell, Findings, find
from analysis.operations import MIX, Mix, OperationCosts, crossover, growth_lines
from analysis.runs import Run, UnusableRun, difference, differences, read_manifest, require_alike
from analysis.statistics import Comparison, Floats, Interval, verdict_of
from loadtests.format import Fingerprint, Manifest

ERROR_MAX = 0.10  # a prediction holds within this, or when what was measured lies in its interval
NO_COSTS = "{} holds no costs of operations: give a run of `crossover costs`."
RATE_MAX = 1.10  # between two rates that count as one
ALIKE = {"size", "placement", "durability", "servers", "machine", "clients"}
MAY_DIFFER = frozenset(Fingerprint.__struct_fields__) - ALIKE


class Checked(NamedTuple):
    """A prediction for exactly what was asked in a mixed run, beside what that cost."""

    predicted: Cell
    interval_us: Interval
    measured_us: float
    measured_ratio: float  # to the baseline
    measured_interval: Interval | None = None  # of that ratio, where rounds were compared

    @property
    def error(self) -> float:
        assert self.predicted.cost is not None, "a prediction is a cost"
        return self.predicted.cost.total_us / self.measured_us - 1

    @property
    def ratio_error(self) -> float | None:
        ratio = self.predicted.comparison.ratio if self.predicted.comparison else None
        return None if ratio is None else ratio / self.measured_ratio - 1

    @property
    def holds(self) -> bool:
        """Judged by the ratio, on which the answer rests; the cost itself changes with the hour on a shared machine."""
        if self.ratio_error is None or self.predicted.comparison is None:
            return abs(self.error) <= ERROR_MAX or self.interval_us.low <= self.measured_us <= self.interval_us.high
        guess = self.predicted.comparison.interval or Interval(math.inf, -math.inf)
        real = self.measured_interval or Interval(self.measured_ratio, self.measured_ratio)
        return abs(self.ratio_error) <= ERROR_MAX or (guess.low <= real.high and real.low <= guess.high)


def of_operations(findings: Findings) -> list[Cell]:
    """Operation by operation, each in the order of the run's targets; the idling of a second comes last."""
    costs = costs_in(findings)
    idle, *names = costs.names
    return [each for name in [*names, idle] for each in _cells(findings, costs.alone(name), 0, name)]


def predict(findings: Findings, mix: Mix, read_shares: list[float]) -> list[Cell]:
    """In the order of the read shares and of the run's targets; raises UnusableRun for an operation without a cost."""
    costs = costs_in(findings)
    return [each for share in read_shares for each in _cells(findings, costs.weights(mix, share / 100), share)]


def crossovers(findings: Findings, mix: Mix) -> dict[str, Crossover]:
    """By target the read share of the mix above which it uses less CPU than the baseline."""
    costs = costs_in(findings)
    return {name: crossover(costs, mix, findings.baseline, name) for name in findings.challengers}


def check(findings: Findings, mixed: Findings) -> list[Checked]:
    """Predictions beside a mixed run of the same size, servers and machine, which the costs have never seen."""
    run = mixed.run
    require_alike(findings.run.manifest, run.manifest, may_differ=MAY_DIFFER)
    if missing := [name for name in findings.run.targets if name not in run.targets]:
        raise UnusableRun(f"Run {run.manifest.run} has no target {missing[0]} to check the prediction of.")
    found = []
    for share in mixed.read_shares:
        slices = mixed.costs.filter(pl.col("read_share_pct") == share)["slice"].to_list()
        compared = {cell.target: cell.comparison for cell in mixed.cells if cell.read_share_pct == share}
        for each in _checked(findings, run, slices, share):
            real = compared.get(each.predicted.target)
            found.append(each._replace(measured_interval=real.interval if real else None))
    return found


def check_itself(findings: Findings) -> dict[str, list[Checked]]:
    """The same for the mixes that were asked whole in cells of the run itself, by their names."""
    run, valid = findings.run, findings.validity.good_rounds()
    wanted = pl.col("cell").str.starts_with(MIX) & (pl.col("phase") == "measure") & pl.col("round").is_in(valid)
    return {
        str(cell).removeprefix(MIX): _checked(findings, run, rows["slice"].to_list(), float(rows["read_share_pct"][0]))
        for (cell,), rows in run.slices.filter(wanted).group_by("cell", maintain_order=True)
    }


def measures(manifest: Manifest, findings: Findings, mix: Mix) -> bool:
    """Whether a run asked for this mix, at its rate, of the same machine, size, settings and targets."""
    was, names = manifest.fingerprint, {target.name for target in manifest.fingerprint.targets}
    workload = was.workload or {}
    return (
        manifest.kind == "compare"
        and (workload.get("reads"), workload.get("writes")) == (mix.reads, mix.writes)
        and _one_rate(was.rate_per_s, mix.rate_per_s)
        and names >= {*findings.run.targets}
        and not differences(findings.run.manifest, manifest).keys() - MAY_DIFFER
    )


def check_of(findings: Findings, mix: Mix) -> list[Checked]:
    """The predictions beside the cells of the run itself that asked for this mix."""
    asked = costs_in(findings).mix
    if (asked.reads, asked.writes) != (mix.reads, mix.writes) or not _one_rate(asked.rate_per_s, mix.rate_per_s):
        return []
    return check_itself(findings).get(asked.name, [])


def caveats(findings: Findings, mix: Mix, machine: dict[str, Any] | None = None) -> list[str]:
    """How a mix lies outside what was measured, to be said before its prediction; `machine`: the one it is made for."""
    said, manifest = [], findings.run.manifest
    rate = costs_in(findings).mix.rate_per_s
    if not _one_rate(rate, mix.rate_per_s):
        said.append(
            f"Outside the measured rate: the costs were measured at {rate:g} operations/s, the mix has "
            f"{mix.rate_per_s:g}. At a lower rate an operation costs more CPU, at a higher one less: only the idle "
            f"CPU is converted. `crossover costs --rate {mix.rate_per_s:g}` measures there."
        )
    how = difference(manifest.fingerprint.machine, machine) if machine else ""
    if how:
        said.append(f"Outside the measured machine: {how}. On this machine costs and ratios may differ.")
    return said


def grounds(findings: Findings) -> list[str]:
    """What the predictions rest on: the state of the data, and how far they were from whole mixes."""
    costs, said = costs_in(findings), []
    for name, target in costs.targets.items():
        each = zip(costs.growing, target.us[len(costs.names) :], strict=True)
        steep = [f"{read} {100 * more / target.us[costs.names.index(read)]:.0f}%" for read, more in each if more]
        if steep:
            said.append(f"Twice the orders make a read of {name} dearer: {', '.join(steep)}.")
    grown = growth_lines(findings.run)
    said = [*grown, *said, *["Costs are given for the data as it was filled."] * bool(said)]
    if costs.error or costs.ratio_error:
        said.append(
            f"Whole mixes in this run were {100 * costs.error:.1f}% off their predicted cost and "
            f"{100 * costs.ratio_error:.1f}% off their predicted ratio (beyond noise): the intervals allow for it."
        )
    return said


def _one_rate(one: float | None, other: float) -> bool:
    return one is not None and 1 / RATE_MAX <= one / other <= RATE_MAX


def find_costs(folder: Path) -> Findings:
    """The findings of a run of costs; another kind of run is refused before it is read."""
    if read_manifest(folder).kind != "costs":
        raise UnusableRun(NO_COSTS.format(folder))
    return find(folder)


def costs_in(findings: Findings) -> OperationCosts:
    if findings.operations is None:
        raise UnusableRun(NO_COSTS.format(findings.run.folder))
    return findings.operations


def _cells(findings: Findings, weights: Floats, share: float, operation: str | None = None) -> list[Cell]:
    """Every target, doing on the average of an operation so many seconds of idling and so much of each operation."""
    costs = costs_in(findings)
    base_drawn = costs.targets[findings.baseline].drawn @ weights
    found = []
    for name, target in costs.targets.items():
        parts = {part: float(us @ weights) for part, us in target.by_component_us.items()}
        drawn = target.drawn @ weights
        ratio = None if name == findings.baseline else _ratio(findings, costs, drawn, base_drawn)
        cost = Cost(float(target.us @ weights), parts)
        found.append(Cell(share, name, cost, None, None, ratio, costs.interval(drawn), operation))
    return found


def _ratio(findings: Findings, costs: OperationCosts, drawn: Floats, base_drawn: Floats) -> Comparison:
    if min(drawn.min(), base_drawn.min()) <= 0:
        return Comparison(costs.passes, reason=costs.void or "a cost cannot be distinguished from zero")
    logs = np.log(drawn / base_drawn)
    interval = costs.interval(logs)
    verdict, why = verdict_of(interval, 0.0, findings.run.manifest.thresholds.equivalence_delta)
    ratio, shown = float(np.exp(np.median(logs))), Interval(*map(math.exp, interval))
    if costs.void is not None:
        verdict, why = "inconclusive", costs.void
    return Comparison(costs.passes, ratio, shown, verdict=verdict, reason=why)


def _checked(findings: Findings, run: Run, slices: list[int], share: float) -> list[Checked]:
    """By target: what these slices of it cost an operation, predicted and measured."""
    costs, found, base_us = costs_in(findings), [], None
    for name in findings.run.targets:
        own = run.slices.filter(pl.col("slice").is_in(slices) & (pl.col("target") == name))["slice"].to_list()
        asked = costs.asked(run, own)
        total = max(1.0, float(asked[1 : len(costs.names)].sum()))
        us = float(run.cpu.filter(pl.col("slice").is_in(own))["cpu_us"].sum()) / total
        (guess,) = (cell for cell in _cells(findings, asked / total, share) if cell.target == name)
        base_us = base_us or us
        if us and guess.interval_us:
            found.append(Checked(guess, guess.interval_us, us, us / base_us))
    return found
