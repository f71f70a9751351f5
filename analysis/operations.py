"""CPU µs of each operation by itself: a fit over the cells of a run of kind `costs`, with a bootstrap over its passes.

The CPU of a slice is idle·seconds + Σ cost·count: what a target takes while nothing is requested, and what each
operation adds. A pass is the turn of all cells once: its slices share the machine's state, so whole passes are
resampled, with all targets, within each restart.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from analysis import crossover as meeting
from analysis import statistics
from analysis.costs import components, equations, solve
from analysis.runs import Run, UnusableRun
from analysis.statistics import ROUNDS_MIN, Floats, Interval, NotComputable
from analysis.validity import Validity

IDLE, MIX = "idle", "mix "  # cells that are no operation: nothing is asked, and (a prefix) whole workloads as a check
RESAMPLES = 4_000
CPU_FLOOR_US = 1_000.0  # relative errors of slices that cost less than this would say nothing


class Mix(NamedTuple):
    """What is asked: shares of the operations among reads and among writes, in percent; operations a second."""

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
    """`names`: idle and the operations, in the order of the figures; `void`: why no verdict may rest on them."""

    names: list[str]
    targets: dict[str, TargetCosts]
    mix: Mix  # of the run's own workload
    tail: float  # to cut at each end of the draws for a 95% interval
    passes: int
    void: str | None

    def interval(self, drawn: Floats) -> Interval:
        return statistics.quantiles(drawn, self.tail)

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
    """Raises UnusableRun when the valid rounds do not separate the costs."""
    names, rows = _slices(run, valid)
    try:
        return _fit(run, valid, names, rows, seed)
    except (NotComputable, np.linalg.LinAlgError) as why:
        raise UnusableRun(f"{run.folder} gives no costs of operations: {why}.") from None


def crossover(costs: OperationCosts, mix: Mix, baseline: str, target: str) -> meeting.Crossover:
    """The read share of a mix at which both use as much CPU, predicted from the costs of its operations."""
    ends = np.stack([costs.weights(mix, share) for share in (1.0, 0.0)], axis=1)
    base, other = costs.targets[baseline], costs.targets[target]
    found = meeting.decide((base.us - other.us) @ ends, (base.drawn - other.drawn) @ ends, costs.tail)
    pair = [meeting.Costs(*map(float, each.us @ ends)) for each in (base, other)]
    return found._replace(baseline=pair[0], target=pair[1]).withdrawn(costs.void)


def _slices(run: Run, valid: Validity) -> tuple[list[str], pl.DataFrame]:
    """One row a valid slice: cell, restart, pass, target, each component's µs, and of each name seconds or count."""
    measured = run.slices.filter(pl.col("phase") == "measure").with_columns(
        # Before void rounds leave: a pass keeps its number when one of its cells is void.
        turn=pl.col("round").rank("dense").over("restart", "cell"),
        idle=(pl.col("wall_us") + pl.col("drain_us")) / 1e6,
    )
    happened = run.samples.filter(pl.col("outcome") != "dropped")
    counts = happened.pivot("operation", index="slice", values="kind", aggregate_function="len")
    asked = [cell["name"] for cell in run.manifest.fingerprint.cells if not cell["name"].startswith(MIX)]
    operations = [name for name in asked if name in counts.columns]
    if gone := [name for name in asked if name != IDLE and name not in operations]:
        raise UnusableRun(f"{run.folder} gives no costs of operations: {', '.join(gone)} never happened.")
    cpu = run.cpu.pivot("component", index="slice", values="cpu_us", aggregate_function="sum")
    fitted = pl.col("round").is_in(valid.cpu_rounds()) & ~pl.col("cell").str.starts_with(MIX)
    rows = measured.filter(fitted).join(counts, on="slice", how="left").join(cpu, on="slice", how="inner")
    return [IDLE, *operations], rows.sort("round")


def _fit(run: Run, valid: Validity, names: list[str], rows: pl.DataFrame, seed: int) -> OperationCosts:
    parts = components(run)
    rows = rows.with_columns(pl.col(*names, *parts).fill_null(0).cast(pl.Float64))
    rows = rows.with_columns(cpu=pl.sum_horizontal(parts), block=pl.struct("restart", "turn").rank("dense") - 1)
    if unmeasured := [name for name in run.targets if not rows.filter(pl.col("target") == name)["cpu"].sum()]:
        raise NotComputable(f"the CPU of {unmeasured[0]} was not measured")
    passes = rows.unique("block").sort("block")
    if passes.height < ROUNDS_MIN:
        raise NotComputable(f"{passes.height} valid passes, an interval needs {ROUNDS_MIN}")
    strata = passes["restart"].to_numpy().astype(np.int64)
    rng = np.random.default_rng(seed)
    times = statistics.multiplicities(statistics.resample_indices(strata, RESAMPLES, rng), passes.height)
    # What a start adds to all costs of a target: half of the variance of the log-ratio of two of them.
    start_sd = run.manifest.thresholds.start_sd / np.sqrt(2 * len(np.unique(strata)))
    targets = {}
    for name in run.targets:
        own = rows.filter(pl.col("target") == name)
        scale = own.select(pl.col("cpu").median().over("cell").clip(CPU_FLOOR_US)).to_series().to_numpy()
        x, block = own.select(names).to_numpy(), own["block"].to_numpy().astype(np.int64)
        total, *sums = (equations(x, own[part].to_numpy(), scale, block) for part in ("cpu", *parts))
        by_component = {part: solve(each)[0] for part, each in zip(parts, sums, strict=True) if each.right.any()}
        drawn = solve(total, times) * np.exp(rng.normal(0, start_sd, (RESAMPLES, 1)))
        targets[name] = TargetCosts(solve(total)[0], drawn, by_component)
    workload = run.manifest.fingerprint.workload
    rate = run.manifest.fingerprint.rate_per_s or workload["rate_per_s"]
    mix = Mix(workload["name"], workload["reads"], workload["writes"], rate)
    tail = statistics.expanded_tail(passes.height, len(np.unique(strata)))
    return OperationCosts(names, targets, mix, tail, passes.height, _void(run, valid))


def _void(run: Run, valid: Validity) -> str | None:
    cells = run.slices.select("round", "cell").unique().join(valid.rounds, on="round")
    gone = cells.group_by("cell", maintain_order=True).agg(void=1 - pl.col("cpu_ok").mean())
    for cell, void in gone.sort("cell").iter_rows():
        if void > valid.void_share_max:
            return f"{100 * void:.0f}% of the rounds of {cell} are void"
    return None
