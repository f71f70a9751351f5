"""What a run of kind `capacity` says: the highest rate that held, what gave way above it, and the projector's cliff."""

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis import scaling
from analysis.runs import Run, UnusableRun, open_run, read_table
from analysis.statistics import NotComputable
from loadtests.format import OF_CAPACITY

SEED = 20_240_607
OTHERS_MAX = 0.05  # of the machine: what is taken by processes that are neither target nor generator


class Edge(NamedTuple):
    """Between the highest rate that held and the lowest above it that did not; `limits` says what the latter met."""

    held_per_s: float | None
    failed_per_s: float | None
    limits: str | None  # "failed", "generator" or "other"
    failures: str  # of that rate's trials


class Found(NamedTuple):
    """`trials`: every trial but the warm-up, with its phase, drain_us and lag_events_at_end."""

    run: Run
    trials: pl.DataFrame
    lag: pl.DataFrame
    capacity: Edge
    cliff: Edge | None  # None: nothing ever lagged
    law: scaling.Law | str  # why there is none

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
        raise UnusableRun(f"{folder} is a run of kind {run.manifest.kind}: it looked for no capacity.")
    frames = {table: read_table(run.folder, run.manifest.files, table) for table in OF_CAPACITY}
    slices = run.slices.select("slice", "phase", "drain_us", "lag_events_at_end", "read_share_pct")
    trials = frames["trials"].join(slices, on="slice").filter(pl.col("phase") != "warmup").sort("slice")
    cliff = trials.filter(pl.col("phase") == "cliff")
    steady = trials.filter((pl.col("phase") == "capacity") & ~pl.col("failures").str.contains("grows|dropped|errors"))
    try:
        law: scaling.Law | str = scaling.fit(
            steady["in_flight"].to_numpy(), steady["throughput_per_s"].to_numpy(), seed=SEED
        )
    except NotComputable as why:
        law = str(why)
    capacity = edge(trials.filter(pl.col("phase") == "capacity"))
    return Found(run, trials, frames["lag"], capacity, None if cliff.is_empty() else edge(cliff), law)


def edge(trials: pl.DataFrame) -> Edge:
    """Of each rate's trials that count two decide; above the highest that held the lowest that failed is the edge."""
    rates = (
        trials.filter(pl.col("outcome") != "void")
        .group_by("rate_per_s")
        .agg(held=(pl.col("outcome") == "held").sum() >= 2, outcomes=pl.col("outcome"), failures=pl.col("failures"))
        .sort("rate_per_s")
    )
    held = rates.filter("held")["rate_per_s"].max()
    above = rates.filter(~pl.col("held") & (pl.col("rate_per_s") > (held or 0)))
    if above.is_empty():
        return Edge(None if held is None else float(str(held)), None, None, "")
    rate, _, outcomes, failures = above.row(0)
    # One busy generator is enough: the target may have had nothing to do with it.
    limits = "generator" if "generator" in outcomes else max(("other", "failed"), key=outcomes.count)
    met = dict.fromkeys(name for trial in failures for name in trial.split(", ") if name)
    return Edge(None if held is None else float(str(held)), float(rate), limits, ", ".join(met))


def sentences(found: Found) -> list[str]:
    """The answer first."""
    p95_ms, freshness_ms = found.goal
    share = found.run.manifest.fingerprint.read_shares[0]
    goal = f"p95 within {p95_ms:g} ms and 95 % of writes seen after {freshness_ms:g} ms, at {share:g} % reads"
    return [
        f"{found.target}: {capacity_text(found.capacity)} ({goal}).",
        cliff_text(found),
        burst_text(found),
        law_text(found.law),
        "The load generator and the servers shared this machine's cores: alone, the target would hold more."
        + noise_text(found.trials),
    ]


def noise_text(trials: pl.DataFrame) -> str:
    """Where somebody else was at work; what is not known is not told."""
    most = max(trials["others_share"].drop_nulls(), default=0.0)
    if most <= OTHERS_MAX:
        return ""
    return (
        f" Other processes took up to {100 * most:.0f} % of the machine in a trial: what gave way may be their doing."
    )


def capacity_text(edge: Edge) -> str:
    held = "no rate that was tried holds" if edge.held_per_s is None else f"holds {edge.held_per_s:,.0f} operations/s"
    if edge.failed_per_s is None:
        return held
    if edge.limits == "generator":
        least = "no capacity was measured" if edge.held_per_s is None else f"at least: {held}"
        return f"{least}; at {edge.failed_per_s:,.0f}/s the load generator took over 70 % of a core and was the limit"
    return f"{held}; at {edge.failed_per_s:,.0f}/s it does not ({edge.failures})"


