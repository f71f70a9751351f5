"""The sentences about a run, computed from its verdicts: table, plots, report, README and CI quote these."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import polars as pl

from analysis.findings import EXTERNAL, Cell, Findings, staleness_rows, token_price
from analysis.operations import Mix
from analysis.prediction import Checked
from analysis.runs import is_worker
from analysis.staleness import TokenPrice, Visibility, applied, visibility
from analysis.statistics import SAMPLES_MIN, Comparison, Interval
from analysis.validity import CURES
from loadtests.format import Manifest


def ms(value_us: float) -> str:
    value = value_us / 1000
    return f"{value:.2g} ms" if value < 100 else f"{value:,.0f} ms"


def pct(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}%"


def range_pct(interval: Interval | None, to: str = "–") -> str:
    return "no interval" if interval is None else f"{interval.low:.3g}{to}{interval.high:.3g}%"


def listed(things: Sequence[str]) -> str:
    return " and ".join([", ".join(things[:-1]), things[-1]] if len(things) > 1 else things)


def us(value: float) -> str:
    return f"{value:,.0f} µs"


def ratio_text(comparison: Comparison | None, *, interval: bool = True) -> str:
    if comparison is None or comparison.ratio is None:
        return "–"
    if comparison.interval is None or not interval:
        return f"{comparison.ratio:.2f}"
    return f"{comparison.ratio:.2f} [{comparison.interval.low:.2f}–{comparison.interval.high:.2f}]"


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
    far = f" They meet at {pct(found.share_pct)} reads ({range_pct(found.interval_pct)}), extrapolated."
    return f"Fit: {costs}. Ratio predicted (measured) at {checks}.{far if found.outside_measured else ''}"


def validity_line(findings: Findings) -> str:
    valid = findings.validity
    total, counts = valid.rounds.height, valid.counts()
    repeated = findings.run.slices.filter(pl.col("phase") == "stolen")["round"].n_unique()
    again = f" Measured again after steal: {repeated}." if repeated else ""
    if not counts:
        return f"All {total} rounds are valid.{again}"
    reasons = "; ".join(f"{count} {reason}: {CURES[reason]}" for reason, count in counts.items())
    return f"{total - len(valid.good_rounds())} of {total} rounds are void ({reasons}).{again}"


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
    """From the recorded settings, so of targets we started alone; how a plan calls them explains private servers."""
    manifest, parts = findings.run.manifest, {name: findings.parts(name) for name in findings.run.targets}
    settings, asked = manifest.fingerprint.durability, (manifest.plan or {}).get("durability")
    own = [name for name, rung in findings.run.rungs.items() if rung == EXTERNAL]
    stored = [name for name in findings.run.targets if name not in own and parts[name] != ["app"]]
    unknown = f"Durability of {listed(own)}: unknown."
    if not isinstance(settings, dict) or not settings or not stored:
        return unknown if own else "Durability: unknown, because no database of a target could be asked."
    of, rest = (f" of {listed(stored)}", f" {unknown}") if own else ("", "")
    off = [name for name, value in settings.items() if value == "off"]
    if not off:
        replayed = "; a lost read store is replayed" * any(map(is_worker, chain(*(parts[name] for name in stored))))
        return f"Durability{of}: full. A crash loses no acknowledged write{replayed}.{rest}"
    if asked == "relaxed":
        lost = "lose the writes acknowledged in the last moments before it, each of them as a whole"
        return f"Durability{of}: relaxed ({', '.join(off)} off). A crash can {lost}.{rest}"
    return f"Durability{of}: reduced ({', '.join(off)} off). A crash can lose or corrupt what was acknowledged.{rest}"


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


def parts_line(findings: Findings, names: Sequence[str]) -> str:
    """How many parts run for each target: what is started, watched and can stop."""
    parts = {name: findings.parts(name) for name in names}
    said = [f"{name} {f'{len(own)} ({listed(own)})' if own else 'unknown'}" for name, own in parts.items()]
    return f"Parts: {'; '.join(said)}."


def staleness_line(findings: Findings, target: str) -> str:
    """What a reader sees of a write, over all read shares of the run."""
    seen = seen_in(findings, target)
    if seen is None:
        return f"Staleness of {target} was not measured."
    if not seen.stale_first and not seen.never:
        return f"{target}: no read missed an acknowledged write ({seen.probes} probes)."
    return f"{target}: {100 * seen.stale_first:.0f}% of first reads after the write were stale; {visible_line(seen)}."


def seen_in(findings: Findings, target: str) -> Visibility | None:
    return visibility(staleness_rows(findings.run, target))


def visible_line(seen: Visibility) -> str:
    """By the highest percentile that there are enough probes for."""
    late = f"; {seen.never} were never seen" if seen.never else ""
    for share, time in (("99", seen.p99_us), ("95", seen.p95_us)):
        if time is not None:
            return f"{share}% of writes are visible after {ms(time)}{late}"
    if seen.never:
        return f"{seen.never} of {seen.probes} writes were never seen"
    return f"all {seen.probes} writes were visible within {ms(seen.longest_us)}"


def applied_line(findings: Findings, target: str) -> str | None:
    """The projector's own account, beside what a client saw."""
    found = applied(staleness_rows(findings.run, target, table="applied"))
    if found is None:
        return None
    p99 = f", p99 {found.p99_ms:g} ms" * (found.events >= SAMPLES_MIN[0.99])
    return f"{target}: projector lag: p50 {found.p50_ms:g} ms{p99} ({found.events:,} events)."


