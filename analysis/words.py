"""What a run says, in sentences computed from its verdicts: table, plots and report all quote these."""

from pathlib import Path

import polars as pl

from analysis.crossover import Crossover
from analysis.findings import Cell, Findings, staleness_rows, token_price
from analysis.operations import Mix
from analysis.prediction import Checked
from analysis.staleness import TokenPrice, applied
from analysis.statistics import Comparison, Interval, Verdict
from loadtests.format import Manifest


def answer(findings: Findings) -> str:
    """The answer of the run: one sentence for each target that was compared with the baseline."""
    if not findings.challengers:
        return f"Only {findings.baseline} was measured, so there is nothing to compare."
    return " ".join(crossover_line(findings, target) for target in findings.challengers)


def crossover_line(findings: Findings, target: str) -> str:
    """Where the target starts to need less CPU than the baseline."""
    base, found = findings.baseline, findings.crossovers[target]
    meets, interval = f"{_pct(found.share_pct)} reads", f"(95 % interval {_range(found.interval_pct)})"
    if found.answer == "above":
        return f"{target} needs less CPU than {base} from {meets} on {interval}{_outside(found)}."
    if found.answer == "below":
        return f"{target} needs less CPU than {base} up to {meets} {interval}{_outside(found)}."
    if found.answer == "always":
        return f"{target} needs less CPU than {base} at every read share{_span(found)}."
    if found.answer == "never":
        return f"{target} needs less CPU than {base} at no read share{_span(found)}."
    if found.answer == "equal":
        delta = findings.run.manifest.thresholds.equivalence_delta
        return f"{target} needs as much CPU as {base}, within {_pct(100 * delta)}, at every measured read share."
    if len(findings.read_shares) == 1:
        return _at_one_share(findings, target)
    verdicts = _verdicts(findings, target)
    told = verdicts and not (verdicts.startswith("inconclusive") and ";" not in verdicts)
    measured = f" Measured: {verdicts}." if told else ""
    return f"From which read share {target} needs less CPU than {base} is inconclusive: {found.reason}.{measured}"


def _at_one_share(findings: Findings, target: str) -> str:
    """One read share shows no crossover, but which of the two needs less there."""
    (share,), base = findings.read_shares, findings.baseline
    comparison = findings.cell(share, target).comparison
    assert comparison is not None, "a challenger is compared with the baseline"
    if comparison.ratio is None or comparison.verdict == "inconclusive":
        return (
            f"At {share:g} % reads it is inconclusive whether {target} needs less CPU than {base}: {comparison.reason}."
        )
    if comparison.verdict == "equivalent":
        return f"At {share:g} % reads {target} needs as much CPU as {base} (ratio {ratio_text(comparison)})."
    size = f"{times_text(comparison.ratio)} CPU than {base} (ratio {ratio_text(comparison)})"
    return f"At {share:g} % reads {target} needs {size}."


def verdict_line(findings: Findings, target: str) -> str:
    """The verdicts of a target, with the read shares that have each."""
    return f"Verdicts on {target} against {findings.baseline}: {_verdicts(findings, target)}."


def size_line(findings: Findings, target: str) -> str | None:
    """How much less or more CPU, at the lowest and the highest read share with a verdict that says so."""
    told = [
        (share, comparison.ratio)
        for share in findings.read_shares
        if (comparison := findings.cell(share, target).comparison)
        and comparison.verdict in ("better", "worse")
        and comparison.ratio is not None
    ]
    if not told:
        return None
    says = [f"{times_text(ratio)} at {share:g} % reads" for share, ratio in dict([told[0], told[-1]]).items()]
    return f"CPU per operation of {target} against {findings.baseline}: {_and(says)}."


def ratio_text(comparison: Comparison | None, *, interval: bool = True) -> str:
    if comparison is None or comparison.ratio is None:
        return "–"
    if comparison.interval is None or not interval:
        return f"{comparison.ratio:.2f}"
    return f"{comparison.ratio:.2f} [{comparison.interval.low:.2f}–{comparison.interval.high:.2f}]"


def where(cell: Cell) -> str:
    return cell.operation or f"{cell.read_share_pct:g} %"


def sum_lines(checks: dict[str, list[Checked]]) -> list[str]:
    """Whether the costs of operations add up to those of whole mixes, to which none was fitted."""
    lines = []
    for mix, found in sorted(checks.items()):
        says = [
            f"{check.predicted.target} {check.predicted.cost.total_us:,.0f} µs predicted, "
            f"{check.measured_us:,.0f} measured ({100 * check.error:+.1f} %)"
            for check in found
            if check.predicted.cost
        ]
        lines.append(f"Check, {mix} at {found[0].predicted.read_share_pct:g} % reads: {'; '.join(says)}.")
    return lines


