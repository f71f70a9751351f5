"""What a run of kind `capacity` found: the highest rate that held, what failed above it, and the projector's limit."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from rich.console import RenderableType
from scipy.optimize import nnls

from analysis.findings import EXTERNAL, SEED
from analysis.layout import Sheet, page
from analysis.operations import growth_lines
from analysis.runs import Run, UnusableRun, is_worker, open_run, read_table
from analysis.statistics import Floats, Interval, NotComputable, quantiles
from loadtests.format import OF_CAPACITY

OTHERS_MAX = 0.05  # of the machine: what is taken by processes that are neither target nor generator
RATES_MIN = 6  # different loads the scalability law takes (Gunther advises at least six)
SPAN_MIN = 4.0  # between the least and the most in flight: less shows no bend
REACH = 2.0  # how far beyond the most in flight the law is drawn and asked, at most
RESAMPLES = 1_000
UNDECIDED = {  # what kept a rate from being tried, by the limit of its edge
    "generator": "the load generator used over 70% of a core and was the limit",
    "void": "too few trials count: the hypervisor or a quota took the CPU away",
}
STEADY = ~pl.col("failures").str.contains("grows|dropped|errors")  # trials the scalability law may be fitted to


class Edge(NamedTuple):
    """Between the highest rate that held and the lowest above it that did not; `limits` says what the latter met."""

    held_per_s: float | None
    failed_per_s: float | None
    limits: str | None  # "failed", "generator", "other", or "void": too few of its trials count
    failures: str  # of that rate's trials


class Law(NamedTuple):
    """The Universal Scalability Law (Gunther 1993; 2007, "Guerrilla Capacity Planning"): X(N) = λN / (1 + σ(N − 1) +
    κN(N − 1)): N operations in flight on average, λ the throughput of one alone, σ what they wait for one another, κ
    what they cost one another.
    """

    rows: Floats  # (λ, σ, κ), the estimate first, then one row a bootstrap draw
    in_flight_max: float  # measured

    def throughput(self, in_flight: Floats | float) -> Floats:
        """Operations a second, one row an estimate or draw; asked beyond its reach it raises NotComputable."""
        n = np.atleast_1d(np.asarray(in_flight, dtype=np.float64))
        if n.max() > REACH * self.in_flight_max * (1 + 1e-9):
            raise NotComputable(f"the law is not extrapolated beyond {REACH:g} times the range measured")
        one, wait, cross = (self.rows[:, [column]] for column in range(3))
        found: Floats = one * n / (1 + wait * (n - 1) + cross * n * (n - 1))
        return found

    def interval(self, values: Floats) -> Interval:
        return quantiles(values[1:])

    @property
    def peak(self) -> float | None:
        """Where throughput is highest, in operations in flight; None beyond the reach, or where κ may be zero."""
        _, wait, cross = self.rows[0]
        certain = self.interval(self.rows[:, [2]]).low > 0
        at = math.sqrt(max(0.0, 1 - wait) / cross) if certain else math.inf
        return at if at <= REACH * self.in_flight_max else None


class Found(NamedTuple):
    """`trials`: every trial but the warm-up, with its phase, drain_us and lag_events_at_end."""

    run: Run
    trials: pl.DataFrame
    lag: pl.DataFrame
    capacity: Edge
    cliff: Edge | None  # None: nothing ever lagged
    law: Law | str  # why there is none

    @property
    def target(self) -> str:
        return self.run.targets[0]

    @property
    def goal(self) -> tuple[float, float]:
        goal = self.run.manifest.goal
        assert goal is not None, "a run of this kind has one"
        return goal["p95_ms"], goal["freshness_ms"]


def find(folder: str | Path) -> Found:
    """Raises UnusableRun when the run gives no figures."""
    run = open_run(folder)
    if run.manifest.kind != "capacity":
        raise UnusableRun(f"{folder} is a run of kind {run.manifest.kind}: it searched for no capacity.")
    frames = {table: read_table(run.folder, run.manifest.files, table) for table in OF_CAPACITY}
    slices = run.slices.select("slice", "phase", "drain_us", "lag_events_at_end", "read_share_pct")
    trials = frames["trials"].join(slices, on="slice").filter(pl.col("phase") != "warmup").sort("slice")
    cliff = trials.filter(pl.col("phase") == "cliff")
    capacity = trials.filter(pl.col("phase") == "capacity")
    steady = capacity.filter(STEADY, pl.col("in_flight") > 0)
    try:
        law: Law | str = fit_law(*steady.select("in_flight", "throughput_per_s").to_numpy().T, seed=SEED)
    except NotComputable as why:
        law = str(why)
    return Found(run, trials, frames["lag"], edge(capacity), None if cliff.is_empty() else edge(cliff), law)


def fit_law(in_flight: Floats, throughput_per_s: Floats, *, seed: int) -> Law:
    """Non-negative least squares of relative errors in its linear form N/X = (1 + σ(N − 1) + κN(N − 1)) / λ.

    Intervals by bootstrap over trials; raises NotComputable when there are not enough points.
    """
    if len(np.unique(np.round(throughput_per_s / throughput_per_s.max(initial=0.0), 2))) < RATES_MIN:
        raise NotComputable(f"not enough points: it takes steady trials at {RATES_MIN} different loads")
    if in_flight.max() < SPAN_MIN * in_flight.min():
        raise NotComputable(f"not enough points: the most in flight must be {SPAN_MIN:g} times the least")
    rng = np.random.default_rng(seed)
    picks = [np.arange(len(in_flight)), *rng.integers(0, len(in_flight), (RESAMPLES, len(in_flight)))]
    rows = [_fit(in_flight[pick], throughput_per_s[pick]) for pick in picks]
    return Law(np.array([row for row in rows if row is not None]), float(in_flight.max()))


def _fit(n: Floats, x: Floats) -> tuple[float, float, float] | None:
    """(λ, σ, κ); None when a draw fits nothing."""
    columns = np.stack([np.ones_like(n), n - 1, n * (n - 1)], axis=1) * (x / n)[:, None]
    (one, wait, cross), _ = nnls(columns, np.ones_like(n))
    return (1 / one, wait / one, cross / one) if one > 0 else None


def edge(trials: pl.DataFrame) -> Edge:
    """Of each rate's trials that count two decide; above the highest that held the lowest that failed is the edge."""
    held, outcome = None, pl.col("outcome")
    counts = outcome != "void"
    rates = trials.group_by("rate_per_s").agg(
        held=(outcome == "held").sum() >= 2, outcomes=outcome.filter(counts), failures=pl.col("failures").filter(counts)
    )
    for rate, holds, _, _ in rates.sort("rate_per_s").iter_rows():
        held = float(rate) if holds else held
    for rate, holds, outcomes, failures in rates.sort("rate_per_s").iter_rows():
        if not holds and rate > (held or 0):
            # One busy generator is enough: the target may have had nothing to do with it.
            limits = "generator" if "generator" in outcomes else max(("other", "failed"), key=outcomes.count)
            limits = "void" if {*outcomes} <= {"held"} else limits
            return Edge(held, float(rate), limits, _met(failures))
    return Edge(held, None, None, "")