def cliff_text(found: Found) -> str:
    cliff = found.cliff
    if cliff is None:
        return "No projection lagged behind in any trial, so there is no cliff to look for."
    held = "no rate" if cliff.held_per_s is None else f"up to {cliff.held_per_s:,.0f} writes/s"
    if cliff.limits == "failed":
        rows = found.trials.filter((pl.col("phase") == "cliff") & (pl.col("rate_per_s") == cliff.failed_per_s))
        worst = rows.sort("lag_slope_per_s").row(-1, named=True)
        grows = f"at {cliff.failed_per_s:,.0f}/s the lag grows by {_slope(worst)} events/s"
        return f"The projector's cliff: it follows {held}; {grows}."
    what = "the load generator" if cliff.limits == "generator" else "the command side"
    at = "" if cliff.failed_per_s is None else f"; at {cliff.failed_per_s:,.0f}/s {what} gave way before it"
    return f"The projector's cliff was not reached: it follows {held}{at}."


def burst_text(found: Found) -> str:
    bursts = found.trials.filter(pl.col("phase") == "burst")
    if bursts.is_empty():
        return "There was no burst to drain."
    burst = bursts.row(-1, named=True)
    most = max(found.lag.filter(pl.col("slice") == burst["slice"])["lag_events"], default=0)
    return (
        f"After a burst of {burst['rate_per_s']:,.0f} writes/s the backlog, {most:,} events at most, "
        f"was gone in {burst['drain_us'] / 1000:,.0f} ms."
    )


def law_text(law: scaling.Law | str) -> str:
    if isinstance(law, str):
        return f"Universal Scalability Law: {law}."
    one, wait, cross = law.rows[0]
    low, high = law.interval(law.throughput(law.in_flight_max))
    far = scaling.REACH * law.in_flight_max
    says = f"{law.throughput(law.in_flight_max)[0, 0]:,.0f} [{low:,.0f}–{high:,.0f}] operations/s"
    peak = (
        f"its peak is at {law.peak:.1f}"
        if law.peak
        else f"no peak can be told up to {far:.0f}, twice what was measured"
    )
    return (
        f"Universal Scalability Law: λ {one:,.0f}/s, σ {wait:.3f} {_range(law, 1)}, κ {cross:.5f} {_range(law, 2)}; "
        f"with {law.in_flight_max:.1f} in flight {says}; {peak}."
    )


def _slope(row: dict[str, Any]) -> str:
    """With its 95 % interval; to the tenth where tenths matter."""
    digits = 1 if abs(row["lag_slope_per_s"]) < 10 else 0
    slope, low, high = (f"{row[f'lag_slope_{end}']:,.{digits}f}" for end in ("per_s", "low", "high"))
    return f"{slope} [{low} to {high}]"


def _range(law: scaling.Law, column: int) -> str:
    low, high = law.interval(law.rows[:, column])
    return f"[{low:.3g}–{high:.3g}]"


def render(folder: str | Path) -> RenderableType:
    """The trials by rate, and what follows from them."""
    found = find(folder)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("looking for", no_wrap=True)
    for heading in (
        "rate/s",
        "held",
        "p95 ms",
        "stale\nat due",
        "in\nflight",
        "lag grows by\nevents/s",
        "gene-\nrator",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what gave way")
    for (phase, rate), rows in found.trials.sort(pl.col("phase") == "burst", "phase", "rate_per_s").group_by(
        "phase", "rate_per_s", maintain_order=True
    ):
        middle = rows.median()
        counted = rows.filter(pl.col("outcome") != "void")
        slope = rows.sort("lag_slope_per_s").row(rows.height // 2, named=True)
        table.add_row(
            Text(str(phase)),
            f"{rate:,.0f}",
            f"{(counted['outcome'] == 'held').sum()} of {counted.height}",
            f"{middle['p95_us'][0] / 1000:,.1f}",
            f"{100 * middle['stale_share'][0]:.0f} %",
            f"{middle['in_flight'][0]:,.1f}",
            _slope(slope),
            f"{100 * middle['generator_core_share'][0]:.0f} %",
            ", ".join(dict.fromkeys(name for names in rows["failures"] for name in names.split(", ") if name)),
        )
    answer, *others = sentences(found)
    return Group(table, Text(), *(Text("· " + line) for line in others), Text("\n" + answer, style="bold"))
