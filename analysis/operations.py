"""CPU µs of each operation by itself: a fit over the cells of a run of kind `costs`, with a bootstrap over its passes.

The CPU of a slice is idle·seconds + Σ cost·count: what a target takes while nobody asks, and what each operation adds;
the costs solve that by least squares (Gauss 1809) of relative errors. A pass is the turn of all cells once: its
slices share the machine's mood, so whole passes are resampled, with all targets, within each restart.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from analysis.costs import in_order
from analysis.crossover import Costs as ReadAndWrite
from analysis.crossover import Crossover, decide
from analysis.runs import Run, UnusableRun
from analysis.statistics import ROUNDS_MIN, Floats, Interval, NotComputable, expanded_tail, resample_indices
from analysis.validity import Validity

IDLE, MIX = "idle", "mix "  # cells that are no operation: nothing is asked, and (a prefix) whole workloads as a check
RESAMPLES = 4_000
CPU_FLOOR_US = 1_000.0  # relative errors of slices that cost less than this would say nothing


class Mix(NamedTuple):
    """What is asked: shares of the operations among reads and among writes, in per cent; operations a second."""

    name: str
    reads: dict[str, float]
    writes: dict[str, float]
    rate_per_s: float


class TargetCosts(NamedTuple):
    """µs a second of `idle`, then µs of each operation; `drawn` has one row a bootstrap draw."""

    us: Floats
    drawn: Floats
    by_component_us: dict[str, Floats]


class OperationCosts(NamedTuple):
    """`names`: idle and the operations, in the order of the figures; `doubt`: why no verdict may rest on them."""

    names: list[str]
    targets: dict[str, TargetCosts]
    mix: Mix  # of the run's own workload
    tail: float  # to cut at each end of the draws for a 95 % interval
    passes: int
    doubt: str | None

    def interval(self, drawn: Floats) -> Interval:
        low, high = np.quantile(drawn, [self.tail, 1 - self.tail])
        return Interval(float(low), float(high))

    def weights(self, mix: Mix, read_share: float) -> Floats:
        """By name what one operation of the mix takes of it: seconds of idling, and its share of each operation."""
        parts = ((mix.reads, read_share), (mix.writes, 1 - read_share))
        asked = {name: share * part / 100 for shares, part in parts for name, share in shares.items() if share}
        if missing := sorted(set(asked) - set(self.names)):
            raise UnusableRun(
                f"The run has no cost of {', '.join(missing)}, which {mix.name} asks for: "
                "measure with `crossover costs --operations all`."
            )
        return np.array([1 / mix.rate_per_s, *(asked.get(name, 0.0) for name in self.names[1:])])


def fit(run: Run, valid: Validity, *, seed: int) -> OperationCosts:
    """Raises UnusableRun when the valid rounds do not tell the costs apart."""
    names, rows = _slices(run, valid)
    try:
        return _fit(run, valid, names, rows, seed)
    except (NotComputable, np.linalg.LinAlgError) as why:
        raise UnusableRun(f"{run.folder} gives no costs of operations: {why}.") from None


def crossover(costs: OperationCosts, mix: Mix, baseline: str, target: str) -> Crossover:
    """The read share of a mix at which both need as much, predicted from the costs of its operations."""
    ends = [costs.weights(mix, share) for share in (1.0, 0.0)]
    base, other = (np.stack([costs.targets[name].us @ end for end in ends]) for name in (baseline, target))
    drawn = [np.stack([costs.targets[name].drawn @ end for end in ends], axis=1) for name in (baseline, target)]
    found = decide(base - other, drawn[0] - drawn[1], costs.tail)._replace(
        baseline=ReadAndWrite(*map(float, base)), target=ReadAndWrite(*map(float, other))
    )
    return found if costs.doubt is None else found._replace(answer="inconclusive", reason=costs.doubt)


def _slices(run: Run, valid: Validity) -> tuple[list[str], pl.DataFrame]:
    """One row a valid slice: cell, restart, pass, target, each component's µs, and of each name seconds or count."""
    measured = run.slices.filter(pl.col("phase") == "measure").with_columns(
        # Before void rounds leave: a pass keeps its number when one of its cells is void.
        turn=pl.col("round").rank("dense").over("restart", "cell"),
        idle=(pl.col("wall_us") + pl.col("drain_us")) / 1e6,
    )
    counts = run.samples.filter(pl.col("outcome") != "dropped").pivot(
        "operation", index="slice", values="kind", aggregate_function="len"
    )
    asked = [cell["name"] for cell in run.manifest.fingerprint.cells if not cell["name"].startswith(MIX)]
    operations = [name for name in asked if name in counts.columns]
    if gone := [name for name in asked if name != IDLE and name not in operations]:
        raise UnusableRun(f"{run.folder} gives no costs of operations: {', '.join(gone)} never happened.")
    cpu = run.cpu.pivot("component", index="slice", values="cpu_us", aggregate_function="sum")
    fitted = pl.col("round").is_in(valid.cpu_rounds()) & ~pl.col("cell").str.starts_with(MIX)
    rows = measured.filter(fitted).join(counts, on="slice", how="left")
    return [IDLE, *operations], rows.join(cpu, on="slice", how="inner").sort("round")


