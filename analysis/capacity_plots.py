"""The figures of a run of kind `capacity`: rates against latency, the scalability law, the projector's cliff."""

from pathlib import Path

import matplotlib
import numpy as np
import polars as pl
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis import capacity, colours, scaling
from analysis.capacity import Found
from analysis.plots import STYLE, Plot, blank, finish, save


def write(run_dir: str | Path) -> list[Path]:
    """Every figure as SVG and PNG in `plots/` of the run; raises UnusableRun when the run gives no figures."""
    found = capacity.find(run_dir)
    with matplotlib.rc_context(STYLE):
        drawn = [plot for plot in (rates(found), law(found), cliff(found)) if plot is not None]
    return save(run_dir, drawn)


def rates(found: Found) -> Plot:
    """p95 of every trial against its rate; the edge lies between the two vertical lines."""
    figure, axes = blank(3.6)
    colour = colours.of_targets(found.run.rungs)[found.target]
    trials = found.trials.filter(pl.col("phase") == "capacity")
    for name, face in (("held", colour), ("did not hold", "none")):
        rows = trials.filter((pl.col("outcome") == "held") == (name == "held"))
        axes.plot(rows["rate_per_s"], rows["p95_us"] / 1000, "o", color=colour, markerfacecolor=face, label=name)
    axes.axhline(found.goal[0], color=colour, linestyle="--", linewidth=1, label=f"p95 wanted: {found.goal[0]:g} ms")
    for edge in found.capacity[:2]:
        if edge is not None:
            axes.axvline(edge, color=colour, linewidth=0.8, alpha=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("operations offered a second")
    axes.set_ylabel("p95 from the intended start, ms")
    axes.legend(loc="upper left")
    title = f"{found.target} {capacity.capacity_text(found.capacity)}"
    return finish("capacity", title, capacity.sentences(found)[0], figure)


def law(found: Found) -> Plot | None:
    """Throughput against what was in flight, with the fitted law up to its reach."""
    if isinstance(found.law, str):
        return None
    figure, axes = blank(3.4)
    colour = colours.of_targets(found.run.rungs)[found.target]
    steady = found.trials.filter(
        (pl.col("phase") == "capacity") & ~pl.col("failures").str.contains("grows|dropped|errors")
    )
    axes.plot(steady["in_flight"], steady["throughput_per_s"], "o", color=colour, label="a steady trial")
    most = found.law.in_flight_max
    for line, ends in (("-", (0.0, most)), ("--", (most, scaling.REACH * most))):
        n = np.linspace(*ends, 100)
        drawn = found.law.throughput(n)
        axes.plot(n, drawn[0], line, color=colour, label="the law" if line == "-" else "the law, drawn out to twice")
        low, high = np.quantile(drawn[1:], [0.025, 0.975], axis=0)
        axes.fill_between(n, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("operations in flight on average")
    axes.set_ylabel("operations answered a second")
    axes.legend(loc="lower right")
    peak = f"most throughput with {found.law.peak:.1f} in flight" if found.law.peak else "no peak can be told"
    return finish("law", f"Scalability law of {found.target}: {peak}", capacity.law_text(found.law), figure)


def cliff(found: Found) -> Plot | None:
    """The slope of the lag over each trial, with its interval, against the write rate."""
    trials = found.trials.filter(pl.col("phase") == "cliff")
    if trials.is_empty():
        return None
    figure, axes = blank(3.4)
    colour = colours.of_targets(found.run.rungs)[found.target]
    axes.axhline(0, color=colour, linewidth=1, alpha=0.6)
    axes.vlines(trials["rate_per_s"], trials["lag_slope_low"], trials["lag_slope_high"], color=colour, linewidth=1.4)
    axes.plot(trials["rate_per_s"], trials["lag_slope_per_s"], "o", color=colour, markersize=4)
    axes.set_xlabel("writes offered a second")
    axes.set_ylabel("lag grows by, events/s")
    title = "The projector followed as fast as writes could come"
    if found.cliff is not None and found.cliff.limits == "failed":
        title = f"The projector falls behind from {found.cliff.failed_per_s:,.0f} writes/s on"
    return finish("cliff", title, capacity.cliff_text(found), figure)
