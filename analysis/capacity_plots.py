"""The figures of a run of kind `capacity`: rates against latency, the scalability law, the projector's limit."""

from pathlib import Path

import numpy as np
import polars as pl

from analysis import capacity, colours, figures
from analysis.capacity import REACH, STEADY, Found
from analysis.figures import Plot, blank, finish, log_axis


def write(run_dir: str | Path) -> list[Path]:
    """Every figure as SVG and PNG in `plots/` of the run; raises UnusableRun when the run gives no figures."""
    drawn = figures.all_of(capacity.find(run_dir), (rates, law, cliff))
    return [path for plot in drawn for path in plot.save(Path(run_dir) / "plots")]


def rates(found: Found) -> Plot:
    """p95 of every trial against its rate; the capacity lies between the two vertical lines."""
    figure, axes = blank(3.6, "offered, operations a second", "p95 from scheduled start, ms")
    colour, trials = _colour(found), found.trials.filter(pl.col("phase") == "capacity")
    for name, face in (("held", colour), ("failed", "none")):
        rows = trials.filter((pl.col("outcome") == "held") == (name == "held"))
        axes.plot(rows["rate_per_s"], rows["p95_us"] / 1000, "o", color=colour, markerfacecolor=face, label=name)
    axes.axhline(found.goal[0], color=colour, linestyle="--", linewidth=1, label=f"p95 target: {found.goal[0]:g} ms")
    for edge in (found.capacity.held_per_s, found.capacity.failed_per_s):
        if edge is not None:
            axes.axvline(edge, color=colour, linewidth=0.8, alpha=0.6)
    log_axis(axes, "xy")
    axes.legend(loc="upper left")
    title = f"{found.target} {capacity.capacity_text(found.capacity)}"
    return finish("capacity", title, capacity.sentences(found)[0], figure)


def law(found: Found) -> Plot | None:
    """Throughput against what was in flight, with the fitted law up to its reach."""
    if isinstance(found.law, str):
        return None
    figure, axes = blank(3.4, "operations in flight on average", "operations answered a second")
    colour, most = _colour(found), found.law.in_flight_max
    steady = found.trials.filter((pl.col("phase") == "capacity") & STEADY)
    axes.plot(steady["in_flight"], steady["throughput_per_s"], "o", color=colour, label="a steady trial")
    for line, ends in (("-", (0.0, most)), ("--", (most, REACH * most))):
        n = np.linspace(*ends, 100)
        drawn = found.law.throughput(n)
        axes.plot(n, drawn[0], line, color=colour, label="the law" if line == "-" else "extrapolated, at most twice")
        low, high = np.quantile(drawn[1:], [0.025, 0.975], axis=0)
        axes.fill_between(n, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")
    peak = f"most throughput with {found.law.peak:.1f} in flight" if found.law.peak else "no peak in reach"
    return finish("law", f"Scalability law of {found.target}: {peak}", capacity.law_text(found.law), figure)


def cliff(found: Found) -> Plot | None:
    """The slope of the lag over each trial, with its interval, against the write rate."""
    trials = found.trials.filter(pl.col("phase") == "cliff")
    if trials.is_empty():
        return None
    figure, axes = blank(3.4, "offered, writes a second", "lag grows by, events/s")
    colour = _colour(found)
    axes.axhline(0, color=colour, linewidth=1, alpha=0.6)
    axes.vlines(trials["rate_per_s"], trials["lag_slope_low"], trials["lag_slope_high"], color=colour, linewidth=1.4)
    axes.plot(trials["rate_per_s"], trials["lag_slope_per_s"], "o", color=colour, markersize=4)
    title = "The projector kept up with the command side at every write rate"
    if found.cliff is not None and found.cliff.limits == "failed":
        title = f"The projector falls behind at {found.cliff.failed_per_s:,.0f} writes/s"
    return finish("cliff", title, capacity.cliff_text(found), figure)


def _colour(found: Found) -> str:
    return colours.of_targets(found.run.rungs)[found.target]
