"""The sentences about a run, computed from its verdicts: table, plots, report, README and CI quote these."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import polars as pl

from analysis.findings import Findings, staleness_rows, token_price
from analysis.operations import Mix
from analysis.prediction import Checked
from analysis.staleness import TokenPrice, Visibility, applied
from analysis.statistics import Comparison, Interval
from loadtests.format import Manifest

K = TypeVar("K")
FRACTIONS = {4: "quarter", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth", 9: "ninth", 10: "tenth"}


def pct(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}%"


def range_pct(interval: Interval | None, to: str = "–") -> str:
    return "no interval" if interval is None else f"{interval.low:.3g}{to}{interval.high:.3g}%"


def listed(things: Sequence[str]) -> str:
    return " and ".join([", ".join(things[:-1]), things[-1]] if len(things) > 1 else things)


def us(value: float) -> str:
    return f"{value:,.0f} µs"


def amount(ratio: float, base: str) -> str:
    """A ratio in prose: “57% less CPU than crud”, “one sixth of the CPU of crud”."""
    if ratio <= 0.25:
        parts = round(1 / ratio)
        return f"{f'one {FRACTIONS[parts]}' if parts in FRACTIONS else f'1/{parts}'} of the CPU of {base}"
    if ratio >= 2:
        return f"{ratio:.1f} times the CPU of {base}"
    return f"{100 * abs(1 - ratio):.0f}% {'less' if ratio < 1 else 'more'} CPU than {base}"


def ratio_text(comparison: Comparison | None, *, interval: bool = True) -> str:
    if comparison is None or comparison.ratio is None:
        return "–"
    if comparison.interval is None or not interval:
        return f"{comparison.ratio:.2f}"
    return f"{comparison.ratio:.2f} [{comparison.interval.low:.2f}–{comparison.interval.high:.2f}]"


# The answer


def answer(findings: Findings) -> str:
    """The answer of the run: one sentence for each target that was compared with the baseline."""
    if not findings.challengers:
        return f"Only {findings.baseline} was measured, so there is nothing to compare."
    return " ".join(crossover_line(findings, target) for target in findings.challengers)


def crossover_line(findings: Findings, target: str) -> str:
    """Where the target starts to use less CPU than the baseline."""
    found, claim = findings.crossovers[target], crossover_claim(findings, target)
    if found.answer in ("above", "below"):
        far = f"; this lies outside the measured {range_pct(found.measured_pct)} and is extrapolated"
        return f"{claim} (95% interval {range_pct(found.interval_pct)}){far if found.outside_measured else ''}."
    if found.answer in ("always", "never"):
        measured = f" (measured from {range_pct(found.measured_pct, ' to ')})" if found.measured_pct else ""
        return f"{claim}{measured}."
    if found.answer == "equal":
        return f"{claim}, within {pct(100 * findings.run.manifest.thresholds.equivalence_delta)}."
    if len(findings.read_shares) == 1:
        return _at_one_share(findings, target)
    verdicts = _verdicts(findings, target)
    mixed = verdicts and not (verdicts.startswith("inconclusive") and ";" not in verdicts)
    return f"{claim}: {found.reason}.{f' Measured: {verdicts}.' if mixed else ''}"


def ratio_title(findings: Findings) -> str:
    """The answer without its intervals, which the figure shows."""
    if len(findings.read_shares) == 1 or not findings.challengers:
        return answer(findings)
    return "; ".join(crossover_claim(findings, target) for target in findings.challengers)


def crossover_claim(findings: Findings, target: str) -> str:
    base, found = findings.baseline, findings.crossovers[target]
    return {
        "above": f"{target} uses less CPU than {base} above {pct(found.share_pct)} reads",
        "below": f"{target} uses less CPU than {base} below {pct(found.share_pct)} reads",
        "always": f"{target} uses less CPU than {base} at every read share",
        "never": f"{target} uses less CPU than {base} at no read share",
        "equal": f"{target} uses as much CPU as {base} at every measured read share",
        "inconclusive": f"The crossover of {target} and {base} is inconclusive",
    }[found.answer]


def _at_one_share(findings: Findings, target: str) -> str:
    """One read share shows no crossover, but which of the two uses less there."""
    ((cell, comparison),), base = findings.compared(target), findings.baseline
    share = cell.read_share_pct
    if comparison.ratio is None or comparison.verdict == "inconclusive":
        return f"At {share:g}% reads {target} against {base} is inconclusive: {comparison.reason}."
    same = comparison.verdict == "equivalent"
    size = f"as much CPU as {base}" if same else amount(comparison.ratio, base)
    return f"At {share:g}% reads {target} uses {size} (ratio {ratio_text(comparison)})."


def verdict_line(findings: Findings, target: str) -> str:
    """The verdicts of a target, with the read shares that have each."""
    return f"Verdicts on {target} against {findings.baseline}: {_verdicts(findings, target)}."


def _verdicts(findings: Findings, target: str) -> str:
    by_verdict = _grouped((found.verdict, f"{cell.read_share_pct:g}") for cell, found in findings.compared(target))
    return "; ".join(f"{verdict} at {', '.join(shares)}% reads" for verdict, shares in by_verdict.items())


def _grouped(pairs: Iterable[tuple[K, str]]) -> dict[K, list[str]]:
    found: dict[K, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def size_line(findings: Findings, target: str) -> str | None:
    """How much less or more CPU, at the lowest and the highest read share with a verdict that says so."""
    sizes = [
        f"{amount(found.ratio, findings.baseline)} at {cell.read_share_pct:g}% reads"
        for cell, found in findings.compared(target)
        if found.verdict in ("better", "worse") and found.ratio is not None
    ]
    if not sizes:
        return None
    return f"Per operation {target} uses {listed([*dict.fromkeys((sizes[0], sizes[-1]))])}."


# What the answer rests on


def fit_line(findings: Findings, target: str) -> str:
    """The fitted costs, and the ratios they predict beside the measured ones: the check of the straight line."""
    found = findings.crossovers[target]
    if found.baseline is None or found.target is None:
        return f"No costs could be fitted for {target}: {found.reason}."
    costs = " and ".join(
        f"{name} {us(cost.read_us)} a read, {us(cost.write_us)} a write"
        for name, cost in ((findings.baseline, found.baseline), (target, found.target))
    )
    checks = ", ".join(f"{c.read_share_pct:g}%: {c.predicted:.2f} ({c.measured:.2f})" for c in found.checks)
    return f"Fit: {costs}. Ratio predicted (measured) at {checks}."


def validity_line(findings: Findings) -> str:
    valid = findings.validity
    total, counts = valid.rounds.height, valid.counts()
    if not counts:
        return f"All {total} rounds are valid."
    late, void = counts.pop("generator late", 0), total - len(valid.cpu_rounds())
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    kept = f" In {late} rounds the generator was late or busy: their latency is void, their CPU counts." if late else ""
    return f"{void} of {total} rounds are void{f' ({reasons})' if reasons else ''}.{kept}"


def detectable_line(findings: Findings) -> str:
    """The planning figure: what difference this run could have shown."""
    judged = [found for _, found in findings.compared()]
    known = [(found.detectable_pct, found.rounds_needed or 0) for found in judged if found.detectable_pct is not None]
    if not known:
        return "Smallest detectable difference: unknown, too few valid rounds."
    worst, needed = (max(figures) for figures in zip(*known, strict=True))
    delta = pct(100 * findings.run.manifest.thresholds.equivalence_delta)
    return (
        f"Smallest detectable difference: {worst:.1f}% at every read share; "
        f"detecting {delta} takes about {needed:,} rounds."
    )


def starts_line(findings: Findings) -> str:
    """How the difference between two starts of the same program entered the intervals."""
    starts, start_sd = findings.run.slices["restart"].n_unique(), findings.run.manifest.thresholds.start_sd
    if starts == 1 and not start_sd:
        return "Each target was started once; two starts of the same program can differ by a few percent."
    times = "once" if starts == 1 else f"{starts} times"
    return f"Each target was started {times}; every interval allows for starts that differ (SD {100 * start_sd:g}%)."


def checks_line(findings: Findings) -> str:
    conformance, ledger = findings.run.manifest.checks.conformance, findings.run.manifest.checks.ledger
    assert conformance is not None and ledger is not None, "open_run refuses a run without its checks"
    rounds = findings.run.slices["round"].n_unique()
    unverified = 0 if ledger.rounds is None else rounds - ledger.rounds
    killed = f" The writes of {unverified} of {rounds} rounds were not verified: the run was killed there."
    return (
        f"Checked: same responses in {conformance.operations:,} operations ({', '.join(conformance.tempos)}); "
        f"ledger of {ledger.operations:,} operations: "
        f"{ledger.lost} lost, {ledger.phantom} phantom, {ledger.differing} differing." + killed * (unverified > 0)
    )


def durability_line(findings: Findings) -> str:
    """From the settings that the run recorded; how a plan calls them explains those of private servers."""
    manifest = findings.run.manifest
    settings, asked = manifest.fingerprint.durability, (manifest.plan or {}).get("durability")
    if not isinstance(settings, dict) or not settings:
        return "Durability: unknown, because no database of a target could be asked."
    off = [name for name, value in settings.items() if value == "off"]
    if not off:
        return "Durability: full. A crash loses no acknowledged write; a lost read store is replayed."
    if asked == "relaxed":
        lost = "lose the writes acknowledged in the last moments before it, each of them as a whole"
        return f"Durability: relaxed ({', '.join(off)} off). A crash can {lost}."
    return f"Durability: reduced ({', '.join(off)} off). A crash can lose or corrupt what was acknowledged."


def inconclusive_lines(findings: Findings) -> list[str]:
    """Why verdicts are inconclusive: one line for each target and reason."""
    reasons = _grouped(
        ((cell.target, found.reason), f"{cell.read_share_pct:g}")
        for cell, found in findings.compared()
        if found.verdict == "inconclusive"
    )
    return [
        f"{target} is inconclusive at {', '.join(shares)}% reads: {reason}."
        for (target, reason), shares in reasons.items()
    ]


def identical_lines(findings: Findings) -> list[str]:
    lines = []
    for pair in findings.identical:
        verdict = "they differ, so the run is void" if pair.failed else "no difference, as expected"
        if pair.comparison.interval is None:
            verdict = f"inconclusive: {pair.comparison.reason}"
        lines.append(f"A/A pair {pair.one} and {pair.other}: ratio {ratio_text(pair.comparison)}, {verdict}.")
    return lines


def unfinished(path: Path, manifest: Manifest, slices: pl.DataFrame) -> list[str]:
    """How far a run came, what is missing and how to resume it: one line each."""
    was, ledger = manifest.fingerprint, manifest.checks.ledger
    wanted, measured = (was.rounds or 0) * (was.restarts or 1), slices.filter(pl.col("phase") == "measure")
    counts = {
        share: measured.filter(pl.col("read_share_pct") == share)["round"].n_unique() for share in was.read_shares
    }
    unverified = slices["round"].n_unique() - (ledger.rounds or 0 if ledger else 0)
    ended = f"stopped at {manifest.finished_at}" if manifest.finished_at else "killed, or is still running"
    lines = [f"{path} is incomplete: run {manifest.run} of {manifest.created_at} was {ended}."]
    if manifest.kind != "compare":
        return [*lines, f"A run of `crossover {manifest.kind}` cannot be resumed: run it again."]
    return [
        *lines,
        f"Measured rounds: {', '.join(f'{count} of {wanted} at {share:g}%' for share, count in counts.items())} reads.",
        f"Missing: {wanted * len(counts) - measured['round'].n_unique()} rounds."
        + f" The writes of {unverified} measured rounds were not verified." * (unverified > 0),
        f"Resume:  crossover compare --resume {path}",
    ]


# The price


def staleness_line(findings: Findings, target: str) -> str:
    """What a reader sees of a write, over all read shares of the run."""
    seen = seen_in(findings, target)
    if not seen:
        return f"Staleness of {target} was not measured."
    probes, never = sum(v.probes for v in seen), sum(v.never for v in seen)
    stale = sum(v.stale_first * v.probes for v in seen)
    if not stale and not never:
        return f"{target}: no read missed an acknowledged write ({probes} probes)."
    slowest = slowest_ms(seen)
    until = "" if slowest is None else f"; 99% of writes are visible after {slowest:.0f} ms"
    late = f"; {never} were never seen" if never else ""
    return f"{target}: {100 * stale / probes:.0f}% of first reads after the write were stale{until}{late}."


def seen_in(findings: Findings, target: str) -> list[Visibility]:
    return [cell.visibility for cell in findings.of(target) if cell.visibility is not None]


def slowest_ms(seen: list[Visibility]) -> float | None:
    """The longest p99 until visible; None where one was not reached within the probe."""
    times = [v.p99_us for v in seen if v.p99_us is not None]
    return max(times) / 1000 if times and len(times) == len(seen) else None


def applied_line(findings: Findings, target: str) -> str | None:
    """The projector's own account, beside what a client saw."""
    found = applied(staleness_rows(findings.run, target, table="applied"))
    if found is None:
        return None
    return f"{target}: projector lag: p50 {found.p50_ms:g} ms, p99 {found.p99_ms:g} ms ({found.events:,} events)."