def sentences(found: Found) -> list[str]:
    """The answer first."""
    share = found.run.manifest.fingerprint.read_shares[0]
    return [
        f"{found.target}: {capacity_text(found.capacity)}. Target: {goal_text(found)}, at {share:g}% reads.",
        *usage_text(found),
        *growth_lines(found.run),
        cliff_text(found),
        burst_text(found),
        law_text(found.law),
        "The load generator and the servers shared this machine's cores: alone, the target would hold more."
        + noise_text(found.trials),
    ]


def goal_text(found: Found) -> str:
    p95_ms, freshness_ms = found.goal
    return f"p95 within {p95_ms:g} ms and 95% of writes visible within {freshness_ms:g} ms"


def usage_text(found: Found) -> list[str]:
    """Of the cores at the highest rate that held, and the rate that the bottleneck law computes from it."""
    rate, cores = found.capacity.held_per_s, found.run.manifest.fingerprint.machine.get("cores")
    of_rate = (pl.col("phase") == "capacity") & (pl.col("rate_per_s") == rate) & (pl.col("outcome") == "held")
    slices = pl.col("slice").is_in(found.trials.filter(of_rate)["slice"].to_list())
    own, cpu = found.run.slices.filter(slices), found.run.cpu.filter(slices)
    if not rate or not cores or cpu.is_empty():
        return []
    wall_us = float(own["wall_us"].sum())
    used = {name: us / wall_us for name, us in cpu.group_by("component").agg(pl.col("cpu_us").sum()).iter_rows()}
    everything = (sum(used.values()) + float(own["generator_cpu_us"].sum()) / wall_us) / cores
    # How many processes a service of the user's own has is not known.
    ours = [name for name in used if name == "app" or is_worker(name)]  # one process each
    single = {} if EXTERNAL in found.run.rungs.values() else {name: used[name] for name in ours}
    name, most = max(single.items(), key=lambda each: each[1], default=("", 0.0))
    others = found.trials.filter(of_rate)["others_share"].mean()
    left = 1 - (float(others) if isinstance(others, float) else 0.0)
    busiest = min(1.0, max(everything / left, most))
    return [
        f"At {rate:,.0f}/s all components and the load generator used {100 * everything:.0f}% of {cores} cores"
        + f" (other processes {100 * (1 - left):.0f}%)" * (1 - left > OTHERS_MAX)
        + f", {name} {100 * most:.0f}% of the one core it can use" * bool(name)
        + f". Computed, if nothing ever waited: {rate / busiest:,.0f}/s. {100 * busiest:.0f}% of that held, as queues "
        "grow long before it."
    ]


def noise_text(trials: pl.DataFrame) -> str:
    """Where other processes were at work; nothing where that is unknown."""
    most = max(trials["others_share"].drop_nulls(), default=0.0)
    used = f" Other processes used up to {100 * most:.0f}% of the machine in a trial: failures may be due to them."
    return used if most > OTHERS_MAX else ""