def half_width(cell: Cell) -> str:
    """Half the interval of a fitted cost, in per cent of the cost."""
    if cell.cost is None or cell.interval_us is None or cell.cost.total_us <= 0:
        return "–"
    return f"{50 * (cell.interval_us.high - cell.interval_us.low) / cell.cost.total_us:.0f} %"


def mix_line(mix: Mix) -> str:
    return f"{mix.name} at {mix.rate_per_s:g} operations a second"


def times_text(ratio: float) -> str:
    """A ratio as a person would say it: “3.1 times less”, “18 % more”."""
    if ratio <= 0.5:
        return f"{1 / ratio:.1f} times less"
    if ratio >= 2:
        return f"{ratio:.1f} times more"
    return f"{100 * abs(1 - ratio):.0f} % {'less' if ratio < 1 else 'more'}"


def fit_line(findings: Findings, target: str) -> str:
    """The fitted costs, and the ratios they predict beside the measured ones: the check of the straight line."""
    found = findings.crossovers[target]
    if found.baseline is None or found.target is None:
        return f"No costs could be fitted for {target}: {found.reason}."
    costs = " and ".join(
        f"{name} {cost.read_us:,.0f} µs a read, {cost.write_us:,.0f} µs a write"
        for name, cost in ((findings.baseline, found.baseline), (target, found.target))
    )
    checks = ", ".join(f"{c.read_share_pct:g} %: {c.predicted:.2f} ({c.measured:.2f})" for c in found.checks)
    return f"Fit: {costs}. Ratio predicted (measured) at {checks}."


def validity_line(findings: Findings) -> str:
    valid = findings.validity
    total, counts = valid.rounds.height, valid.counts()
    late = counts.get("generator late", 0)
    gone = total - len(valid.cpu_rounds())
    if not counts:
        return f"All {total} rounds are valid."
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items() if reason != "generator late")
    line = f"{gone} of {total} rounds are void{f' ({reasons})' if reasons else ''}."
    return line + (
        f" In {late} the generator was late or busy: their latency is void, their CPU counts." if late else ""
    )


def detectable_line(findings: Findings) -> str:
    """The planning figure: what difference this run could have seen."""
    known = [
        cell.comparison for cell in findings.cells if cell.comparison and cell.comparison.detectable_pct is not None
    ]
    if not known:
        return "Too few valid rounds to say what difference this run could have seen."
    worst = max(comparison.detectable_pct or 0 for comparison in known)
    needed = max(comparison.rounds_needed or 0 for comparison in known)
    delta = findings.run.manifest.thresholds.equivalence_delta
    return (
        f"This run could have seen a difference of {worst:.1f} % at every read share; "
        f"to see {_pct(100 * delta)} takes about {needed:,} rounds."
    )


def starts_line(findings: Findings) -> str:
    """How the difference between two starts of one program entered the intervals."""
    starts, start_sd = findings.run.slices["restart"].n_unique(), findings.run.manifest.thresholds.start_sd
    if starts == 1 and not start_sd:
        return "Each target was started once; two starts of one program can differ by some per cent."
    times = "once" if starts == 1 else f"{starts} times"
    return f"Each target was started {times}; every interval allows for starts that differ (SD {100 * start_sd:g} %)."


def checks_line(findings: Findings) -> str:
    conformance, ledger = findings.run.manifest.checks.conformance, findings.run.manifest.checks.ledger
    assert conformance is not None and ledger is not None, "open_run refuses a run without its checks"
    rounds = findings.run.slices["round"].n_unique()
    unclosed = 0 if ledger.rounds is None else rounds - ledger.rounds
    killed = f" The books of {unclosed} of {rounds} rounds were never closed: the run was killed there."
    return (
        f"Checked: same answers in {conformance.operations:,} operations ({', '.join(conformance.tempos)}); "
        f"ledger of {ledger.operations:,} operations: "
        f"{ledger.lost} lost, {ledger.phantom} phantom, {ledger.differing} differing." + killed * (unclosed > 0)
    )


