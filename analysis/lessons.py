"""Small figures for the notebooks, and a simulated queue. A figure without data raises `NothingToShow`."""

from collections.abc import Iterable, Mapping, Sized

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import answer, colours
from analysis.costs import log_ratios
from analysis.figures import INK, WIDTH_IN, Plot, blank, finish, log_axis, styled
from analysis.findings import Findings
from analysis.operations import Mix
from analysis.prediction import crossovers, of_operations, predict
from analysis.sentences import ratio_text
from analysis.statistics import Floats


class NothingToShow(ValueError):
    """A figure was asked for without data."""


@styled
def shares_slower(title: str, times_ms: Mapping[str, pl.Series]) -> Plot:
    """The share of operations (percent) slower than t (ms), one line a name, both axes logarithmic."""
    figure, axes = _figure(title, "time, ms", "slower than this, %", times_ms)
    for name, times in times_ms.items():
        ordered = np.sort(times.to_numpy())
        slower = 100 * (1 - np.arange(len(ordered)) / len(ordered))
        axes.step(ordered, slower, color=_colours(times_ms)[name], label=name)
    log_axis(axes, "xy")
    return _finished(title, figure, axes)


@styled
def by_rate(title: str, label: str, rates_per_s: list[float], lines: Mapping[str, list[float]]) -> Plot:
    """Lines over the offered rate (operations a second)."""
    figure, axes = _figure(title, "offered, operations a second", label, lines)
    for name, values in lines.items():
        axes.plot(rates_per_s, values, "o-", color=_colours(lines)[name], label=name)
    log_axis(axes, "y")
    return _finished(title, figure, axes)


@styled
def by_week(title: str, label: str, weeks: list[str], lines: Mapping[str, list[int]]) -> Plot:
    """Lines over weeks."""
    figure, axes = _figure(title, "week", label, lines)
    for name, values in lines.items():
        axes.plot(range(len(weeks)), values, "o-", color=_colours(lines)[name], label=name)
    step = 1 + len(weeks) // 8  # more names would touch
    axes.set_xticks(range(0, len(weeks), step), weeks[::step])
    axes.set_ylim(bottom=0)
    return _finished(title, figure, axes)


def round_ratios(findings: Findings, target: str) -> pl.Series:
    """CPU per operation of a target over the baseline's, round by round."""
    return log_ratios(findings.costs, findings.baseline, target)["log_ratio"].exp()


@styled
def spread(title: str, ratios: pl.Series, interval: tuple[float, float]) -> Plot:
    """Single rounds as dots, all of them together as a band."""
    figure, axes = _figure(title, "round", "ratio of CPU per operation", {"rounds": ratios})
    one, all_of_them = _colours(("one round", "all rounds together, 95%")).items()
    axes.plot(range(1, len(ratios) + 1), ratios.to_numpy(), ".", color=one[1], label=one[0])
    axes.axhspan(*interval, color=all_of_them[1], alpha=0.3, label=all_of_them[0])
    axes.axhline(1, color=INK, linewidth=1)
    return _finished(title, figure, axes)


def answer_for(costs: Findings, mix: Mix) -> str:
    """Above which read share of a mix each target uses less CPU than the baseline, by the costs of the operations."""
    return answer.text(costs._replace(crossovers=crossovers(costs, mix)))


@styled
def ratio_of_mix(costs: Findings, mix: Mix, read_share_pct: float) -> Plot:
    """The predicted ratio of a mix at every read share, with its interval, and where the reader's own share lies."""
    predicted = predict(costs, mix, [float(share) for share in range(0, 101, 5)])
    known = [(c, c.comparison, c.comparison.interval) for c in predicted if c.comparison and c.comparison.interval]
    title = answer_for(costs, mix).partition(" (")[0]
    figure, axes = _figure(title, "read share, %", f"CPU per operation, × {costs.baseline}", {"shares": known})
    palette = colours.of_targets(costs.run.rungs)
    for name in costs.challengers:
        rows = [(cell.read_share_pct, found.ratio, *ends) for cell, found, ends in known if cell.target == name]
        x, ratio, low, high = np.array(rows, dtype=np.float64).T
        axes.plot(x, ratio, color=palette[name], label=name)
        axes.fill_between(x, low, high, color=palette[name], alpha=0.2)
    axes.axhline(1, color=palette[costs.baseline], label=costs.baseline)
    axes.axvline(read_share_pct, color=INK, linestyle=":", label="your read share")
    log_axis(axes, "y")
    return _finished(title, figure, axes)


def by_operation(costs: Findings, target: str, statements: Mapping[str, tuple[int, int]]) -> pl.DataFrame:
    """What each operation of a target costs beside the baseline's, the greatest difference first, and how many
    statements each sends: of the baseline, of the target."""
    base = costs.baseline
    cells = of_operations(costs)
    us = {(cell.operation, cell.target): cell.cost.total_us for cell in cells if cell.cost}
    found = [cell for cell in cells if cell.target == target and cell.operation in statements]
    rows = [
        (one.operation, us[one.operation, base], us[one.operation, target], ratio_text(one.comparison))
        + statements[str(one.operation)]
        for one in found
    ]
    names = ["operation", f"{base}, µs", f"{target}, µs", f"× {base}", f"statements of {base}", f"of {target}"]
    shown = pl.DataFrame(rows, schema=names, orient="row").with_columns(pl.col(names[1:3]).round().cast(pl.Int64))
    return shown.sort(pl.col(names[2]) - pl.col(names[1]), descending=True)


def waiting_line_ms(rate_per_s: float, service_ms: float, *, operations: int = 20_000, seed: int = 1) -> Floats:
    """Times in a queue with one server, fixed service time and Poisson arrivals, ms (Lindley 1952)."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1e3 / rate_per_s, operations)
    waits, wait = np.empty(operations), 0.0
    for place, gap in enumerate(gaps):
        wait = max(0.0, wait + service_ms - gap) if place else 0.0
        waits[place] = wait
    return waits + service_ms


def _figure(title: str, x: str, y: str, data: Mapping[str, Sized]) -> tuple[Figure, Axes]:
    if not data or not all(map(len, data.values())):
        raise NothingToShow(f"There is no data for the figure “{title}”.")
    return blank(3.6, x, y, WIDTH_IN * 1.3)


def _finished(title: str, figure: Figure, axes: Axes) -> Plot:
    axes.legend()
    return finish("lesson", title, f"{axes.get_ylabel()} by {axes.get_xlabel()}", figure)


def _colours(names: Iterable[str]) -> dict[str, str]:
    """A rung has its own colour everywhere."""
    return colours.of_targets({name: name for name in names})
