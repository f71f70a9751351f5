"""What a mix would cost, by the costs of its operations; and how far that is from a run that measured the mix."""

import math
from typing import NamedTuple

import numpy as np
import polars as pl

from analysis.costs import Cost
from analysis.crossover import Crossover
from analysis.findings import Cell, Findings
from analysis.operations import IDLE, MIX, Mix, OperationCosts, crossover
from analysis.runs import Run, UnusableRun, require_alike
from analysis.statistics import Comparison, Floats, Interval, verdict_of
from loadtests.format import Fingerprint

ERROR_MAX = 0.10  # a prediction holds within this, or when what was measured lies in its interval
MAY_DIFFER = frozenset(Fingerprint.__struct_fields__) - {"size", "placement", "durability", "servers", "machine"}


class Checked(NamedTuple):
    """A prediction for exactly what was asked in a mixed run, beside what that cost."""

    predicted: Cell
    interval_us: Interval
    measured_us: float
    measured_ratio: float  # to the baseline

    @property
    def error(self) -> float:
        assert self.predicted.cost is not None, "a prediction is a cost"
        return self.predicted.cost.total_us / self.measured_us - 1

    @property
    def holds(self) -> bool:
        return abs(self.error) <= ERROR_MAX or self.interval_us.low <= self.measured_us <= self.interval_us.high


def of_operations(findings: Findings) -> list[Cell]:
    """Operation by operation, each in the order of the run's targets; the idling of a second comes last."""
    names = costs_in(findings).names
    alone = np.eye(len(names))
    return [each for place in [*range(1, len(names)), 0] for each in _cells(findings, alone[place], 0, names[place])]


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
        found += _checked(findings, run, slices, share)
    return found


def check_itself(findings: Findings) -> dict[str, list[Checked]]:
    """The same for the mixes that were asked whole in cells of the run itself, by their names."""
    run, valid = findings.run, findings.validity.cpu_rounds()
    wanted = pl.col("cell").str.starts_with(MIX) & (pl.col("phase") == "measure") & pl.col("round").is_in(valid)
    return {
        str(cell).removeprefix(MIX): _checked(findings, run, rows["slice"].to_list(), float(rows["read_share_pct"][0]))
        for (cell,), rows in run.slices.filter(wanted).group_by("cell", maintain_order=True)
    }


def costs_in(findings: Findings) -> OperationCosts:
    if findings.operations is None:
        raise UnusableRun(f"{findings.run.folder} holds no costs of operations: give a run of `crossover costs`.")
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
        asked = _asked(run, costs, own)
        total = max(1.0, float(asked[1:].sum()))
        us = float(run.cpu.filter(pl.col("slice").is_in(own))["cpu_us"].sum()) / total
        (guess,) = (cell for cell in _cells(findings, asked / total, share) if cell.target == name)
        base_us = base_us or us
        if us and guess.interval_us:
            found.append(Checked(guess, guess.interval_us, us, us / base_us))
    return found


def _asked(run: Run, costs: OperationCosts, slices: list[int]) -> Floats:
    """In these slices, by name: the seconds, and the count of each operation."""
    rows = run.slices.filter(pl.col("slice").is_in(slices))
    samples = run.samples.filter(pl.col("slice").is_in(slices) & (pl.col("outcome") != "dropped"))
    counts = dict(samples["operation"].value_counts().iter_rows())
    if missing := sorted(set(counts) - set(costs.names)):
        raise UnusableRun(f"The run has no cost of {', '.join(missing)}, which run {run.manifest.run} asked for.")
    counts[IDLE] = float((rows["wall_us"] + rows["drain_us"]).sum()) / 1e6
    return np.array([counts.get(name, 0) for name in costs.names])
