"""Everything a run says, computed once: tables, plots, report and the machine-readable summary all read this."""

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis import crossover, operations, runs, staleness, validity
from analysis.costs import Cost, cost_of, family, in_order, slice_costs
from analysis.crossover import Crossover
from analysis.operations import OperationCosts
from analysis.runs import Run
from analysis.staleness import TokenPrice, Visibility
from analysis.statistics import Comparison, Floats, Interval, compare
from analysis.validity import Validity

SEED = 20_240_607  # of every resampling: the same run gives the same figures


class Latency(NamedTuple):
    """From the intended start, all samples of valid rounds, ms; a description, not a comparison."""

    samples: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    service_p50_ms: float


class Cell(NamedTuple):
    """One target at one read share; None stands for what was not measured or is void."""

    read_share_pct: float
    target: str
    cost: Cost | None
    latency: Latency | None
    visibility: Visibility | None
    comparison: Comparison | None  # None for the baseline
    interval_us: Interval | None = None  # of the cost, where it was fitted
    operation: str | None = None  # where the cell is one operation by itself
    token: TokenPrice | None = None


class Identical(NamedTuple):
    """A pair of targets of the same rung: whatever differs between them is noise."""

    one: str
    other: str
    comparison: Comparison

    @property
    def failed(self) -> bool:
        interval = self.comparison.interval
        return interval is not None and not interval.low <= 1 <= interval.high


class Findings(NamedTuple):
    run: Run
    validity: Validity
    costs: pl.DataFrame  # slice_costs() of the rounds whose CPU counts
    baseline: str
    cells: tuple[Cell, ...]
    crossovers: dict[str, Crossover]  # by target
    identical: tuple[Identical, ...]
    operations: OperationCosts | None = None  # of a run of kind `costs`, which has no cells

    @property
    def read_shares(self) -> list[float]:
        return sorted({cell.read_share_pct for cell in self.cells})

    @property
    def challengers(self) -> list[str]:
        """The targets that are compared with the baseline: all others, twins of the baseline not counted."""
        return [name for name in self.run.targets if name in self.crossovers]

    def cell(self, read_share_pct: float, target: str) -> Cell:
        return next(cell for cell in self.cells if (cell.read_share_pct, cell.target) == (read_share_pct, target))


def find(folder: str | Path) -> Findings:
    """Reads and judges a run, once for each state of its folder; raises UnusableRun when it gives no figures."""
    path = Path(folder).resolve()
    files = sorted(path.glob("rounds/*/*.parquet")) + sorted(path.glob("manifest.json"))
    state = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return _find(path, state)


@lru_cache(maxsize=4)
def _find(path: Path, _state: tuple[tuple[str, int, int], ...]) -> Findings:
    """`_state` makes a changed folder a new question."""
    run = runs.open_run(path)
    valid = validity.judge(run)
    by_slice = slice_costs(run)
    costs = by_slice.filter(pl.col("round").is_in(valid.cpu_rounds()))
    baseline, *others = run.targets
    challengers = [name for name in others if run.rungs[name] != run.rungs[baseline] or run.rungs[name] == "external"]
    shares = sorted(valid.rounds["read_share_pct"].unique())
    identical = _identical_pairs(run, costs)
    if run.manifest.kind == "costs":
        fitted = operations.fit(run, valid, seed=SEED)
        if failed := [pair for pair in identical if pair.failed]:
            fitted = fitted._replace(doubt=f"the identical pair {failed[0].one} and {failed[0].other} differs")
        meets = {name: operations.crossover(fitted, fitted.mix, baseline, name) for name in challengers}
        return Findings(run, valid, costs, baseline, (), meets, identical, fitted)
    comparisons = _comparisons(run, valid, costs, shares, baseline, others, challengers, identical)
    cells = tuple(
        Cell(
            share,
            name,
            cost_of(run, costs, share, name),
            _latency(run, valid, share, name),
            _visibility(run, share, name),
            comparisons.get((share, name)),
            token=token_price(run, name, share),
        )
        for share in shares
        for name in run.targets
    )
    crossovers = {
        name: _crossover(run, valid, costs, shares, baseline, name, comparisons, identical) for name in challengers
    }
    return Findings(run, valid, costs, baseline, cells, crossovers, identical)


def components_of(findings: Findings) -> list[str]:
    """Every component with a cost in this run: the known ones in their order, then the others by name."""
    found = {name for cell in findings.cells if cell.cost for name in cell.cost.by_component_us}
    if findings.operations is not None:
        found = {name for costs in findings.operations.targets.values() for name in costs.by_component_us}
    return in_order(found)


def _identical_pairs(run: Run, costs: pl.DataFrame) -> tuple[Identical, ...]:
    """A/A: targets of one rung of ours, compared over all read shares at once: one interval, one chance to be wrong."""
    pairs = [
        (one, other)
        for place, one in enumerate(run.targets)
        for other in run.targets[place + 1 :]
        if run.rungs[one] == run.rungs[other] != "external"
    ]
    return tuple(Identical(one, other, judged(run, [family(costs, one, other, None)])[0]) for one, other in pairs)