def token_line(findings: Findings, target: str) -> str | None:
    """What read-your-writes costs a reader, and what it saves, over all read shares of the run."""
    price = token_price(findings.run, target)
    if price is None:
        return None
    refused = f" ({price.behind} were refused because the views did not catch up in time)" if price.behind else ""
    return (
        f"{target}: a token adds {token_text(price)} ms to a read right after a write{refused}, which is then never "
        f"stale; without a token {100 * price.stale_without:.0f}% of {price.pairs} such reads were."
    )


def token_text(price: TokenPrice | None) -> str:
    """Signed ms with their 95% interval."""
    if price is None or price.interval_ms is None:
        return "–"
    return f"{price.added_ms:.2f} [{price.interval_ms.low:.2f} to {price.interval_ms.high:.2f}]"


# Operations and predictions


def mix_line(mix: Mix) -> str:
    return f"{mix.name} at {mix.rate_per_s:g} operations a second"


def sum_lines(checks: dict[str, list[Checked]]) -> list[str]:
    """Whether the costs of operations add up to those of whole mixes, to which none was fitted."""
    lines = []
    for mix, found in sorted(checks.items()):
        sides = [
            f"{check.predicted.target} {us(check.predicted.cost.total_us)} predicted, "
            f"{us(check.measured_us)} measured ({100 * check.error:+.1f}%)"
            for check in found
            if check.predicted.cost
        ]
        lines.append(f"Check, {mix} at {found[0].predicted.read_share_pct:g}% reads: {'; '.join(sides)}.")
    return lines
