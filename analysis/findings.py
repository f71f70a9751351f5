"""Every result of a run, computed once: tables, plots, report and the machine-readable summary all read this."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import polars as pl
from numpy import int64
from numpy.typing import NDArray

from analysis import costs as by_slice
from analysis import crossover, operations, runs, staleness, validity
from analysis.costs import Cost, cost_of, family
from analysis.crossover import Crossover
from analysis.hits import Hits, hits
from analysis.latency import Latency, latency, medians
from analysis.operations import OperationCosts
from analysis.runs import Run
from analysis.staleness import TokenPrice, Visibility
from analysis.statistics import Comparison, Floats, Interval, compare
from analysis.validity import Validity

SEED = 20_240_607  # of every resampling: the same run gives the same figures
EXTERNAL = "external"  # the rung of a target that is the user's own: two of them need not be identical


class Cell(NamedTuple):
    """One target at one read share; None stands for what was not measured or is void."""

    read_share_pct: float
    target: str
    cost: Cost | None
    latency: Latency | None
    visibility: Visibility | None
    comparison: Comparison | None  # of CPU with the baseline; None for the baseline
    interval_us: Interval | None = None  # of the cost, where it was fitted
    operation: str | None = None  # where the cell is one operation by itself
    token: TokenPrice | None = None
    step: Comparison | None = None  # of CPU with the target of its parent rung, where that is not the baseline
    faster: Comparison | None = None  # of median latency with the baseline, where CPU is not known
    hits: Hits | None = None  # of its cache

    @property
    def where(self) -> str:
        return self.operation or f"{self.read_share_pct:g}%"


class Identical(NamedTuple):
    """An A/A pair, two targets of the same rung: whatever differs between them is noise."""

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
    cells: tuple[Cell, ...] = ()
    crossovers: dict[str, Crossover] = {}  # by target
    identical: tuple[Identical, ...] = ()
    cheapest: dict[float, str] = {}  # by read share the target with the fewest parts of those that use the least CPU
    operations: OperationCosts | None = None  # of a run of kind `costs`, which has no cells

    @property
    def read_shares(self) -> list[float]:
        return sorted({cell.read_share_pct for cell in self.cells})

    @property
    def challengers(self) -> list[str]:
        """The targets that are compared with the baseline: all others, A/A controls of the baseline not counted."""
        return [name for name in self.run.targets if name in self.crossovers]

    @property
    def components(self) -> list[str]:
        """Every component with a cost in this run."""
        fitted = self.operations.targets.values() if self.operations else ()
        costs = [*fitted, *(cell.cost for cell in self.cells if cell.cost)]
        return sorted({name for cost in costs for name in cost.by_component_us})

    def cell(self, read_share_pct: float, target: str) -> Cell:
        return next(cell for cell in self.cells if (cell.read_share_pct, cell.target) == (read_share_pct, target))

    def of(self, target: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.target == target]

    def compared(self, *targets: str) -> list[tuple[Cell, Comparison]]:
        """The comparisons of these targets with the baseline, of all of them by default, each with its cell."""
        wanted = [cell for cell in self.cells if not targets or cell.target in targets]
        return [(cell, cell.comparison) for cell in wanted if cell.comparison]

    @property
    def parents(self) -> dict[str, str]:
        """By challenger the target of its parent rung, where that was measured and is not the baseline."""
        infos = self.run.manifest.fingerprint.targets
        first = {info.rung: info.name for info in reversed(infos)}
        found = {info.name: first[info.parent] for info in infos if info.parent in first}
        return {name: found[name] for name in self.challengers if found.get(name, self.baseline) != self.baseline}

    def parts(self, target: str) -> list[str]:
        """What runs of a target, by the CPU accounts; empty where its processes are not known."""
        own = self.run.slices.filter(pl.col("target") == target)["slice"].to_list()
        return sorted(self.run.cpu.filter(pl.col("slice").is_in(own))["component"].unique())

    @property
    def void(self) -> str | None:
        """Why the whole run is void: an A/A pair differs."""
        failed = [pair for pair in self.identical if pair.failed]
        return f"the A/A pair {failed[0].one} and {failed[0].other} differs: the whole run is void" if failed else None

    def unmeasured(self, *targets: str) -> str | None:
        """The reason when the CPU of one of these is unknown."""
        known = self.costs.filter(pl.col("cpu_us") > 0)["target"]
        missing = [name for name in targets if name not in known] if len(self.costs) else []
        return f"the CPU of {missing[0]} was not measured" if missing else None


def find(folder: str | Path) -> Findings:
    """Reads and judges a run, once for each state of its folder; raises UnusableRun when it gives no figures."""
    path = Path(folder).resolve()
    files = sorted(path.glob("rounds/*/*.parquet")) + sorted(path.glob("manifest.json"))
    return _find(path, tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@lru_cache(maxsize=4)
def _find(path: Path, _state: tuple[tuple[str, int, int], ...]) -> Findings:
    """`_state` makes a changed folder a new question."""
    run = runs.open_run(path)
    valid = validity.judge(run)
    costs = by_slice.slice_costs(run).filter(pl.col("round").is_in(valid.good_rounds()))
    baseline, *others = run.targets
    challengers = [name for name in others if run.rungs[name] != run.rungs[baseline] or run.rungs[name] == EXTERNAL]
    found = Findings(run, valid, costs, baseline, identical=_identical_pairs(run, costs))
    if run.manifest.kind == "costs":
        fitted = operations.fit(run, valid, seed=SEED)
        fitted = fitted._replace(void=found.void or fitted.void)
        meets = {name: operations.crossover(fitted, fitted.mix, baseline, name) for name in challengers}
        return found._replace(crossovers=meets, operations=fitted)
    shares = sorted(valid.rounds["read_share_pct"].unique())
    compared = _comparisons(found, shares, challengers)
    compared |= _comparisons(found, shares, [name for name in others if name not in challengers])
    meets = {name: _crossover(found, shares, name, compared) for name in challengers}
    found = found._replace(crossovers=meets)
    steps = _comparisons(found, shares, [*found.parents], found.parents)
    faster = _faster(found, shares)
    cells = [
        _cell(found, key, compared.get(key))._replace(step=steps.get(key), faster=faster.get(key))
        for key in ((share, name) for share in shares for name in run.targets)
    ]
    found = found._replace(cells=tuple(cells))
    return found._replace(cheapest={share: name for share in shares if (name := _cheapest(found, share))})


def _cell(found: Findings, key: tuple[float, str], comparison: Comparison | None) -> Cell:
    run, (share, name) = found.run, key
    token = token_price(run, name, share)
    cost, late = cost_of(run, found.costs, share, name), latency(run, found.validity, share, name)
    seen = staleness.visibility(staleness_rows(run, name, share))
    hit = hits(run, found.validity.good_rounds(), share, name, seed=SEED)
    return Cell(share, name, cost, late, seen, comparison, token=token, hits=hit)


def _identical_pairs(run: Run, costs: pl.DataFrame) -> tuple[Identical, ...]:
    """A/A: targets of one rung of ours, compared over all read shares at once: one interval, one chance to be wrong."""
    pairs = [pair for pair in combinations(run.targets, 2) if run.rungs[pair[0]] == run.rungs[pair[1]] != EXTERNAL]
    return tuple(Identical(*pair, judged(run, [family(costs, *pair, None)])[0]) for pair in pairs)


def _comparisons(
    found: Findings, shares: Sequence[float], names: list[str], against: Mapping[str, str] = {}
) -> dict[tuple[float, str], Comparison]:
    """Holm's family: CPU per operation of all these targets at every read share, against the baseline by default."""
    keys = [(share, name) for share in shares for name in names]
    base = {name: against.get(name, found.baseline) for name in names}
    compared = judged(found.run, [family(found.costs, base[name], name, share) for share, name in keys])
    unmeasured = {name: found.unmeasured(base[name], name) for name in names}
    return {
        (share, name): _unless(comparison, found.void or found.validity.too_many_gone(share) or unmeasured[name])
        for (share, name), comparison in zip(keys, compared, strict=True)
    }


