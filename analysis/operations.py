"""CPU µs of each operation by itself: a fit over the cells of a run of kind `costs`, with a bootstrap over its passes.

The CPU of a slice is idle·seconds + Σ cost·count: what a target uses without requests, and what each operation adds.
A run places orders, and some reads cost more the more orders there are. Their costs are fitted with a slope and given
for the data as filled. A pass measures every cell once. Its slices share the state of the machine, so the bootstrap
resamples whole passes, with all targets, within each restart. Whole mixes are measured too, but not used in the fit:
their distance from the prediction is added to every interval.
"""

import math
from typing import NamedTuple

import numpy as np
import polars as pl

from analysis import crossover as meeting
from analysis import statistics
from analysis.costs import components, equations, solve
from analysis.runs import Run, UnusableRun
from analysis.statistics import ROUNDS_MIN, Floats, Interval, NotComputable
from analysis.validity import CURES, REASONS, Validity

GROWN = "{} grown"  # a column: the count of a read times the growth it met
IDLE, MIX = "idle", "mix "  # cells that are no operation: nothing is asked, and (a prefix) whole workloads as a check
RESAMPLES = 4_000
CPU_FLOOR_US = 1_000.0  # relative errors of slices that cost less than this would say nothing
GROWTH_SAID = 0.10  # of the data, over a run: less is not worth a sentence
GROWTH_MIN = 0.25  # of the data, over a run: less growth shows no slope that is worth its noise
SLOPE_MIN = 0.7  # of a read's cost, for twice the data: one that adds up all of it has 1, a drifting machine less
CHANCE = 0.001  # that such a slope is noise: it is asked of each read of each target


class Mix(NamedTuple):
    """What is asked: shares of the operations among reads and among writes, in percent; operations a second."""

    name: str
    reads: dict[str, float]
    writes: dict[str, float]
    rate_per_s: float


class TargetCosts(NamedTuple):
    """µs a second of `idle`, of each operation, and more of each growing read once the orders have doubled.

    `drawn` has one row a bootstrap draw.
    """

    us: Floats
    drawn: Floats
    by_component_us: dict[str, Floats]


class OperationCosts(NamedTuple):
    """`names`: idle and the operations, in the order of the figures; `void`: why no verdict may rest on them."""

    names: list[str]
    growing: list[str]  # reads with a slope over the growth of the data
    targets: dict[str, TargetCosts]
    mix: Mix  # of the run's own workload
    tail: float  # to cut at each end of the draws for a 95% interval
    passes: int
    void: str | None
    error: float = 0.0  # of whole mixes against their predicted cost, SD of the log; None fitted: 0
    ratio_error: float = 0.0  # the same of their ratios to the baseline

    def alone(self, name: str) -> Floats:
        """The weights of one operation by itself, or of a second of idling."""
        return self._filled([float(name == other) for other in self.names])

    def _filled(self, weights: list[float]) -> Floats:
        """At the size the data was filled to: nothing of what growth adds."""
        return np.array([*weights, *(0.0 for _ in self.growing)])

    def interval(self, drawn: Floats) -> Interval:
        return statistics.quantiles(drawn, self.tail)

    def weights(self, mix: Mix, read_share: float) -> Floats:
        """By name what one operation of the mix takes of it: seconds of idling, and its share of each operation."""
        if lack := self.lack(mix):
            raise UnusableRun(f"The run has {lack}.")
        parts = ((mix.reads, read_share), (mix.writes, 1 - read_share))
        asked = {name: share * part / 100 for shares, part in parts for name, share in shares.items() if share}
        return self._filled([1 / mix.rate_per_s, *(asked.get(name, 0.0) for name in self.names[1:])])

    def lack(self, mix: Mix) -> str | None:
        """The costs that were not measured and that a mix needs."""
        missing = sorted({name for name, share in (mix.reads | mix.writes).items() if share} - set(self.names))
        cure = "measure with `crossover costs --operations all`"
        return f"no cost of {', '.join(missing)}, which {mix.name} asks for: {cure}" if missing else None

    def asked(self, run: Run, slices: list[int]) -> Floats:
        """What was asked in these slices of a target: seconds, counts, and counts times the growth they met."""
        rows = run.slices.filter(pl.col("slice").is_in(slices))
        samples = run.samples.filter(pl.col("slice").is_in(slices) & (pl.col("outcome") != "dropped"))
        met = (
            samples.join(growth(run), on="slice").group_by("operation").agg(count=pl.len(), grown=pl.col("grown").sum())
        )
        counts = {name: (float(count), float(grown)) for name, count, grown in met.iter_rows()}
        if missing := sorted(set(counts) - set(self.names)):
            raise UnusableRun(f"The run has no cost of {', '.join(missing)}, which run {run.manifest.run} asked for.")
        counts[IDLE] = float((rows["wall_us"] + rows["drain_us"]).sum()) / 1e6, 0.0
        each = [counts.get(name, (0.0, 0.0)) for name in self.names]
        return np.array([*(count for count, _ in each), *(counts.get(name, (0.0, 0.0))[1] for name in self.growing)])


