"""The figures of a run; each title states what the figure shows, computed from the run."""

from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis import colours, words
from analysis.crossover import predicted_ratio
from analysis.findings import Findings, components_of, find, latency_samples, staleness_rows
from analysis.operations import IDLE
from analysis.prediction import of_operations
from analysis.runs import UnusableRun
from analysis.staleness import curve

INK = "#1b1f24"  # text and axes; a page that has a dark side replaces it by its own text colour
GRID = "#a0a6ad"
WIDTH_IN = 5.4  # small, so that the text stays readable on a phone
CURVE_POINTS = 200
SHOWN_FROM_US = 10.0  # on log axes
STYLE: dict[Any, Any] = {
    "font.size": 10.5, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": GRID, "grid.alpha": 0.35, "grid.linewidth": 0.7, "legend.frameon": False, "legend.fontsize": 9.5,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "svg.fonttype": "path", "svg.hashsalt": "crossover", "text.parse_math": False,
}  # fmt: skip


class Plot(NamedTuple):
    """A figure with what it says: `title` is its claim, `alt` describes it to who cannot see it."""

    name: str
    title: str
    alt: str
    figure: Figure

    def __repr__(self) -> str:
        return f"{self.title}. {self.alt}"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        buffer = BytesIO()
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
        return buffer.getvalue()

    def svg_untitled(self) -> str:
        """The figure as SVG without background and title, which the page around it sets as text."""
        title = self.figure._suptitle  # type: ignore[attr-defined]
        title.set_visible(False)
        title.set_in_layout(False)
        buffer = StringIO()
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return buffer.getvalue()


def write(run_dir: str | Path) -> list[Path]:
    """Every figure as SVG and PNG in `plots/` of the run; raises UnusableRun when the run gives no figures."""
    return save(run_dir, draw(find(run_dir)))


def save(run_dir: str | Path, plots: list[Plot]) -> list[Path]:
    folder = Path(run_dir) / "plots"
    folder.mkdir(exist_ok=True)
    written = []
    for plot in plots:
        for suffix in ("svg", "png"):
            path = folder / f"{plot.name}.{suffix}"
            with matplotlib.rc_context(STYLE):
                plot.figure.savefig(
                    path, dpi=190, facecolor="white", metadata={"Date": None} if suffix == "svg" else {}
                )
            written.append(path)
    return written


def draw(findings: Findings) -> list[Plot]:
    """The figures this run has data for, in reading order."""
    drawers: tuple[Callable[[Findings], Plot | None], ...] = (ratio, operations, cpu, latency, staleness)
    with matplotlib.rc_context(STYLE):
        return [plot for plot in (drawer(findings) for drawer in drawers) if plot is not None]


def one(findings: Findings, name: str) -> Plot:
    """The figure of that name; raises UnusableRun when this run has no data for it."""
    found = [plot for plot in draw(findings) if plot.name == name]
    if not found:
        raise UnusableRun(f"{findings.run.folder} has no data for the figure {name}.")
    return found[0]


def ratio(findings: Findings) -> Plot | None:
    """CPU per operation against the baseline by read share: intervals, fit, crossover."""
    measured = [cell for cell in findings.cells if cell.target in findings.challengers and cell.comparison]
    measured = [cell for cell in measured if cell.comparison and cell.comparison.ratio]
    if not measured:
        return None
    figure, axes = blank(3.7)
    palette = colours.of_targets(findings.run.rungs)
    axes.axhline(1, color=palette[findings.baseline], linewidth=2, label=f"{findings.baseline} (baseline)")
    for place, target in enumerate(findings.challengers):
        _ratio_of(axes, findings, target, palette[target], shift=(place - (len(findings.challengers) - 1) / 2) * 0.7)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 1.25))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(40.0, findings.read_shares[0] - 5), 102)
    axes.set_xlabel("read share, %")
    axes.set_ylabel(f"CPU per operation, × {findings.baseline}")
    axes.legend(loc="best")
    lines = [words.crossover_line(findings, target) for target in findings.challengers]
    points = [
        f"{cell.target} at {cell.read_share_pct:g} % reads: {words.ratio_text(cell.comparison)}" for cell in measured
    ]
    return finish("ratio", words.ratio_title(findings), " ".join(lines) + " " + "; ".join(points) + ".", figure)