def _faster(found: Findings, shares: Sequence[float]) -> dict[tuple[float, str], Comparison]:
    """The same of the median latency, for targets whose CPU cannot be compared: a family of its own."""
    names = [name for name in found.challengers if found.unmeasured(found.baseline, name)]
    keys = [(share, name) for share in shares for name in names]
    rows = [medians(found.run, found.validity, found.baseline, name, share) for share, name in keys]
    return {
        key: _unless(comparison, found.void or found.validity.too_many_gone(key[0]))
        for key, comparison in zip(keys, judged(found.run, rows), strict=True)
    }


def _unless(comparison: Comparison, why: str | None) -> Comparison:
    return comparison._replace(verdict="inconclusive", reason=why) if why else comparison


def _cheapest(found: Findings, share: float) -> str | None:
    """Of the targets that nothing shows to use more CPU than the one that uses the least, the one with fewest parts.

    None where CPU gives no interval to choose by.
    """
    known = {
        name: comparison
        for name in found.challengers
        if (comparison := found.cell(share, name).comparison) and comparison.interval and found.parts(name) != ["app"]
    }
    if found.void or found.validity.too_many_gone(share):
        return None
    if not known:
        return _fastest(found, share)
    worse = {name for name, each in known.items() if each.verdict == "worse"}
    if any(each.verdict == "better" for each in known.values()):
        least = min(known, key=lambda name: known[name].ratio or 1.0)
        others = [name for name in known if name not in (least, *worse)]
        compared = judged(found.run, [family(found.costs, least, name, share) for name in others])
        shown = {name for name, each in zip(others, compared, strict=True) if each.verdict == "worse"}
        worse |= {found.baseline} | shown
    as_cheap = [name for name in (found.baseline, *known) if name not in worse]
    return min(as_cheap, key=lambda name: len(found.parts(name)))