def fit(run: Run, valid: Validity, *, seed: int) -> OperationCosts:
    """Raises UnusableRun when the valid rounds do not separate the costs."""
    names, rows = _slices(run, valid)
    try:
        return _fit(run, valid, names, rows, seed)
    except (NotComputable, np.linalg.LinAlgError) as why:
        raise UnusableRun(f"{run.folder} gives no costs of operations: {_void(run, valid) or why}.") from None


def crossover(costs: OperationCosts, mix: Mix, baseline: str, target: str) -> meeting.Crossover:
    """The read share of a mix at which both use as much CPU, predicted from the costs of its operations."""
    if lack := costs.lack(mix):
        return meeting.Crossover("inconclusive", f"the run has {lack}")
    ends = np.stack([costs.weights(mix, share) for share in (1.0, 0.0)], axis=1)
    base, other = costs.targets[baseline], costs.targets[target]
    found = meeting.decide((base.us - other.us) @ ends, (base.drawn - other.drawn) @ ends, costs.tail)
    pair = [meeting.Costs(*map(float, each.us @ ends)) for each in (base, other)]
    return found._replace(baseline=pair[0], target=pair[1]).withdrawn(costs.void)


def growth_lines(run: Run) -> list[str]:
    """That the last slices met more data than the first, where that is worth a sentence."""
    grown = max(growth(run)["grown"], default=0.0)
    if grown < GROWTH_SAID:
        return []
    return [
        f"The run itself added {100 * grown:.0f}% to its orders: reads that add up many of them became dearer in it."
    ]


def growth(run: Run) -> pl.DataFrame:
    """By slice: the orders its target has taken until then, as a share of those it was filled with (unknown: none)."""
    filled = ((run.manifest.plan or {}).get("size") or {}).get("orders") or math.inf
    happened = run.samples.filter((pl.col("operation") == "place") & (pl.col("outcome") == "ok"))
    rows = run.slices.sort("slice").join(happened.group_by("slice").len(), on="slice", how="left")
    return rows.select("slice", grown=pl.col("len").fill_null(0).cum_sum().over("target") / filled)


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
    rows = (
        measured.filter(pl.col("round").is_in(valid.good_rounds()))
        .join(counts, on="slice", how="left")
        .join(cpu, on="slice", how="inner")
    )
    rows = rows.join(growth(run), on="slice")
    return [IDLE, *operations], rows.sort("round")


def _fit(run: Run, valid: Validity, names: list[str], rows: pl.DataFrame, seed: int) -> OperationCosts:
    parts = components(run)
    rows = rows.with_columns(pl.col(*names, *parts).fill_null(0).cast(pl.Float64))
    growing = _growing(run, names) if max(rows["grown"], default=0.0) >= GROWTH_MIN else []
    rows = rows.with_columns((pl.col(name) * pl.col("grown")).alias(GROWN.format(name)) for name in growing)
    rows = rows.with_columns(cpu=pl.sum_horizontal(parts))
    mixes, rows = (rows.filter(pl.col("cell").str.starts_with(MIX) == mixed) for mixed in (True, False))
    rows = rows.with_columns(block=pl.struct("restart", "turn").rank("dense") - 1)
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
        targets[name] = _target(own, names, growing, parts, times, rng.normal(0, start_sd, (RESAMPLES, 1)))
    workload = run.manifest.fingerprint.workload
    rate = run.manifest.fingerprint.rate_per_s or workload["rate_per_s"]
    mix = Mix(workload["name"], workload["reads"], workload["writes"], rate)
    tail = statistics.expanded_tail(passes.height, len(np.unique(strata)))
    found = OperationCosts(names, growing, targets, mix, tail, passes.height, _void(run, valid))
    return _with_error(found, mixes, rng)


