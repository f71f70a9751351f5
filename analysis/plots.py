"""The figures of a run that compares; the title of each states what it shows, computed from the run."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from analysis import answer, cache_plots, colours, figures, sentences
from analysis.crossover import predicted_ratio
from analysis.figures import WIDTH_IN, Plot, blank, finish, legend_above, log_axis, short
from analysis.findings import Findings, staleness_rows
from analysis.latency import samples as latency_samples
from analysis.operations import IDLE
from analysis.prediction import of_operations
from analysis.runs import UnusableRun
from analysis.staleness import curve

CURVE_POINTS = 200
SHOWN_FROM_US = 10.0  # on log axes
SLOWEST_SHOWN_PCT = 0.05


def draw(findings: Findings) -> list[Plot]:
    """The figures this run has data for, in reading order."""
    return figures.all_of(findings, (ratio, operations, cpu, cache_plots.cache, latency, staleness))


def one(findings: Findings, name: str) -> Plot:
    """The figure of that name; raises UnusableRun when this run has no data for it."""
    found = [plot for plot in draw(findings) if plot.name == name]
    if not found:
        raise UnusableRun(f"{findings.run.folder} has no data for the figure {name}.")
    return found[0]


def ratio(findings: Findings) -> Plot | None:
    """CPU per operation against the baseline by read share: intervals, fit, crossover."""
    measured = [found for found in findings.compared(*findings.challengers) if found[1].ratio]
    if not measured or not findings.challengers:
        return None
    figure, axes = blank(3.7, "read share, %", f"CPU per operation, × {findings.baseline}")
    palette = colours.of_targets(findings.run.rungs)
    axes.axhline(1, color=palette[findings.baseline], linewidth=2, label=f"{findings.baseline} (baseline)")
    for place, target in enumerate(findings.challengers):
        _ratio_of(axes, findings, target, palette[target], shift=(place - (len(findings.challengers) - 1) / 2) * 0.7)
    log_axis(axes, "y", (1, 2, 3, 5, 7))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 1.25))
    axes.set_xlim(min(40.0, findings.read_shares[0] - 5), 102)
    axes.legend(loc="best")
    lines = [answer.crossover_line(findings, target) for target in findings.challengers]
    points = [f"{c.target} at {c.read_share_pct:g}% reads: {sentences.ratio_text(found)}" for c, found in measured]
    return finish("ratio", answer.headline(findings), f"{' '.join(lines)} {'; '.join(points)}.", figure)


def _ratio_of(axes: Axes, findings: Findings, target: str, colour: str, shift: float) -> None:
    for cell, comparison in findings.compared(target):
        x = cell.read_share_pct + shift
        if comparison.ratio is None:
            continue
        if comparison.interval:
            axes.vlines(x, *comparison.interval, color=colour, linewidth=2)
        hollow = comparison.verdict == "inconclusive"
        axes.plot(x, comparison.ratio, "o", color=colour, markerfacecolor="none" if hollow else colour)
    axes.plot([], [], "o-", color=colour, label=target)
    found, (first, *_, last) = findings.crossovers[target], [*findings.read_shares, findings.read_shares[-1]]
    if found.baseline and found.target and min(*found.baseline, *found.target) > 0:
        for line, ends in (("-", (first, last)), (":", (0.0, first))):  # dotted where nothing was measured
            shares = np.linspace(*ends, 101)
            fitted = predicted_ratio(found.baseline, found.target, shares / 100)
            axes.plot(shares, fitted, line, color=colour, linewidth=1.3, alpha=0.8)
    if found.answer in ("above", "below") and found.share_pct is not None and found.interval_pct is not None:
        axes.axvspan(*found.interval_pct, color=colour, alpha=0.18, linewidth=0)
        axes.axvline(found.share_pct, color=colour, linewidth=1, linestyle="--")
        # Below the top edge, where no curve is: there are points beside the crossing itself.
        axes.annotate(
            sentences.pct(found.share_pct),
            (found.share_pct, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -14),
            textcoords="offset points",
            color=colour,
            fontweight="bold",
        )


def cpu(findings: Findings) -> Plot | None:
    """CPU per operation by component, stacked, one bar a target and read share."""
    costs = [(cell, cell.cost) for cell in findings.cells if cell.cost]
    if not costs:
        return None
    names, targets, shares = findings.components, findings.run.targets, findings.read_shares
    palette = colours.of_components(names)
    height = 0.9 + 0.34 * (len(targets) + 0.7) * len(shares) + 0.7
    figure, axes = blank(height, "CPU per operation, µs (all processes of the target)", "target · read share")
    most = max(cost.total_us for _, cost in costs)
    ticks, bars = [], []
    for cell, cost in costs:
        y = shares.index(cell.read_share_pct) * (len(targets) + 0.7) + targets.index(cell.target)
        left = 0.0
        for name in names:
            width = cost.by_component_us.get(name, 0.0)
            axes.barh(y, width, 0.82, left=left, color=palette[name], edgecolor="white", linewidth=0.4)
            left += width
        axes.text(left + most * 0.01, y, f"{left:,.0f}", va="center", fontsize=9.5)
        ticks.append((y, f"{short(cell.target)} · {cell.read_share_pct:g}%"))
        parts = ", ".join(f"{name} {sentences.us(part)}" for name, part in cost.by_component_us.items())
        bars.append(f"{cell.target} at {cell.read_share_pct:g}% reads: {parts}")
    for name in names:
        axes.barh(0, 0, color=palette[name], label=name)
    axes.set_yticks([y for y, _ in ticks], [label for _, label in ticks])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, most * 1.12)
    legend_above(axes, len(names))
    shown = [found for found in costs if found[0].target in (findings.baseline, *findings.challengers[-1:])]
    share, largest = max((cell.read_share_pct for cell, _ in shown), default=0.0), []
    for cell, cost in shown:
        if cell.read_share_pct == share:
            name = max(cost.by_component_us, key=cost.by_component_us.__getitem__)
            largest.append(f"{name} in {cell.target} ({100 * cost.by_component_us[name] / cost.total_us:.0f}%)")
    title = f"At {share:g}% reads most CPU goes to {sentences.listed(largest)}"
    return finish("cpu", title, "; ".join(bars) + ".", figure)


def operations(findings: Findings) -> Plot | None:
    """CPU of each operation by itself: all of it with its interval, and by component, on a log axis."""
    if findings.operations is None:
        return None
    cells = [cell for cell in of_operations(findings) if cell.operation != IDLE]
    targets, names = findings.run.targets, findings.components
    of_target, of_component = colours.of_targets(findings.run.rungs), colours.of_components(names)
    height = 1.4 + 0.17 * (len(targets) + 0.8) * (len(findings.operations.names) - 1)
    x = "CPU of one operation, µs (diamond: total with\n95% interval; dots: components)"
    figure, axes = blank(height, x, "")
    ticks, texts = [], []
    for place, cell in enumerate(cells):
        assert cell.cost and cell.interval_us, "the cost of an operation is fitted, with its interval"
        y, colour = place + 0.8 * (place // len(targets)), of_target[cell.target]
        for name, us in cell.cost.by_component_us.items():
            if us >= SHOWN_FROM_US:
                axes.plot(us, y, "o", color=of_component[name], markersize=3.5)
        axes.hlines(y, *np.maximum(cell.interval_us, SHOWN_FROM_US), color=colour, linewidth=2.5)
        axes.plot(max(cell.cost.total_us, SHOWN_FROM_US), y, "D", color=colour, markersize=5.5)
        ticks.append(y)
        low, high = cell.interval_us
        texts.append(f"{cell.operation} of {cell.target} {sentences.us(cell.cost.total_us)} ({low:,.0f}–{high:,.0f})")
    for target in targets:
        axes.plot([], [], "D", color=of_target[target], markersize=5.5, label=target)
    for name in names:
        axes.plot([], [], "o", color=of_component[name], markersize=3.5, label=name)
    middles = np.reshape(ticks, (-1, len(targets))).mean(axis=1)
    axes.set_yticks(middles, [str(cell.operation) for cell in cells[:: len(targets)]])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    log_axis(axes, "x", (1,))
    legend_above(axes, 4)
    target = findings.challengers[-1] if findings.challengers else findings.baseline
    verdicts = [cell.comparison.verdict for cell in cells if cell.target == target and cell.comparison]
    less, more = verdicts.count("better"), verdicts.count("worse")
    title = f"{target} uses less CPU than {findings.baseline} in {less} of {len(verdicts)} operations, more in {more}"
    title = title if verdicts else f"What each operation of {target} costs"
    return finish("operations", title, "; ".join(texts) + ".", figure)


def latency(findings: Findings) -> Plot | None:
    """The share of operations slower than t, from the scheduled start, one panel a read share."""
    shown = [(cell, cell.latency) for cell in findings.cells if cell.latency]
    shares = sorted({cell.read_share_pct for cell, _ in shown})
    if not shares:
        return None
    columns = 1 if len(shares) == 1 else 2
    rows = -(-len(shares) // columns)
    row_in = max(1.9, 0.27 * len(findings.run.targets))  # the legend's height
    figure = Figure(figsize=(WIDTH_IN, 1.2 + row_in * rows if columns > 1 else 3.7), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    palette = colours.of_targets(findings.run.rungs)
    for axes, share in zip(grid.flat, shares, strict=False):
        own = [cell.target for cell, _ in shown if cell.read_share_pct == share]
        _latency_panel(axes, findings, share, {target: palette[target] for target in own})
    for axes in grid.flat[len(shares) :]:
        axes.set_visible(False)
    grid.flat[0].legend(loc="lower left")
    figure.supxlabel("latency from scheduled start, ms", fontsize=10.5)
    figure.supylabel("operations slower than this, %", fontsize=10.5)
    last = [(cell, late) for cell, late in shown if cell.read_share_pct == shares[-1]]
    name = "p99" if not any(late.p99.share or late.p99.mark == "void" for _, late in last) else "p50"
    values = ", ".join(f"{cell.target} {late.percentiles[name].ms:.1f} ms" for cell, late in last)
    texts = [line for target in findings.run.targets if (line := sentences.latency_line(findings, target))]
    return finish("latency", f"{name} latency at {shares[-1]:g}% reads: {values}", ". ".join(texts) + ".", figure)


def _latency_panel(axes: Axes, findings: Findings, share: float, palette: dict[str, str]) -> None:
    slowest = 100.0
    for target, colour in palette.items():
        times = np.sort(latency_samples(findings.run, findings.validity, share, target)["latency_us"].to_numpy()) / 1000
        slower = 100 * (1 - np.arange(len(times)) / len(times))
        kept = np.unique(np.searchsorted(-slower, -np.geomspace(100, slower[-1], CURVE_POINTS)).clip(0, len(times) - 1))
        axes.plot(times[kept], slower[kept], color=colour, label=short(target), linewidth=1.7)
        slowest = min(slowest, float(slower[-1]))
    log_axis(axes, "xy")
    least = max(slowest, SLOWEST_SHOWN_PCT)
    axes.set_ylim(least, 110)
    axes.set_yticks([tick for tick in (100, 50, 10, 5, 1, 0.1) if tick >= least])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(f"{share:g}% reads", fontsize=10, fontweight="normal")


def staleness(findings: Findings) -> Plot | None:
    """P(stale | t): the share of reads, by their delay after the acknowledgement, that miss the write."""
    curves = {target: curve(staleness_rows(findings.run, target)) for target in findings.run.targets}
    if not any(curves.values()):
        return None
    figure, axes = blank(3.5, "time since the acknowledgement of the write, ms", "stale reads, %")
    palette = colours.of_targets(findings.run.rungs)
    for target, points in curves.items():
        delays = [point.delay_us / 1000 for point in points]
        shares = [100 * point.share for point in points]
        axes.plot(delays, shares, "o-", color=palette[target], label=target, markersize=4)
        low, high = ([100 * getattr(point.interval, end) for point in points] for end in ("low", "high"))
        axes.fill_between(delays, low, high, color=palette[target], alpha=0.18, linewidth=0)
    log_axis(axes, "x")
    axes.set_ylim(-3, 103)
    axes.legend(loc="upper right")
    alt = " ".join(sentences.staleness_line(findings, target) for target in findings.run.targets)
    return finish("staleness", _staleness_title(findings), alt + " Bands are 95% Wilson intervals.", figure)


def _staleness_title(findings: Findings) -> str:
    fresh, late = [], []
    for target in findings.run.targets:
        seen = sentences.seen_in(findings, target)
        if seen and not (seen.stale_first or seen.never):
            fresh.append(target)
        elif seen:
            late.append(f"{target}: {sentences.visible_line(seen)}")
    no = "no" if late else "No"
    return "; ".join(late + ([f"{no} read of {sentences.listed(fresh)} missed a write"] if fresh else []))