def _ratio_of(axes: Axes, findings: Findings, target: str, colour: str, shift: float) -> None:
    for share in findings.read_shares:
        comparison = findings.cell(share, target).comparison
        if comparison is None or comparison.ratio is None:
            continue
        if comparison.interval:
            axes.vlines(share + shift, *comparison.interval, color=colour, linewidth=2)
        hollow = comparison.verdict == "inconclusive"
        axes.plot(share + shift, comparison.ratio, "o", color=colour, markerfacecolor="none" if hollow else colour)
    axes.plot([], [], "o-", color=colour, label=target)
    found = findings.crossovers[target]
    if found.baseline and found.target and min(*found.baseline, *found.target) > 0:
        shares = np.linspace(0, 100, 201)
        fitted = predicted_ratio(found.baseline, found.target, shares / 100)
        inside = (shares >= findings.read_shares[0]) & (shares <= findings.read_shares[-1])
        axes.plot(shares[inside], fitted[inside], "-", color=colour, linewidth=1.2, alpha=0.8)
        axes.plot(
            shares[shares <= findings.read_shares[0]], fitted[shares <= findings.read_shares[0]], ":", color=colour
        )
    if found.answer in ("above", "below") and found.share_pct is not None and found.interval_pct is not None:
        axes.axvspan(*found.interval_pct, color=colour, alpha=0.18, linewidth=0)
        axes.axvline(found.share_pct, color=colour, linewidth=1, linestyle="--")
        axes.annotate(
            f"{found.share_pct:.3g} %",
            (found.share_pct, 1),
            xytext=(5, 8),
            textcoords="offset points",
            fontweight="bold",
        )


def cpu(findings: Findings) -> Plot | None:
    """CPU per operation by component, stacked, one bar a target and read share."""
    cells = [cell for cell in findings.cells if cell.cost]
    if not cells:
        return None
    names = components_of(findings)
    palette, targets, shares = colours.of_components(names), findings.run.targets, findings.read_shares
    figure, axes = blank(0.9 + 0.34 * (len(targets) + 0.7) * len(shares) + 0.7)
    most = max(cell.cost.total_us for cell in cells if cell.cost)
    ticks = []
    for cell in cells:
        y = shares.index(cell.read_share_pct) * (len(targets) + 0.7) + targets.index(cell.target)
        assert cell.cost is not None, "cells without a cost are left out above"
        left = 0.0
        for name in names:
            width = cell.cost.by_component_us.get(name, 0.0)
            axes.barh(y, width, 0.82, left=left, color=palette[name], edgecolor="white", linewidth=0.4)
            left += width
        axes.text(left + most * 0.01, y, f"{left:,.0f}", va="center", fontsize=9.5)
        ticks.append((y, f"{_short(cell.target)} · {cell.read_share_pct:g} %"))
    for name in names:
        axes.barh(0, 0, color=palette[name], label=name)
    axes.set_yticks([y for y, _ in ticks], [label for _, label in ticks])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, most * 1.12)
    axes.set_xlabel("CPU per operation, µs (all processes of the target)")
    axes.set_ylabel("target · read share")
    _legend_above(axes, len(names))
    bars = "; ".join(
        f"{c.target} at {c.read_share_pct:g} % reads: "
        + ", ".join(f"{name} {us:,.0f} µs" for name, us in (c.cost.by_component_us if c.cost else {}).items())
        for c in cells
    )
    return finish("cpu", words.cpu_title(findings), bars + ".", figure)