def _fit(run: Run, valid: Validity, names: list[str], rows: pl.DataFrame, seed: int) -> OperationCosts:
    components = in_order(set(run.cpu["component"].unique()))
    rows = rows.with_columns(pl.col(*names, *components).fill_null(0).cast(pl.Float64))
    rows = rows.with_columns(cpu=pl.sum_horizontal(components), unit=pl.struct("restart", "turn").rank("dense") - 1)
    unmeasured = [name for name in run.targets if not rows.filter(pl.col("target") == name)["cpu"].sum()]
    if unmeasured:
        raise NotComputable(f"the CPU of {unmeasured[0]} was not measured")
    units = rows.unique("unit").sort("unit")
    if units.height < ROUNDS_MIN:
        raise NotComputable(f"{units.height} valid passes, an interval needs {ROUNDS_MIN}")
    strata = units["restart"].to_numpy().astype(np.int64)
    rng = np.random.default_rng(seed)
    picks = resample_indices(strata, RESAMPLES, rng)
    # What a start adds to all costs of a target: half of the variance of the log-ratio of two of them.
    start_sd = run.manifest.thresholds.start_sd / np.sqrt(2 * len(np.unique(strata)))
    times = np.stack([np.bincount(row, minlength=units.height) for row in picks]).astype(np.float64)
    targets = {}
    for name in run.targets:
        matrix, sides = _normal_equations(
            rows.filter(pl.col("target") == name), names, ["cpu", *components], units.height
        )
        once = np.ones((1, units.height))
        us, *parts = (_solve(once, matrix, side)[0] for side in sides)
        by_component = {part: costs for part, costs in zip(components, parts, strict=True) if costs.any()}
        drawn = _solve(times, matrix, sides[0]) * np.exp(rng.normal(0, start_sd, (RESAMPLES, 1)))
        targets[name] = TargetCosts(us, drawn, by_component)
    workload = run.manifest.fingerprint.workload
    rate = run.manifest.fingerprint.rate_per_s or workload["rate_per_s"]
    mix = Mix(workload["name"], workload["reads"], workload["writes"], rate)
    tail = expanded_tail(units.height, len(np.unique(strata)))
    return OperationCosts(names, targets, mix, tail, units.height, _doubt(run, valid))


def _normal_equations(
    rows: pl.DataFrame, names: list[str], sides: list[str], units: int
) -> tuple[Floats, list[Floats]]:
    """By pass XᵀX and, for each column of CPU, Xᵀy, every slice divided by the median CPU of its cell."""
    scale = rows.select(pl.col("cpu").median().over("cell").clip(CPU_FLOOR_US)).to_numpy()
    x = rows.select(names).to_numpy() / scale
    unit = rows["unit"].to_numpy()
    matrix = np.zeros((units, len(names), len(names)))
    np.add.at(matrix, unit, x[:, :, None] * x[:, None, :])
    right = [np.zeros((units, len(names))) for _ in sides]
    for side, name in zip(right, sides, strict=True):
        np.add.at(side, unit, x * rows.select(name).to_numpy() / scale)
    return matrix, right


def _solve(times: Floats, matrix: Floats, side: Floats) -> Floats:
    """The costs for each row of how often each pass counts."""
    left = np.einsum("rp,pij->rij", times, matrix)
    solved: Floats = np.linalg.solve(left, (times @ side)[:, :, None])[:, :, 0]
    return solved


def _doubt(run: Run, valid: Validity) -> str | None:
    cells = run.slices.select("round", "cell").unique().join(valid.rounds, on="round")
    gone = cells.group_by("cell", maintain_order=True).agg(void=1 - pl.col("cpu_ok").mean())
    for cell, void in gone.sort("cell").iter_rows():
        if void > valid.void_share_max:
            return f"{100 * void:.0f} % of the rounds of {cell} are void"
    return None
