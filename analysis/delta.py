"""Two runs of the same thing: by how much run B uses more or less CPU per operation than run A.

One machine differs between two days by more than most changes do. So each target is first divided by the baseline of
its own run, round by round, and the ratios of the two runs are compared: whatever slows a whole run down cancels. The
baseline itself can only be compared in absolute costs, which get an interval but no verdict.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import RenderableType

from analysis import sentences, statistics
from analysis.costs import family, pairs
from analysis.findings import SEED, Findings, find
from analysis.layout import Sheet, page
from analysis.runs import require_alike
from analysis.statistics import Comparison, Floats, Interval, NotComputable, hodges_lehmann, p_of_interval

MAY_DIFFER = frozenset({"commit", "dirty"})  # what a comparison of two runs is most often about
ABSOLUTE = "absolute costs include how the machine differs between two days"
Rows = tuple[Floats, NDArray[np.int64]]  # a log and a start for each round


class Change(NamedTuple):
    """B over A for one target at one read share; `comparison.ratio` below 1 means that B uses less CPU."""

    read_share_pct: float
    target: str
    normalised: bool
    comparison: Comparison


class Delta(NamedTuple):
    a: Findings
    b: Findings
    changes: tuple[Change, ...]


def compare(run_a: str | Path, run_b: str | Path) -> Delta:
    """Raises UnusableRun when a folder gives no figures, or when the runs are unlike, naming the fields."""
    a, b = find(run_a), find(run_b)
    require_alike(a.run.manifest, b.run.manifest, may_differ=MAY_DIFFER)
    start_sd, base = a.run.manifest.thresholds.start_sd, a.baseline
    shifts = {
        (share, name): shift(_rows(a, share, name), _rows(b, share, name), start_sd=start_sd)
        for share in a.read_shares
        for name in a.run.targets
    }
    judged = [key for key in shifts if key[1] != base]
    p_holm = dict(
        zip(judged, statistics.holm([1.0 if (p := shifts[key].p) is None else p for key in judged]), strict=True)
    )
    changes = [
        Change(*key, key in p_holm, _judged(a, b, key[0], found, p_holm[key]) if key in p_holm else found)
        for key, found in shifts.items()
    ]
    return Delta(a, b, tuple(changes))


def shift(a: Rows, b: Rows, *, start_sd: float) -> Comparison:
    """The difference of two estimates from runs that share nothing, without a verdict.

    Its interval is put together from theirs (MOVER: Donner & Zou 2012, "Closed-form confidence intervals for functions
    of the normal mean and standard deviation").
    """
    rounds = min(len(a[0]), len(b[0]))
    try:
        one, other = (statistics.interval_over_starts(*rows, start_sd=start_sd, seed=SEED) for rows in (a, b))
    except NotComputable as why:
        return Comparison(rounds, reason=str(why))
    before, after = hodges_lehmann(a[0]), hodges_lehmann(b[0])
    log = after - before
    interval = Interval(
        log - math.hypot(after - other.low, one.high - before), log + math.hypot(other.high - after, before - one.low)
    )
    shown, p = Interval(*map(math.exp, interval)), p_of_interval(log, interval)
    return Comparison(rounds, math.exp(log), shown, p, reason=ABSOLUTE)


def _rows(findings: Findings, share: float, target: str) -> Rows:
    """Log-ratios to the baseline; of the baseline itself, logs of its cost."""
    if target != findings.baseline:
        return family(findings.costs, findings.baseline, target, share)
    rows = pairs(findings.costs, target, target).filter(pl.col("read_share_pct") == share)
    logs = (rows["cpu_us_base"] / rows["operations_base"]).log().to_numpy()
    return logs, rows["restart"].to_numpy().astype(np.int64)


def _judged(a: Findings, b: Findings, share: float, found: Comparison, p_holm: float) -> Comparison:
    for run in (a, b):
        if why := run.void or run.validity.too_many_gone(share):
            return found._replace(reason=f"run {run.run.manifest.run}: {why}")
    if found.interval is None:
        return found
    logs = Interval(*map(math.log, found.interval))
    verdict, reason = statistics.verdict_of(logs, p_holm, a.run.manifest.thresholds.equivalence_delta)
    return found._replace(p_holm=p_holm, verdict=verdict, reason=reason)


def render(delta: Delta) -> RenderableType:
    base = delta.a.baseline
    sheet = Sheet(["read", "<target", "A, µs", "B, µs", "B/A", "<verdict", "<compared"])
    for share, target, normalised, comparison in delta.changes:
        costs = [run.cell(share, target).cost for run in (delta.a, delta.b)]
        sheet.add(
            f"{share:g}%" if target == base else "",
            target,
            *(f"{cost.total_us:,.0f}" if cost else "–" for cost in costs),
            sentences.ratio_text(comparison),
            comparison.verdict if normalised else "–",
            f"as a ratio to {base}" if normalised else "absolute",
            last=target == delta.a.run.targets[-1],
        )
    return page("CPU µs per operation in runs A and B; B over A with its 95% interval", sheet, notes=notes(delta))


def notes(delta: Delta) -> list[str]:
    a, b = (
        f"{was.run} (commit {str(was.fingerprint.commit)[:12]}{', changed locally' if was.fingerprint.dirty else ''})"
        for was in (delta.a.run.manifest, delta.b.run.manifest)
    )
    inconclusive = [
        f"{change.target} is inconclusive at {change.read_share_pct:g}% reads: {change.comparison.reason}."
        for change in delta.changes
        if change.normalised and change.comparison.verdict == "inconclusive"
    ]
    how = (
        f"Compared is each target's cost over that of {delta.a.baseline} in its own run. The cost of "
        f"{delta.a.baseline} itself is absolute and gets no verdict: {ABSOLUTE}."
    )
    return [f"A is {a}, B is {b}.", *inconclusive, how, sentences.starts_line(delta.a)]