def hits_text(cell: Cell) -> str:
    """What the cache of one target did at one read share."""
    assert cell.hits, "the cell has a cache that counts"
    share = f"{pct(100 * cell.hits.share)} of {cell.hits.reads:,} reads hit"
    if interval := cell.hits.interval:
        share += f" ({100 * interval.low:.1f}–{100 * interval.high:.1f}%)"
    counts = f"{cell.hits.loads:,} loads, {cell.hits.evictions:,} evictions"
    return f"{share}, {counts}, CPU × {ratio_text(cell.comparison)}"


def cache_line(findings: Findings, target: str) -> str | None:
    """What its cache counted, over all read shares of the run."""
    counted = [cell.hits[:4] for cell in findings.of(target) if cell.hits]
    if not counted:
        return None
    reads, hits, loads, evictions = map(sum, zip(*counted, strict=True))
    return f"{target}: {100 * hits / reads:.0f}% of {reads:,} reads hit, {loads:,} loads, {evictions:,} evictions."


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


# Latency


def latency_line(findings: Findings, target: str) -> str:
    """In full, for those who do not see the figure."""
    return ". ".join(
        f"{target} at {cell.read_share_pct:g}% reads: "
        + "; ".join(f"{name} {found.in_words}" for name, found in cell.latency.percentiles.items())
        for cell in findings.of(target)
        if cell.latency
    )


def latency_lines(findings: Findings) -> list[str]:
    """Which latencies are void or uncertain, why, and what helps."""
    cure, most = "lower --rate, or end other programs", pct(100 * findings.run.manifest.thresholds.lag_share_max)
    why = {
        "void": f"the load generator was later than the target took; {cure}",
        "uncertain": f"the load generator may have added more than {most}; {cure}",
    }
    reported = {share: findings.validity.too_many_gone(share) for share in findings.read_shares}
    lines = [f"Latency at {share:g}% reads is void: {gone}." for share, gone in reported.items() if gone]
    for mark, reason in why.items():
        marked = [
            f"{listed(names)} of {cell.target} at {cell.where} reads"
            for cell in findings.cells
            if cell.latency
            and (names := [name for name, found in cell.latency.percentiles.items() if found.mark == mark])
        ]
        lines += [f"Latency is {mark} ({reason}): {'; '.join(marked)}."] if marked else []
    return lines


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