def capacity_text(edge: Edge) -> str:
    held = "held at no rate" if edge.held_per_s is None else f"holds {edge.held_per_s:,.0f} operations/s"
    if edge.failed_per_s is None:
        return held
    if edge.limits in UNDECIDED:
        least = "no capacity was measured" if edge.held_per_s is None else f"at least: {held}"
        return f"{least}; at {edge.failed_per_s:,.0f}/s {UNDECIDED[edge.limits]}"
    return f"{held}; fails at {edge.failed_per_s:,.0f}/s ({edge.failures})"


def cliff_text(found: Found) -> str:
    cliff = found.cliff
    if cliff is None:
        return "Projector limit: none to find, no projection lagged behind in any trial."
    held = "keeps up at no rate" if cliff.held_per_s is None else f"keeps up with {cliff.held_per_s:,.0f} writes/s"
    if cliff.limits == "failed":
        rows = found.trials.filter((pl.col("phase") == "cliff") & (pl.col("rate_per_s") == cliff.failed_per_s))
        worst = rows.sort("lag_slope_per_s").row(-1, named=True)
        return f"Projector limit: it {held}; at {cliff.failed_per_s:,.0f}/s the lag grows by {_slope(worst)} events/s."
    what = UNDECIDED.get(cliff.limits or "", "the command side failed first")
    at = "" if cliff.failed_per_s is None else f"; at {cliff.failed_per_s:,.0f}/s {what}"
    return f"Projector limit: not reached. It {held}{at}."


def burst_text(found: Found) -> str:
    bursts = found.trials.filter(pl.col("phase") == "burst")
    if bursts.is_empty():
        return "There was no burst to drain."
    burst = bursts.row(-1, named=True)
    most = max(found.lag.filter(pl.col("slice") == burst["slice"])["lag_events"], default=0)
    return (
        f"After a burst of {burst['rate_per_s']:,.0f} writes/s the backlog of up to {most:,} events drained in "
        f"{burst['drain_us'] / 1000:,.0f} ms."
    )


def law_text(law: Law | str) -> str:
    if isinstance(law, str):
        return f"Universal Scalability Law: {law}."
    one, wait, cross = law.rows[0]
    (_, wait_range, cross_range) = (law.interval(law.rows[:, column]) for column in range(3))
    low, high = law.interval(law.throughput(law.in_flight_max))
    most = f"{law.throughput(law.in_flight_max)[0, 0]:,.0f} [{low:,.0f}–{high:,.0f}] operations/s"
    none = f"no peak up to {REACH * law.in_flight_max:.0f}, twice what was measured"
    return (
        f"Universal Scalability Law: λ {one:,.0f}/s, σ {wait:.3f} [{wait_range.low:.3g}–{wait_range.high:.3g}], "
        f"κ {cross:.5f} [{cross_range.low:.3g}–{cross_range.high:.3g}]; with {law.in_flight_max:.1f} in flight {most}; "
        f"{f'its peak is at {law.peak:.1f}' if law.peak else none}."
    )


def _slope(row: dict[str, Any]) -> str:
    """With its 95% interval; to the tenth where tenths matter."""
    digits = 1 if abs(row["lag_slope_per_s"]) < 10 else 0
    slope, low, high = (f"{row[f'lag_slope_{end}']:,.{digits}f}" for end in ("per_s", "low", "high"))
    return f"{slope} [{low} to {high}]"


def render(folder: str | Path) -> RenderableType:
    """The trials by rate, and what follows from them."""
    found = find(folder)
    measured = ["held", "p95 ms", "stale\nwhen due", "in\nflight", "lag grows by\nevents/s", "generator\nCPU"]
    sheet = Sheet(["<searched", "rate/s", *measured, "<failures"], split=6)
    ordered = found.trials.sort(pl.col("phase") == "burst", "phase", "rate_per_s")
    for (phase, rate), rows in ordered.group_by("phase", "rate_per_s", maintain_order=True):
        middle, counted = rows.median(), rows.filter(pl.col("outcome") != "void")
        sheet.add(
            str(phase),
            f"{rate:,.0f}",
            f"{(counted['outcome'] == 'held').sum()} of {counted.height}",
            f"{middle['p95_us'][0] / 1000:,.1f}",
            f"{100 * middle['stale_share'][0]:.0f}%",
            f"{middle['in_flight'][0]:,.1f}",
            _slope(rows.sort("lag_slope_per_s").row(rows.height // 2, named=True)),
            f"{100 * middle['generator_core_share'][0]:.0f}%",
            _met(rows["failures"]),
        )
    answer, *others = sentences(found)
    return page("", sheet, notes=others, answer=answer)


def _met(failures: Iterable[str]) -> str:
    """Each failure once, in the order it was met."""
    return ", ".join(dict.fromkeys(name for trial in failures for name in trial.split(", ") if name))
