"""Small figures and a queue for the notebooks: each figure refuses to be empty, each title says what it shows."""

from collections.abc import Mapping, Sized

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis import colours, words
from analysis.costs import log_ratios
from analysis.findings import Findings
from analysis.operations import Mix
from analysis.plots import STYLE, WIDTH_IN, Plot
from analysis.prediction import crossovers, predict
from analysis.statistics import Floats

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


class NothingToShow(ValueError):
    """A figure was asked for without data."""


def shares_slower(title: str, times_ms: Mapping[str, pl.Series]) -> Plot:
    """The share of operations (per cent) slower than t (ms), one line a name, both axes logarithmic."""
    figure, axes = _figure(title, times_ms)
    for colour, (name, times) in zip(_colours(list(times_ms)), times_ms.items(), strict=True):
        ordered = np.sort(times.to_numpy())
        axes.step(ordered, 100 * (1 - np.arange(len(ordered)) / len(ordered)), color=colour, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("time, ms")
    axes.set_ylabel("slower than this, %")
    return _with_legend(title, figure, axes)


def by_rate(title: str, label: str, rates_per_s: list[float], lines: Mapping[str, list[float]]) -> Plot:
    """Lines over the offered rate (operations a second)."""
    figure, axes = _figure(title, lines)
    for colour, (name, values) in zip(_colours(list(lines)), lines.items(), strict=True):
        axes.plot(rates_per_s, values, "o-", color=colour, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("offered, operations a second")
    axes.set_ylabel(label)
    return _with_legend(title, figure, axes)


def round_ratios(findings: Findings, target: str) -> pl.Series:
    """CPU per operation of a target over the baseline's, round by round."""
    return log_ratios(findings.costs, findings.baseline, target)["log_ratio"].exp()


def spread(title: str, ratios: pl.Series, interval: tuple[float, float]) -> Plot:
    """Single rounds as dots, all of them together as a band."""
    figure, axes = _figure(title, {"rounds": ratios})
    axes.plot(range(1, len(ratios) + 1), ratios.to_numpy(), ".", color=COLOURS[0], label="one round")
    axes.axhspan(*interval, color=COLOURS[1], alpha=0.3, label="all rounds together, 95 %")
    axes.axhline(1, color="#1b1f24", linewidth=1)
    axes.set_xlabel("round")
    axes.set_ylabel("CPU of the one over the other")
    return _with_legend(title, figure, axes)


def answer_for(costs: Findings, mix: Mix) -> str:
    """From which read share of a mix each target needs less CPU than the baseline, by the costs of the operations."""
    return words.answer(costs._replace(crossovers=crossovers(costs, mix)))


def ratio_of_mix(costs: Findings, mix: Mix, read_share_pct: float) -> Plot:
    """The predicted ratio of a mix at every read share, with its interval, and where the reader's own share lies."""
    shares = [float(share) for share in range(0, 101, 5)]
    told = [cell for cell in predict(costs, mix, shares) if cell.comparison and cell.comparison.interval]
    figure, axes = _figure(f"{costs.challengers[0]} against {costs.baseline}", {"shares": told})
    for name in costs.challengers:
        cells = [cell for cell in told if cell.target == name]
        ratios = [(c.read_share_pct, c.comparison.ratio, *c.comparison.interval) for c in cells]  # type: ignore[union-attr, misc]
        x, ratio, low, high = zip(*ratios, strict=True)
        axes.plot(x, ratio, color=colours.RUNGS.get(name, COLOURS[1]), label=name)
        axes.fill_between(x, low, high, color=colours.RUNGS.get(name, COLOURS[1]), alpha=0.2)
    axes.axhline(1, color=colours.RUNGS.get(costs.baseline, COLOURS[0]), label=costs.baseline)
    axes.axvline(read_share_pct, color="#1b1f24", linestyle=":", label="your read share")
    axes.set_yscale("log")
    axes.set_xlabel("read share, %")
    axes.set_ylabel(f"CPU per operation, × {costs.baseline}")
    return _with_legend(answer_for(costs, mix).partition(" (")[0], figure, axes)


def waiting_line_ms(rate_per_s: float, service_ms: float, *, operations: int = 20_000, seed: int = 1) -> Floats:
    """Times in a queue with one server, fixed service time and Poisson arrivals, ms (Lindley 1952)."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1e3 / rate_per_s, operations)
    waits, wait = np.empty(operations), 0.0
    for place, gap in enumerate(gaps):
        wait = max(0.0, wait + service_ms - gap) if place else 0.0
        waits[place] = wait
    return waits + service_ms


def _figure(title: str, data: Mapping[str, Sized]) -> tuple[Figure, Axes]:
    if not data or not all(map(len, data.values())):
        raise NothingToShow(f"There is no data for the figure “{title}”.")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN * 1.3, 3.6), layout="constrained")
        return figure, figure.subplots()


def _with_legend(title: str, figure: Figure, axes: Axes) -> Plot:
    with matplotlib.rc_context(STYLE):
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.set_minor_locator(NullLocator())
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes.legend()
    return Plot("lesson", title, f"{axes.get_ylabel()} by {axes.get_xlabel()}", figure)


def _colours(names: list[str]) -> list[str]:
    """A rung has its own colour everywhere."""
    return [colours.RUNGS.get(name, COLOURS[place % len(COLOURS)]) for place, name in enumerate(names)]