def unfinished(path: Path, manifest: Manifest, slices: pl.DataFrame) -> list[str]:
    """How far a run came, what it lacks and how to go on: one line each."""
    was, ledger = manifest.fingerprint, manifest.checks.ledger
    wanted, measured = (was.rounds or 0) * (was.restarts or 1), slices.filter(pl.col("phase") == "measure")
    counts = {
        share: measured.filter(pl.col("read_share_pct") == share)["round"].n_unique() for share in was.read_shares
    }
    unbooked = slices["round"].n_unique() - (ledger.rounds or 0 if ledger else 0)
    ended = f"stopped at {manifest.finished_at}" if manifest.finished_at else "killed, or still goes on"
    lines = [f"{path} is incomplete: run {manifest.run} of {manifest.created_at} was {ended}."]
    if manifest.kind != "compare":
        return [*lines, f"A run of `crossover {manifest.kind}` cannot be resumed: run it again."]
    parts = ", ".join(f"{count} of {wanted} at {share:g} %" for share, count in counts.items())
    return [
        *lines,
        f"Measured rounds: {parts} reads.",
        f"Missing: {wanted * len(counts) - measured['round'].n_unique()} rounds."
        + f" The books of {unbooked} that are there were never closed." * (unbooked > 0),
        f"Go on:   crossover compare --resume {path}",
    ]


def durability_line(findings: Findings) -> str:
    settings = findings.run.manifest.fingerprint.durability
    if not isinstance(settings, dict) or "synchronous_commit" not in settings:
        return "Durability: unknown, as no database of a target could be asked."
    off = [name for name, value in settings.items() if value == "off"]
    if not off:
        return "Durability: full. A crash loses no acknowledged write; a read store that is lost is replayed."
    if off == ["synchronous_commit"]:
        return (
            "Durability: relaxed (synchronous_commit off). A crash of PostgreSQL can lose the writes it acknowledged in"
            " its last 0.6 s, each of them wholly."
        )
    return f"Durability: none to speak of ({', '.join(off)} off). A crash can lose or spoil everything."


def doubt_lines(findings: Findings) -> list[str]:
    """Why verdicts are inconclusive: one line for each target and reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in findings.cells:
        if cell.comparison and cell.comparison.verdict == "inconclusive":
            reasons.setdefault((cell.target, cell.comparison.reason), []).append(f"{cell.read_share_pct:g}")
    return [
        f"{target} is inconclusive at {', '.join(shares)} % reads: {reason}."
        for (target, reason), shares in reasons.items()
    ]


def identical_lines(findings: Findings) -> list[str]:
    lines = []
    for pair in findings.identical:
        says = "differs, so the run is void" if pair.failed else "agrees with itself"
        if pair.comparison.interval is None:
            says = f"says nothing: {pair.comparison.reason}"
        lines.append(f"A/A pair {pair.one} and {pair.other}: ratio {ratio_text(pair.comparison)}, {says}.")
    return lines


def staleness_line(findings: Findings, target: str) -> str:
    """What a reader sees of a write, over all read shares of the run."""
    seen = [c.visibility for c in findings.cells if c.target == target and c.visibility is not None]
    if not seen:
        return f"Staleness of {target} was not measured."
    probes, never = sum(v.probes for v in seen), sum(v.never for v in seen)
    stale = sum(v.stale_first * v.probes for v in seen)
    if not stale and not never:
        return f"{target}: no read missed an acknowledged write ({probes} probes)."
    p99 = [v.p99_us for v in seen]
    slowest = max((time for time in p99 if time is not None), default=None)
    until = "" if slowest is None or None in p99 else f"; 99 % of writes are visible after {slowest / 1000:.0f} ms"
    late = f"; {never} were never seen" if never else ""
    return f"{target}: {100 * stale / probes:.0f} % of the earliest reads miss the write" + until + late + "."


def applied_line(findings: Findings, target: str) -> str | None:
    """The projector's own account, beside what a client saw."""
    found = applied(staleness_rows(findings.run, target, table="applied"))
    if found is None:
        return None
    return (
        f"{target}: by its projector's account half of {found.events:,} events were in the views "
        f"within {found.p50_ms:g} ms of their recording, 99 % within {found.p99_ms:g} ms."
    )


def token_line(findings: Findings, target: str) -> str | None:
    """What read-your-writes costs a reader, and what it saves, over all read shares of the run."""
    price = token_price(findings.run, target)
    if price is None:
        return None
    refused = f" ({price.behind} were refused, as the views did not get there in time)" if price.behind else ""
    return (
        f"{target}: a read at once after a write takes {token_text(price)} ms more with its token{refused} and is then "
        f"never stale; without, {100 * price.stale_without:.0f} % of {price.pairs} are."
    )


