"""The map of read share by data size: which target uses the least CPU, and where the costs are inconclusive."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.patches import Patch
from rich.console import Group, RenderableType
from rich.text import Text

from analysis import answer, colours, sentences
from analysis.figures import Plot, blank, finish, legend_above, styled
from analysis.findings import Findings
from analysis.layout import Sheet, page
from analysis.operations import Mix
from analysis.prediction import MAY_DIFFER, check_of, costs_in, crossovers, measures
from analysis.prediction import caveats as caveats_of
from analysis.runs import UnusableRun, require_alike

INCONCLUSIVE = "inconclusive"
GREY = "#d0d4d9"


class Row(NamedTuple):
    """One data size: the winner at each whole read share from 0 to 100%, or INCONCLUSIVE."""

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
    cheapest = all(costs.interval(other / drawn[best]).low > 1 for name, other in drawn.items() if name != best)
    return best if cheapest and costs.void is None else INCONCLUSIVE


def table(
    found: list[Row], mix: Mix, mixed: Sequence[Findings] = (), machine: dict[str, Any] | None = None
) -> RenderableType:
    """What lies outside the measurements comes first; `mixed`: comparisons that may have measured a row."""
    sheet, answers, notes = Sheet(["<data", "orders", "<read share"], split=3), [], []
    for row in found:
        shares = " · ".join(f"{name} {first}–{last}%" for name, first, last in row.stretches)
        sheet.add(row.size, f"{row.orders:,}", shares)
        answers.append(f"{row.size}: {answer.text(row.findings)}")
        notes += [f"{row.size}: {line}" for line in beside(row, mix, mixed)]
    heading = f"Least CPU per operation of {sentences.mix_line(mix)}, by read share"
    caveats = dict.fromkeys(line for row in found for line in caveats_of(row.findings, mix, machine))
    shown = page(heading, sheet, notes=notes, answer="\n".join(answers))
    return Group(*(Text(line, style="yellow") for line in caveats), shown)


def beside(row: Row, mix: Mix, mixed: Sequence[Findings]) -> list[str]:
    """What was measured of a row: whole mixes in its own run, and where comparisons found that the targets meet."""
    said = sentences.sum_lines({mix.name: own} if (own := check_of(row.findings, mix)) else {})
    for each in mixed:
        if not measures(each.run.manifest, row.findings, mix):
            continue
        for name, guess in row.findings.crossovers.items():
            real = each.crossovers.get(name)
            if real and real.share_pct is not None and guess.share_pct is not None:
                said.append(
                    f"Measured in run {each.run.manifest.run}: {answer.crossover_line(each, name)} "
                    f"Predicted: {guess.share_pct:.1f}%, {guess.share_pct - real.share_pct:+.1f} points from that."
                )
    return said or ["no measurement stands beside this row: give a run of `crossover compare` with --against."]


def write(found: list[Row], mix: Mix, folder: Path) -> list[Path]:
    """map.svg and map.png in the folder."""
    return draw(found, mix).save(folder)


@styled
def draw(found: list[Row], mix: Mix) -> Plot:
    figure, axes = blank(1.7 + 0.55 * len(found), "read share, %", "orders")
    palette = colours.of_targets(found[0].findings.run.rungs) | {INCONCLUSIVE: GREY}
    for place, row in enumerate(found):
        for winner, first, last in row.stretches:
            left, right = max(0.0, first - 0.5), min(100.0, last + 0.5)
            axes.barh(place, right - left, 0.8, left=left, color=palette[winner], linewidth=0)
        for meets in row.findings.crossovers.values():
            if meets.share_pct is None or meets.interval_pct is None:
                continue
            axes.vlines(meets.share_pct, place - 0.4, place + 0.4, color="white", linewidth=2)
            low, high = meets.interval_pct
            at, side = (low - 2, "right") if meets.share_pct > 50 else (high + 2, "left")
            axes.text(at, place, f"{meets.share_pct:.0f}%", ha=side, va="center", color="white", fontweight="bold")
    axes.set_yticks(range(len(found)), [f"{row.orders:,}" for row in found])
    axes.set_xlim(0, 100)
    axes.grid(visible=False, axis="y")
    shown = [name for name in palette if any(name in row.winners for row in found)]
    legend_above(axes, len(shown), handles=[Patch(color=palette[name], label=name) for name in shown])
    alt = " ".join(f"{row.orders:,} orders: {answer.text(row.findings)}" for row in found)
    return finish("map", title(found, mix), alt, figure)


def title(found: list[Row], mix: Mix) -> str:
    """Where the last target wins at the smallest and at the largest size."""
    target = found[0].findings.challengers[-1]
    parts = []
    for row in (found[0], found[-1]) if len(found) > 1 else found:
        own = np.flatnonzero(np.array(row.winners) == target)
        where = f"{own[0]}–{own[-1]}%" if len(own) else "no"
        parts.append(f"{where} reads with {row.orders:,} orders")
    return f"{mix.name}: {target} uses the least CPU at " + ", at ".join(parts)