def _comparisons(
    run: Run,
    valid: Validity,
    costs: pl.DataFrame,
    shares: list[float],
    baseline: str,
    others: list[str],
    challengers: list[str],
    identical: tuple[Identical, ...],
) -> dict[tuple[float, str], Comparison]:
    """Holm's family: CPU per operation of every challenger at every read share; twins are judged by themselves."""
    found: dict[tuple[float, str], Comparison] = {}
    for names in (challengers, [name for name in others if name not in challengers]):
        keys = [(share, name) for share in shares for name in names]
        compared = judged(run, [family(costs, baseline, name, share) for share, name in keys])
        for (share, name), comparison in zip(keys, compared, strict=True):
            found[share, name] = _withdrawn(comparison, _why_void(run, valid, costs, share, name, identical))
    return found


def judged(run: Run, families: list[tuple[Floats, NDArray[np.int64]]]) -> list[Comparison]:
    """By the limits that the run carries; what is judged together was announced together."""
    limits = run.manifest.thresholds
    return compare(families, delta=limits.equivalence_delta, start_sd=limits.start_sd, seed=SEED)


def _withdrawn(comparison: Comparison, why: str | None) -> Comparison:
    return comparison if why is None else comparison._replace(verdict="inconclusive", reason=why)


def _why_void(
    run: Run, valid: Validity, costs: pl.DataFrame, share: float, target: str, identical: tuple[Identical, ...]
) -> str | None:
    failed = [pair for pair in identical if pair.failed]
    if failed:
        return f"the identical pair {failed[0].one} and {failed[0].other} differs: the whole run is void"
    if valid.too_many_gone(share):
        return f"{100 * valid.void_share(share):.0f} % of the rounds are void"
    for name in (run.targets[0], target):
        if costs.filter(pl.col("target") == name)["cpu_us"].is_null().all() and not costs.is_empty():
            return f"the CPU of {name} was not measured"
    return None


def _crossover(
    run: Run,
    valid: Validity,
    costs: pl.DataFrame,
    shares: list[float],
    baseline: str,
    target: str,
    comparisons: dict[tuple[float, str], Comparison],
    identical: tuple[Identical, ...],
) -> Crossover:
    """The fit over read shares that kept enough rounds; withdrawn where it contradicts what was measured."""
    kept = [share for share in shares if not valid.too_many_gone(share)]
    if len(kept) < len(shares) and len(kept) < 2:
        gone = ", ".join(f"{share:g}" for share in shares if share not in kept)
        return Crossover(
            "inconclusive", f"more than {100 * valid.void_share_max:.0f} % of the rounds are void at {gone} % reads"
        )
    usable = costs.filter(pl.col("read_share_pct").is_in(kept) & (pl.col("cpu_us") > 0))
    unmeasured = [name for name in (baseline, target) if name not in usable["target"].unique()]
    if kept and unmeasured:
        return Crossover("inconclusive", f"the CPU of {unmeasured[0]} was not measured")
    found = crossover.find(usable, baseline, target, start_sd=run.manifest.thresholds.start_sd, seed=SEED)
    failed = next((pair for pair in identical if pair.failed), None)
    if failed:
        why = f"the identical pair {failed.one} and {failed.other} differs: the whole run is void"
        return found._replace(answer="inconclusive", reason=why)
    if all(comparisons[share, target].verdict == "equivalent" for share in shares):
        return found._replace(answer="equal", reason="every interval lies inside the equivalence bounds")
    for check in found.checks:
        verdict = comparisons[check.read_share_pct, target].verdict
        if (verdict == "better" and check.predicted > 1) or (verdict == "worse" and check.predicted < 1):
            why = f"at {check.read_share_pct:g} % reads the fit contradicts what was measured there"
            return found._replace(answer="inconclusive", reason=why)
    return found


def latency_samples(run: Run, valid: Validity, share: float, target: str) -> pl.DataFrame:
    """Answered samples of the rounds whose latency counts: latency_us from the intended start, service_us."""
    slices = run.slices.filter(
        (pl.col("read_share_pct") == share)
        & (pl.col("target") == target)
        & (pl.col("phase") == "measure")
        & pl.col("round").is_in(valid.latency_rounds())
    )
    answered = run.samples.filter(
        pl.col("slice").is_in(slices["slice"].to_list()) & pl.col("outcome").is_in(["ok", "refused"])
    )
    return answered.select(
        latency_us=pl.col("done_us") - pl.col("due_us"), service_us=pl.col("done_us") - pl.col("sent_us")
    )


def _latency(run: Run, valid: Validity, share: float, target: str) -> Latency | None:
    times = latency_samples(run, valid, share, target)
    if times.is_empty() or valid.too_many_gone(share, latency=True):
        return None
    p50, p95, p99 = (float(times["latency_us"].quantile(q, "higher") or math.nan) / 1000 for q in (0.50, 0.95, 0.99))
    return Latency(times.height, p50, p95, p99, float(times["service_us"].quantile(0.5, "higher") or math.nan) / 1000)


def staleness_rows(run: Run, target: str, share: float | None = None, table: str = "staleness") -> pl.DataFrame:
    """Probe reads of a target outside the warm-up, or pairs of them, at one read share or at all."""
    wanted = (pl.col("target") == target) & (pl.col("phase") != "warmup")
    if share is not None:
        wanted &= pl.col("read_share_pct") == share
    rows: pl.DataFrame = getattr(run, table)
    return rows.filter(pl.col("slice").is_in(run.slices.filter(wanted)["slice"].to_list()))


def token_price(run: Run, target: str, share: float | None = None) -> TokenPrice | None:
    return staleness.token_price(staleness_rows(run, target, share, "tokens"), seed=SEED)


def _visibility(run: Run, share: float, target: str) -> Visibility | None:
    return staleness.visibility(staleness_rows(run, target, share))