def token_text(price: TokenPrice | None) -> str:
    """Signed ms with their 95 % interval."""
    if price is None or price.interval_ms is None:
        return "–"
    return f"{price.added_ms:.2f} [{price.interval_ms.low:.2f} to {price.interval_ms.high:.2f}]"


def _and(things: list[str]) -> str:
    return " and ".join([", ".join(things[:-1]), things[-1]] if len(things) > 1 else things)


def _verdicts(findings: Findings, target: str) -> str:
    shares: dict[Verdict, list[str]] = {}
    for share in findings.read_shares:
        comparison = findings.cell(share, target).comparison
        if comparison is not None:
            shares.setdefault(comparison.verdict, []).append(f"{share:g}")
    return "; ".join(f"{verdict} at {', '.join(where)} % reads" for verdict, where in shares.items())


def _outside(found: Crossover) -> str:
    if not found.outside_measured or found.measured_pct is None:
        return ""
    return f"; this lies outside the measured {_range(found.measured_pct)} and is drawn out from there"


def _span(found: Crossover) -> str:
    return f" (measured from {_range(found.measured_pct, to=' to ')})" if found.measured_pct else ""


def _pct(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g} %"


def _range(interval: Interval | None, to: str = "–") -> str:
    return "no interval" if interval is None else f"{interval.low:.3g}{to}{interval.high:.3g} %"


def ratio_title(findings: Findings) -> str:
    """Short: the figure shows the interval."""
    if len(findings.read_shares) == 1 and findings.challengers:
        return answer(findings)
    says = []
    for target in findings.challengers:
        found = findings.crossovers[target]
        says.append(
            {
                "above": f"{target} needs less CPU than {findings.baseline} from {_pct(found.share_pct)} reads on",
                "below": f"{target} needs less CPU than {findings.baseline} up to {_pct(found.share_pct)} reads",
                "always": f"{target} always needs less CPU than {findings.baseline}",
                "never": f"{target} never needs less CPU than {findings.baseline}",
                "equal": f"{target} needs as much CPU as {findings.baseline}",
                "inconclusive": f"where {target} overtakes {findings.baseline} is inconclusive",
            }[found.answer]
        )
    title = "; ".join(says)
    return title[:1].upper() + title[1:] if title.startswith("where") else title


def operations_title(findings: Findings, cells: list[Cell]) -> str:
    """In how many operations the last challenger needs less, and in how many more, than the baseline."""
    target = findings.challengers[-1] if findings.challengers else findings.baseline
    told = [cell.comparison.verdict for cell in cells if cell.target == target and cell.comparison]
    if not told:
        return f"What each operation of {target} costs"
    less, more = told.count("better"), told.count("worse")
    return f"Of {len(told)} operations {target} does {less} with less CPU than {findings.baseline}, {more} with more"


def cpu_title(findings: Findings) -> str:
    """Where most CPU goes at the highest read share, for the baseline and the last challenger."""
    for share in reversed(findings.read_shares):
        says = []
        for target in dict.fromkeys([findings.baseline, *findings.challengers[-1:]]):
            cost = findings.cell(share, target).cost
            if cost is not None:
                name = max(cost.by_component_us, key=cost.by_component_us.__getitem__)
                says.append(f"{name} in {target} ({100 * cost.by_component_us[name] / cost.total_us:.0f} %)")
        if says:
            return f"At {share:g} % reads most CPU goes to {_and(says)}"
    return "No CPU was measured in this run"


def latency_title(findings: Findings) -> str:
    """A description: p99 at the highest read share that has one."""
    for share in reversed(findings.read_shares):
        cells = [findings.cell(share, target) for target in findings.run.targets]
        known = [f"{cell.target} {cell.latency.p99_ms:.1f} ms" for cell in cells if cell.latency]
        if known:
            return f"99 % of operations at {share:g} % reads are answered within: {', '.join(known)}"
    return "No latency is valid in this run"


def staleness_title(findings: Findings) -> str:
    fresh, late = [], []
    for target in findings.run.targets:
        seen = [c.visibility for c in findings.cells if c.target == target and c.visibility is not None]
        if not seen:
            continue
        if not any(v.stale_first or v.never for v in seen):
            fresh.append(target)
            continue
        slowest = [v.p99_us for v in seen if v.p99_us is not None]
        until = f"after {max(slowest) / 1000:.0f} ms" if len(slowest) == len(seen) else "not within the time watched"
        late.append(f"99 % of writes to {target} are visible {until}")
    says = late + ([f"no read of {_and(fresh)} missed a write"] if fresh else [])
    title = "; ".join(says)
    return title[:1].upper() + title[1:] if title.startswith("no read") else title