def _target(
    own: pl.DataFrame, names: list[str], growing: list[str], parts: list[str], times: Floats, start: Floats
) -> TargetCosts:
    """Fitted with a slope for each growing read, then again with those slopes alone that are steep and certain."""
    scale = own.select(pl.col("cpu").median().over("cell").clip(CPU_FLOOR_US)).to_series().to_numpy()
    x, block = own.select(*names, *map(GROWN.format, growing)).to_numpy(), own["block"].to_numpy().astype(np.int64)
    kept = np.full(x.shape[1], True)
    if growing:
        total = equations(x, own["cpu"].to_numpy(), scale, block)
        slopes, drawn = solve(total)[0][len(names) :], solve(total, times)[:, len(names) :]
        steep = slopes > SLOPE_MIN * solve(total)[0][[names.index(name) for name in growing]]
        kept[len(names) :] = steep & (np.quantile(drawn, CHANCE, axis=0) > 0)
    total, *sums = (equations(x[:, kept], own[part].to_numpy(), scale, block) for part in ("cpu", *parts))

    def placed(costs: Floats) -> Floats:
        found = np.zeros((len(costs), len(kept)))
        found[:, kept] = costs
        return found

    by_component = {part: placed(solve(each))[0] for part, each in zip(parts, sums, strict=True) if each.right.any()}
    return TargetCosts(placed(solve(total))[0], placed(solve(total, times)) * np.exp(start), by_component)


def _growing(run: Run, names: list[str]) -> list[str]:
    """The reads: a write finds what it changes by its key."""
    reads = set(run.samples.filter(pl.col("kind") == "read")["operation"].unique())
    return [name for name in names if name in reads]


def _with_error(costs: OperationCosts, mixes: pl.DataFrame, rng: np.random.Generator) -> OperationCosts:
    """Every draw of a target times what its prediction lacks of whole mixes: one part for all targets, one for each."""
    off, off_ratio = [], []
    columns = [*costs.names, *map(GROWN.format, costs.growing)]
    for _, rows in mixes.group_by("cell", maintain_order=True):
        found, drawn = [], []
        for name, target in costs.targets.items():
            own = rows.filter(pl.col("target") == name).sort("round")
            x = own.select(columns).to_numpy()
            with np.errstate(divide="ignore", invalid="ignore"):
                found.append(np.nan_to_num(np.log(own["cpu"].to_numpy() / (x @ target.us))))
                drawn.append(np.nan_to_num(np.log(target.drawn @ x.mean(axis=0))))
        off += [_beyond_noise(*pair) for pair in zip(found, drawn, strict=True)]
        others = zip(found[1:], drawn[1:], strict=True)
        off_ratio += [_beyond_noise(other - found[0], draws - drawn[0]) for other, draws in others]
    whole, ratio_error = (math.sqrt(max(0.0, float(np.mean(each or [0.0])))) for each in (off, off_ratio))
    apart = ratio_error / math.sqrt(2)
    error = max(whole, apart)
    shared = rng.normal(0, math.sqrt(error**2 - apart**2), (RESAMPLES, 1))
    wider = {
        name: target._replace(drawn=target.drawn * np.exp(shared + rng.normal(0, apart, (RESAMPLES, 1))))
        for name, target in costs.targets.items()
    }
    return costs._replace(targets=wider, error=error, ratio_error=ratio_error)


def _beyond_noise(off: Floats, drawn: Floats) -> float:
    """The square of a mean error by round, without what the rounds and the fitted costs scatter themselves."""
    return float(off.mean() ** 2 - off.var(ddof=1) / len(off) - drawn.var()) if len(off) > 1 else 0.0


def _void(run: Run, valid: Validity) -> str | None:
    fitted = run.slices.filter(~pl.col("cell").str.starts_with(MIX))  # a whole mix is a check, no part of the fit
    cells = fitted.select("round", "cell").unique().join(valid.rounds, on="round")
    gone = cells.group_by("cell", maintain_order=True).agg(void=pl.col("reason").is_not_null().mean())
    for cell, void in gone.sort("void", "cell", descending=[True, False]).iter_rows():
        if void > valid.void_share_max:
            lost = cells.filter(pl.col("cell") == cell)["reason"].drop_nulls().to_list()
            most = max(REASONS, key=lost.count)
            return f"{100 * void:.0f}% of the rounds of {cell} are void: {REASONS[most]}; {CURES[most]}"
    return None
