"""The map: read share by data size, which target needs the least CPU where, and where nobody can tell."""

from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis import colours, plots, words
from analysis.findings import Findings
from analysis.operations import Mix
from analysis.prediction import MAY_DIFFER, costs_in, crossovers
from analysis.runs import UnusableRun, require_alike

NOBODY = "nobody can tell"
NOBODY_COLOUR = "#d0d4d9"


class Row(NamedTuple):
    """One data size: the winner at each whole read share from 0 to 100 %, or NOBODY."""

    size: str
    orders: int
    winners: tuple[str, ...]
    findings: Findings  # its crossovers are those of the mix

    @property
    def stretches(self) -> list[tuple[str, int, int]]:
        """(winner, first, last read share)."""
        grouped = (list(group) for _, group in groupby(range(101), key=self.winners.__getitem__))
        return [(self.winners[group[0]], group[0], group[-1]) for group in grouped]


def rows(runs: list[tuple[int, Findings]], mix: Mix) -> list[Row]:
    """One row a run of costs, which is given with its number of orders."""
    for _, findings in runs[1:]:
        require_alike(runs[0][1].run.manifest, findings.run.manifest, may_differ=MAY_DIFFER | {"size"})
    if len({orders for orders, _ in runs}) < len(runs):
        raise UnusableRun("Two of the runs have one size: a map takes one run a size.")
    found = []
    for orders, findings in sorted(runs, key=lambda run: run[0]):
        winners = tuple(_winner(findings, mix, share / 100) for share in range(101))
        size = findings.run.manifest.fingerprint.size or "?"
        found.append(Row(size, orders, winners, findings._replace(crossovers=crossovers(findings, mix))))
    return found


def _winner(findings: Findings, mix: Mix, share: float) -> str:
    """The cheapest target, when the interval of every other one's ratio to it lies above 1."""
    costs = costs_in(findings)
    weights = costs.weights(mix, share)
    drawn = {name: target.drawn @ weights for name, target in costs.targets.items()}
    best = min(drawn, key=lambda name: float(costs.targets[name].us @ weights))
    told = all(costs.interval(other / drawn[best]).low > 1 for name, other in drawn.items() if name != best)
    return best if told and costs.doubt is None else NOBODY


def table(found: list[Row], mix: Mix) -> RenderableType:
    shown = Table(title=f"Least CPU per operation of {words.mix_line(mix)}, by read share", title_justify="left")
    for heading in ("data", "orders", "read share"):
        shown.add_column(heading, justify="right" if heading == "orders" else "left")
    for row in found:
        says = [f"{winner} {first}–{last} %" for winner, first, last in row.stretches]
        shown.add_row(row.size, f"{row.orders:,}", Text(" · ".join(says)))
    lines = [Text(f"{row.size}: {words.answer(row.findings)}") for row in found]
    return Group(shown, *lines)


def write(found: list[Row], mix: Mix, folder: Path) -> list[Path]:
    """map.svg and map.png in the folder."""
    with matplotlib.rc_context(plots.STYLE):
        figure = _draw(found, mix)
        paths = [folder / f"map.{suffix}" for suffix in ("svg", "png")]
        for path in paths:
            figure.savefig(path, dpi=190, facecolor="white", metadata={"Date": None} if path.suffix == ".svg" else {})
    return paths


def _draw(found: list[Row], mix: Mix) -> Figure:
    figure, axes = plots.blank(1.7 + 0.55 * len(found))
    palette = colours.of_targets(found[0].findings.run.rungs) | {NOBODY: NOBODY_COLOUR}
    for place, row in enumerate(found):
        for winner, first, last in row.stretches:
            left, right = max(0.0, first - 0.5), min(100.0, last + 0.5)
            axes.barh(place, right - left, 0.8, left=left, color=palette[winner], linewidth=0)
        for meets in row.findings.crossovers.values():
            if meets.share_pct is not None and meets.interval_pct is not None:
                axes.vlines(meets.share_pct, place - 0.4, place + 0.4, color="white", linewidth=2)
                left = meets.share_pct > 50
                axes.annotate(
                    f"{meets.share_pct:.0f} %",
                    (meets.interval_pct.low - 2 if left else meets.interval_pct.high + 2, place),
                    ha="right" if left else "left",
                    va="center",
                    color="white",
                    fontweight="bold",
                )
    axes.set_yticks(range(len(found)), [f"{row.orders:,}" for row in found])
    axes.set_xlim(0, 100)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("read share, %")
    axes.set_ylabel("orders")
    shown = [name for name in palette if any(name in row.winners for row in found)]
    axes.legend(
        handles=[Patch(color=palette[name], label=name) for name in shown],
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=len(shown),
    )
    figure.suptitle(plots.broken(title(found, mix)), x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def title(found: list[Row], mix: Mix) -> str:
    """Where the last target wins at the smallest and at the largest size."""
    target = found[0].findings.challengers[-1]
    says = []
    for row in (found[0], found[-1]) if len(found) > 1 else found:
        own = np.flatnonzero(np.array(row.winners) == target)
        where = f"{own[0]}–{own[-1]} %" if len(own) else "no"
        says.append(f"{where} reads with {row.orders:,} orders")
    return f"{mix.name}: {target} needs the least CPU at " + ", at ".join(says)
