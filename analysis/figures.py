"""What all figures share: their style, their titles, axes in plain numbers, and how they are written."""

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import matplotlib.style
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

F = TypeVar("F")
INK = "#1b1f24"  # text and axes; a page that has a dark side replaces it by its own text colour
GRID = "#a0a6ad"
WIDTH_IN = 5.4  # small, so that the text stays readable on a phone
TITLE_CHARS = 54  # a line
LEGEND_CHARS = 50  # of one row, beside the names of operations
TITLE_LINE_IN, TICK_IN = 0.185, 0.36  # height of such a line; width that the number at a tick needs
STYLE: dict[Any, Any] = {
    "font.size": 10.5, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": GRID, "grid.alpha": 0.35, "grid.linewidth": 0.7, "legend.frameon": False, "legend.fontsize": 9.5,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "svg.fonttype": "path", "svg.hashsalt": "crossover", "text.parse_math": False,
}  # fmt: skip
# The library's own defaults, whatever the user's style file says: it may well ask for a LaTeX that is not there.
# A decorator: matplotlib reads a style both when it draws and when it writes.
styled = matplotlib.style.context(["default", STYLE])


class Plot(NamedTuple):
    """A figure with what it says: `title` is its claim, `alt` describes it to those who cannot see it."""

    name: str
    title: str
    alt: str
    figure: Figure

    def __repr__(self) -> str:
        return f"{self.title.rstrip('.')}. {self.alt}"

    @styled
    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        buffer = BytesIO()
        self.figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
        return buffer.getvalue()

    @styled
    def save(self, folder: Path) -> list[Path]:
        """As SVG and PNG."""
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{self.name}.{suffix}" for suffix in ("svg", "png")]
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else {}
            self.figure.savefig(path, dpi=190, facecolor="white", metadata=metadata)
        return paths

    @styled
    def inline_svg(self) -> Markup:
        """An element of a page that sets the title as text: the page's text colour, ids of its own, no references."""
        title = self.figure._suptitle  # type: ignore[attr-defined]
        title.set_visible(False)
        title.set_in_layout(False)
        buffer = StringIO()
        self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        svg = buffer.getvalue()
        svg = svg[svg.index("<svg") :]
        # matplotlib writes each text as a comment, names of targets included
        svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
        svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
        svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{self.name}-", svg)
        svg = re.sub(INK, "currentColor", svg, flags=re.IGNORECASE)
        label = f'role="img" aria-label="{escape(self.alt)}"'
        return Markup(
            re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', lambda old: f"<svg {old[1]} {label}>", svg, count=1)
        )


def blank(height_in: float, x: str, y: str, width_in: float = WIDTH_IN) -> tuple[Figure, Axes]:
    """A figure of one panel, its axes labelled."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def finish(name: str, title: str, alt: str, figure: Figure) -> Plot:
    """The title is set over the whole figure and broken where it would leave it; a long one takes no room from it."""
    broken = textwrap.fill(title, round(TITLE_CHARS * figure.get_figwidth() / WIDTH_IN))
    figure.set_figheight(figure.get_figheight() + TITLE_LINE_IN * max(0, broken.count("\n") - 1))
    figure.suptitle(broken, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return Plot(name, title, alt, figure)


@styled
def all_of(findings: F, drawers: Iterable[Callable[[F], Plot | None]]) -> list[Plot]:
    """The figures that there is data for, in reading order."""
    return [plot for plot in (drawer(findings) for drawer in drawers) if plot is not None]


def log_axis(axes: Axes, which: str, steps: tuple[float, ...] = (1, 2, 5)) -> None:
    """Logarithmic axes (`x`, `y` or `xy`) whose ticks are plain numbers, as many as there is room for."""
    for name in which:
        (axes.set_xscale if name == "x" else axes.set_yscale)("log")
        axis = axes.xaxis if name == "x" else axes.yaxis
        low, high = axis.get_view_interval()
        room_in = axes.get_position().width * axes.get_figure().get_figwidth()  # type: ignore[union-attr]
        full = name == "x" and math.log10(high / low) * len(steps) * TICK_IN > room_in
        axis.set_major_locator(LogLocator(subs=(1,) if full else steps))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_locator(NullLocator())


def legend_above(axes: Axes, columns: int, **more: Any) -> None:
    more |= {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "borderaxespad": 0.2, "columnspacing": 1.2}
    labels = [str(one.get_label()) for one in more.get("handles") or axes.get_legend_handles_labels()[0]]
    most = columns if columns <= 4 else 3
    axes.legend(ncols=next((count for count in range(most, 1, -1) if _fits(labels, count)), 1), **more)


def _fits(labels: Sequence[str], columns: int) -> bool:
    """Whether the labels, filled in column by column, leave the figure wide enough for its axes."""
    return sum(max(map(len, part), default=0) + 6 for part in np.array_split(labels, columns)) <= LEGEND_CHARS


def short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"