def operations(findings: Findings) -> Plot | None:
    """CPU of each operation by itself: all of it with its interval, and by component, on a log axis."""
    if findings.operations is None:
        return None
    cells = [cell for cell in of_operations(findings) if cell.operation != IDLE and cell.cost and cell.interval_us]
    targets, names = findings.run.targets, components_of(findings)
    of_target, of_component = colours.of_targets(findings.run.rungs), colours.of_components(names)
    figure, axes = blank(1.4 + 0.17 * (len(targets) + 0.8) * (len(findings.operations.names) - 1))
    ticks, texts = [], []
    for place, cell in enumerate(cells):
        assert cell.cost and cell.interval_us, "cells without are left out above"
        y = place + 0.8 * (place // len(targets))
        for name, us in cell.cost.by_component_us.items():
            if us >= SHOWN_FROM_US:
                axes.plot(us, y, "o", color=of_component[name], markersize=3.5)
        axes.hlines(y, *np.maximum(cell.interval_us, SHOWN_FROM_US), color=of_target[cell.target], linewidth=2.5)
        axes.plot(max(cell.cost.total_us, SHOWN_FROM_US), y, "D", color=of_target[cell.target], markersize=5.5)
        ticks.append(y)
        texts.append(
            f"{cell.operation} of {cell.target} {cell.cost.total_us:,.0f} µs "
            f"({cell.interval_us.low:,.0f}–{cell.interval_us.high:,.0f})"
        )
    for target in targets:
        axes.plot([], [], "D", color=of_target[target], markersize=5.5, label=target)
    for name in names:
        axes.plot([], [], "o", color=of_component[name], markersize=3.5, label=name)
    middles = np.reshape(ticks, (-1, len(targets))).mean(axis=1)
    axes.set_yticks(middles, [str(cell.operation) for cell in cells[:: len(targets)]])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("CPU of one operation, µs\n(diamond: all, with its 95 % interval; dots: components)")
    _legend_above(axes, 4)
    return finish("operations", words.operations_title(findings, cells), "; ".join(texts) + ".", figure)


def latency(findings: Findings) -> Plot | None:
    """The share of operations slower than t, from the intended start, one panel a read share."""
    shares = [
        share for share in findings.read_shares if any(_late(findings, share, name) for name in findings.run.targets)
    ]
    if not shares:
        return None
    columns = 1 if len(shares) == 1 else 2
    rows = -(-len(shares) // columns)
    figure = Figure(figsize=(WIDTH_IN, 1.2 + 1.9 * rows if columns > 1 else 3.7), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    palette = colours.of_targets(findings.run.rungs)
    for place, axes in enumerate(grid.flat):
        if place >= len(shares):
            axes.set_visible(False)
            continue
        _latency_panel(axes, findings, shares[place], palette)
    grid.flat[0].legend(loc="lower left")
    figure.supxlabel("latency from the intended start, ms", fontsize=10.5)
    figure.supylabel("operations slower than this, %", fontsize=10.5)
    alt = "; ".join(
        f"{c.target} at {c.read_share_pct:g} % reads: p50 {c.latency.p50_ms:.1f}, p95 {c.latency.p95_ms:.1f}, "
        f"p99 {c.latency.p99_ms:.1f} ms"
        for c in findings.cells
        if c.latency
    )
    return finish("latency", words.latency_title(findings), alt + ".", figure)


def _late(findings: Findings, share: float, target: str) -> bool:
    return findings.cell(share, target).latency is not None


def _latency_panel(axes: Axes, findings: Findings, share: float, palette: dict[str, str]) -> None:
    slowest = 100.0
    for target in findings.run.targets:
        if not _late(findings, share, target):
            continue
        times = np.sort(latency_samples(findings.run, findings.validity, share, target)["latency_us"].to_numpy()) / 1000
        slower = 100 * (1 - np.arange(len(times)) / len(times))
        kept = np.unique(np.searchsorted(-slower, -np.geomspace(100, slower[-1], CURVE_POINTS)).clip(0, len(times) - 1))
        axes.plot(times[kept], slower[kept], color=palette[target], label=_short(target), linewidth=1.7)
        slowest = min(slowest, float(slower[-1]))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(max(slowest, 0.05), 110)
    axes.set_yticks([t for t in (100, 50, 10, 5, 1, 0.1) if t >= max(slowest, 0.05)])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    _log_times(axes)
    axes.set_title(f"{share:g} % reads", fontsize=10, fontweight="normal")


def staleness(findings: Findings) -> Plot | None:
    """P(stale | t): the share of reads, by their delay after the acknowledgement, that miss the write."""
    curves = {target: curve(staleness_rows(findings.run, target)) for target in findings.run.targets}
    if not any(curves.values()):
        return None
    figure, axes = blank(3.5)
    palette = colours.of_targets(findings.run.rungs)
    for target, points in curves.items():
        if not points:
            continue
        delays = [point.delay_us / 1000 for point in points]
        axes.plot(
            delays, [100 * point.share for point in points], "o-", color=palette[target], label=target, markersize=4
        )
        low, high = ([100 * getattr(point.interval, end) for point in points] for end in ("low", "high"))
        axes.fill_between(delays, low, high, color=palette[target], alpha=0.18, linewidth=0)
    axes.set_xscale("log")
    _log_times(axes)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("time since the acknowledgement of the write, ms")
    axes.set_ylabel("reads that miss the write, %")
    axes.legend(loc="upper right")
    alt = " ".join(words.staleness_line(findings, target) for target in findings.run.targets)
    return finish("staleness", words.staleness_title(findings), alt + " Bands are 95 % Wilson intervals.", figure)


def blank(height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, figure.subplots()


def _log_times(axes: Axes) -> None:
    """Ticks of a log axis of milliseconds as plain numbers."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _legend_above(axes: Axes, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(columns, 5), borderaxespad=0.2, columnspacing=1.2)


def finish(name: str, title: str, alt: str, figure: Figure) -> Plot:
    """The title is set over the whole figure and broken where it would leave it."""
    figure.suptitle(broken(title), x=0.01, ha="left", fontsize=11, fontweight="bold")
    return Plot(name, title, alt, figure)


def broken(text: str, width: int = 54) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"
