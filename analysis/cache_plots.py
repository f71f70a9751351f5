"""What a cache does at each read share: how many reads hit, and the CPU of an operation, for one run or for several."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from matplotlib.figure import Figure

from analysis import colours, sentences
from analysis.figures import WIDTH_IN, Plot, finish, styled
from analysis.findings import Cell, Findings
from analysis.runs import UnusableRun, require_alike

TITLE_PCT = 95.0  # the title is of the measured read share nearest to it
STYLES = (("-", "full"), ("--", "none"), (":", "left"), ("-.", "right"))  # of lines and their points
MAY_DIFFER = frozenset(("workload", "commit", "dirty", "seed", "rounds", "restarts"))


class _Line(NamedTuple):
    keys: str
    colour: str
    cells: list[Cell]  # those with hits


class _Key(msgspec.Struct):
    distribution: str


class _Workload(msgspec.Struct):
    keys: dict[str, _Key]


def cache(findings: Findings) -> Plot | None:
    """The figure of one run; None where no cache counted."""
    return _draw(lines, findings) if (lines := _lines(findings)) else None


@styled
def side_by_side(*runs: Findings) -> Plot:
    """Runs of the same targets whose workloads differ in their keys; raises UnusableRun for others."""
    lines = [line for findings in runs for line in _lines(findings)]
    if not lines:
        raise UnusableRun("None of these runs has a target whose cache counts.")
    for other in runs[1:]:
        require_alike(runs[0].run.manifest, other.run.manifest, may_differ=MAY_DIFFER)
    return _draw(lines, runs[0])


def _lines(findings: Findings) -> list[_Line]:
    palette, keys = colours.of_targets(findings.run.rungs), _keys(findings.run.manifest.fingerprint.workload)
    found = {name: [cell for cell in findings.of(name) if cell.hits] for name in findings.run.targets}
    several = sum(map(bool, found.values())) > 1
    return [_Line(keys + f" on {name}" * several, palette[name], cells) for name, cells in found.items() if cells]


def _keys(workload: Any) -> str:
    """How a workload chooses its keys: “zipf and latest keys”."""
    try:
        kinds = {key.distribution for key in msgspec.convert(workload, _Workload).keys.values()}
    except msgspec.ValidationError:
        return "unknown keys"
    return f"{sentences.listed(sorted(kinds, reverse=True))} keys"


def _draw(lines: Sequence[_Line], of: Findings) -> Plot:
    """`of`: whose baseline it is."""
    figure = Figure(figsize=(WIDTH_IN, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_ylabel("reads that hit, %")
    lower.set_ylabel(f"CPU per operation,\n× {of.baseline}")
    lower.set_xlabel("read share, %")
    colour = colours.of_targets(of.run.rungs)[of.baseline]
    lower.axhline(1, color=colour, linewidth=2, label=f"{of.baseline} (baseline)")
    texts = []
    for place, line in enumerate(lines):
        style, fill = STYLES[place % len(STYLES)]
        look = {"color": line.colour, "marker": "o", "linestyle": style, "fillstyle": fill}
        upper.plot([], [], **look, label=line.keys)
        hit = [(cell.read_share_pct, 100 * cell.hits.share, cell.hits.interval) for cell in line.cells if cell.hits]
        compared = [(cell.read_share_pct, cell.comparison) for cell in line.cells if cell.comparison]
        costs = [(share, found.ratio, found.interval) for share, found in compared if found.ratio]
        for axes, points, scale in ((upper, hit, 100), (lower, costs, 1)):
            axes.plot([x for x, *_ in points], [y for _, y, _ in points], **look)
            for x, _, interval in points:
                if interval:
                    axes.vlines(x, scale * interval.low, scale * interval.high, color=line.colour, linewidth=2)
        texts += [f"{line.keys}, {cell.where} reads: {sentences.hits_text(cell)}" for cell in line.cells]
    upper.set_ylim(0, 100)
    lower.set_ylim(0, max(1.25, lower.get_ylim()[1]))
    upper.legend(loc="best")
    lower.legend(loc="best")
    return finish("cache", _title(lines), "; ".join(texts) + ". Bars are 95% intervals.", figure)


def _title(lines: Sequence[_Line]) -> str:
    shares = set.intersection(*({cell.read_share_pct for cell in line.cells} for line in lines))
    if not shares:
        return "How many reads hit, and what an operation costs"
    at = min(sorted(shares), key=lambda share: abs(share - TITLE_PCT))
    cells = {line.keys: cell for line in lines for cell in line.cells if cell.read_share_pct == at}
    (keys, share), *others = ((keys, f"{100 * cell.hits.share:.0f}%") for keys, cell in cells.items() if cell.hits)
    rest = "".join(f", with {keys} {share}" for keys, share in others)
    return f"With {keys} {share} of reads hit the cache at {at:g}% reads{rest}"