def judged(run: Run, families: list[tuple[Floats, NDArray[int64]]]) -> list[Comparison]:
    """By the limits that the run carries; what is judged together was announced together."""
    limits = run.manifest.thresholds
    return compare(families, delta=limits.equivalence_delta, start_sd=limits.start_sd, seed=SEED)


def _fastest(found: Findings, share: float) -> str | None:
    """The same by median latency, where there is no CPU to compare and the verdict is clear."""
    judged_ = {name: cell.faster for name in found.challengers if (cell := found.cell(share, name)).faster}
    better = {name: each.ratio for name, each in judged_.items() if each and each.verdict == "better" and each.ratio}
    if better:
        return min(better, key=better.__getitem__)
    clear = judged_ and all(each and each.verdict == "worse" for each in judged_.values())
    return found.baseline if clear else None


def _crossover(
    run: Findings, shares: Sequence[float], target: str, compared: dict[tuple[float, str], Comparison]
) -> Crossover:
    """The fit over read shares that kept enough rounds; withdrawn where it contradicts what was measured."""
    kept = [share for share in shares if not run.validity.too_many_gone(share)]
    if len(kept) < len(shares) and len(kept) < 2:
        lost = ", ".join(f"{share:g}" for share in shares if share not in kept)
        most = 100 * run.validity.void_share_max
        return Crossover("inconclusive", f"more than {most:.0f}% of the rounds are void at {lost}% reads")
    if unmeasured := run.unmeasured(run.baseline, target):
        return Crossover("inconclusive", unmeasured)
    usable = run.costs.filter(pl.col("read_share_pct").is_in(kept))
    start_sd = run.run.manifest.thresholds.start_sd
    found = crossover.find(usable, run.baseline, target, start_sd=start_sd, seed=SEED)
    if run.void:
        return found.withdrawn(run.void)
    if all(compared[share, target].verdict == "equivalent" for share in shares):
        return found._replace(answer="equal", reason="every interval lies inside the equivalence bounds")
    for check in found.checks:
        verdict = compared[check.read_share_pct, target].verdict
        if (verdict == "better" and check.predicted > 1) or (verdict == "worse" and check.predicted < 1):
            return found.withdrawn(f"at {check.read_share_pct:g}% reads the fit contradicts the measured ratio")
    return found


def staleness_rows(run: Run, target: str, share: float | None = None, table: str = "staleness") -> pl.DataFrame:
    """Probe reads of a target outside the warm-up, or pairs of them, at one read share or at all."""
    slices = _slices(run, target, share).filter(~pl.col("phase").is_in(["warmup", "stolen"]))
    rows: pl.DataFrame = getattr(run, table)
    return rows.filter(pl.col("slice").is_in(slices["slice"].to_list()))


def token_price(run: Run, target: str, share: float | None = None) -> TokenPrice | None:
    return staleness.token_price(staleness_rows(run, target, share, "tokens"), seed=SEED)


def _slices(run: Run, target: str, share: float | None) -> pl.DataFrame:
    own = run.slices.filter(pl.col("target") == target)
    return own if share is None else own.filter(pl.col("read_share_pct") == share)
