"""The answer of a run in words: who wins at each read share and by how much, the crossover, what to choose, the price.

Where the fit of the crossover is uncertain, the measured verdicts still give a bound.
"""

from collections.abc import Sequence

from analysis import sentences
from analysis.crossover import AGREEMENT_MIN
from analysis.findings import Cell, Findings
from analysis.sentences import listed, pct, range_pct
from analysis.statistics import CONTAINS_1, Comparison, Interval

FRACTIONS = {4: "quarter", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth", 9: "ninth", 10: "tenth"}
CPU, LATENCY = "CPU", "median latency"


def lines(findings: Findings) -> list[str]:
    """All of it, a line each, in the order in which a reader with a decision to make needs it."""
    found = [*share_lines(findings), *crossover_lines(findings), *recommendation(findings), *step_lines(findings)]
    return [*(found or [text(findings)]), *price(findings)]


def text(findings: Findings) -> str:
    """Who wins, and the crossover, as one paragraph."""
    if not findings.challengers:
        return f"Only {findings.baseline} was measured, so there is nothing to compare."
    return " ".join([*share_lines(findings), *crossover_lines(findings)])


def headline(findings: Findings) -> str:
    """The crossover without its interval; of one read share who wins there."""
    if not crossover_lines(findings):
        return text(findings)
    first, *others = (claim(findings, target) for target in findings.challengers)
    return "; ".join([first, *(said.replace("The crossover", "the crossover", 1) for said in others)]) + "."


# At each read share


def share_lines(findings: Findings) -> list[str]:
    if findings.void and findings.challengers:
        return [f"Inconclusive: {findings.void}."]
    by_share = [
        (share, "; ".join(_against_baseline(findings, findings.cell(share, name)) for name in findings.challengers))
        for share in findings.read_shares
    ]
    latency = [name for name in findings.challengers if compared_by(findings, name) == LATENCY]
    why = dict.fromkeys(str(findings.unmeasured(findings.baseline, name)) for name in latency)
    return [
        *(f"{line[0].upper()}{line[1:]}, so latency is compared." for line in why),
        *(f"At {share:g}% reads {said}." for share, said in by_share if said),
    ]


def _against_baseline(findings: Findings, cell: Cell) -> str:
    base, what = findings.baseline, compared_by(findings, cell.target)
    found = judged(cell)
    if found.verdict == "inconclusive":
        return f"{cell.target} against {base} is inconclusive: {reason(found, what)}"
    return f"{cell.target} {'uses' if what == CPU else 'has'} {amount(found, what, base, delta(findings))}"


def compared_by(findings: Findings, target: str) -> str:
    return LATENCY if any(cell.faster for cell in findings.of(target)) else CPU


def judged(cell: Cell) -> Comparison:
    found = cell.faster or cell.comparison
    assert found is not None, "every challenger is compared"
    return found


def reason(found: Comparison, what: str) -> str:
    """Of an inconclusive comparison; an interval that contains 1 says between what and what."""
    if found.interval is None or found.reason != CONTAINS_1:
        return found.reason
    low, high = (_whole(100 * abs(1 - end)) for end in found.interval)
    return f"between {low}% less and {high}% more {what}"


def amount(found: Comparison, what: str = CPU, base: str = "", within_pct: str = "5%") -> str:
    """A ratio as a person would say it, with the interval of what it says: “57% less CPU than crud (50–66%)”."""
    assert found.ratio is not None, "a verdict has a ratio"
    ratio, interval, of = found.ratio, found.interval or Interval(found.ratio, found.ratio), f" of {base}" * bool(base)
    if found.verdict == "equivalent":
        return f"as much {what}{f' as {base}' * bool(base)}, within {within_pct}"
    if ratio <= 0.25:
        parts = round(1 / ratio)
        whole = parts in FRACTIONS and interval.low <= 1 / parts <= interval.high
        ends = f"{_whole(100 * interval.low)}–{_whole(100 * interval.high)}%"
        return f"{f'one {FRACTIONS[parts]}' if whole else f'{_whole(100 * ratio)}%'} of the {what}{of} ({ends})"
    if ratio >= 2:
        return f"{ratio:.1f} times the {what}{of} ({interval.low:.1f}–{interval.high:.1f})"
    low, high = sorted((100 * abs(1 - interval.low), 100 * abs(1 - interval.high)))
    size = f"{_whole(100 * abs(1 - ratio))}% {'less' if ratio < 1 else 'more'} {what}{f' than {base}' * bool(base)}"
    return f"{size} ({_whole(low)}–{_whole(high)}%)"


def _whole(percent: float) -> str:
    return f"{percent:.1f}" if percent < 0.95 else f"{percent:.0f}"


def delta(findings: Findings) -> str:
    return pct(100 * findings.run.manifest.thresholds.equivalence_delta)


# The crossover


def crossover_lines(findings: Findings) -> list[str]:
    """None where one read share was measured, which has no crossover, or where the whole run is void."""
    if len(findings.read_shares) == 1 or (findings.cells and findings.void):
        return []
    return [crossover_line(findings, target) for target in findings.challengers]


def crossover_line(findings: Findings, target: str) -> str:
    """Where the target starts to use less CPU than the baseline: an interval, or a bound."""
    found, said = findings.crossovers[target], claim(findings, target)
    if found.answer in ("above", "below") and not _bounded(findings, target):
        far = f"; this lies outside the measured {range_pct(found.measured_pct)} and is extrapolated"
        return f"{said} (95% interval {range_pct(found.interval_pct)}){far if found.outside_measured else ''}."
    if found.answer in ("always", "never"):
        measured = f" (measured from {range_pct(found.measured_pct, ' to ')})" if found.measured_pct else ""
        return f"{said}{measured}."
    if found.answer == "inconclusive" and not _bounded(findings, target):
        faster = next((cell.faster for cell in findings.of(target) if cell.faster), None)
        why = faster.reason if faster and faster.interval is None else "no measured read share shows a difference"
        return f"{said}: {why if faster else found.reason}."
    return f"{said}."


def claim(findings: Findings, target: str) -> str:
    """The crossover in a few words, without a full stop."""
    base, found = findings.baseline, findings.crossovers[target]
    if bound := _bounded(findings, target):
        return bound
    return {
        "above": f"{target} uses less CPU than {base} above {pct(found.share_pct)} reads",
        "below": f"{target} uses less CPU than {base} below {pct(found.share_pct)} reads",
        "always": f"{target} uses less CPU than {base} at every read share",
        "never": f"{target} uses more CPU than {base} at every read share",
        "equal": f"{target} uses as much CPU as {base} at every measured read share, within {delta(findings)}",
        "inconclusive": f"The crossover of {target} and {base} is inconclusive",
    }[found.answer]


def _bounded(findings: Findings, target: str) -> str:
    """What the verdicts say where the fit says nothing, or extrapolates; empty where they say nothing either."""
    found, what = findings.crossovers[target], compared_by(findings, target)
    if found.answer not in ("above", "below", "inconclusive"):
        return ""
    if found.answer != "inconclusive" and not found.outside_measured:
        return ""
    shares = {
        verdict: [cell.read_share_pct for cell in findings.of(target) if judged(cell).verdict == verdict]
        for verdict in ("better", "worse", "equivalent")
    }
    all_of = [verdict for verdict, which in shares.items() if len(which) == len(findings.read_shares)]
    less, more = shares["better"], shares["worse"]
    subject, verb = f"{target} {'uses' if what == CPU else 'has'}", f"{what} than {findings.baseline}"
    if all_of == ["equivalent"]:
        return f"{subject} as much {what} as {findings.baseline} at every measured read share, within {delta(findings)}"
    if less and more:
        low, high = sorted((less, more))
        if low[-1] > high[0]:
            return ""
        sides = f"{subject} more {verb} at {_shares(more)} reads and less at {_shares(less)} reads"
        return f"{sides}; the crossover lies between {low[-1]:g}% and {high[0]:g}%"
    if not less and not more:
        same = shares["equivalent"]
        where = f"at {len(same)} of {len(findings.read_shares)} read shares, within {delta(findings)}"
        return f"{subject} as much {what} as {findings.baseline} {where}" if same else ""
    where = "every measured read share" if all_of else f"{_shares(less or more)} reads"
    return f"{subject} {'less' if less else 'more'} {verb} at {where}; {_beyond(findings, target, less, more)}"


def _beyond(findings: Findings, target: str, less: Sequence[float], more: Sequence[float]) -> str:
    """On which side of these read shares a crossover can lie, by what the bootstrap draws of the fit agree on."""
    found, shares = findings.crossovers[target], [*less, *more]
    ends = ("always" if less else "never"), f"below {shares[0]:g}%", f"above {shares[-1]:g}%"
    sides = {"above": ends[1], "below": ends[2]} if less else {"above": ends[2], "below": ends[1]}
    for kind, side in sides.items():
        agreed = found.agreement.get(kind, 0.0)
        if agreed >= AGREEMENT_MIN:
            return f"the crossover lies {side}"
        if agreed + found.agreement.get(ends[0], 0.0) >= AGREEMENT_MIN:
            return f"any crossover lies {side}"
    return f"any crossover lies {ends[1]} or {ends[2]}"


def _shares(shares: Sequence[float]) -> str:
    return listed([f"{share:g}%" for share in shares])


# What to choose, what each step costs and buys, and the price


def recommendation(findings: Findings) -> list[str]:
    """By read share the cheapest target within the noise; of equals the one with the fewest parts."""
    chosen: dict[str, list[float]] = {}
    for share, name in findings.cheapest.items():
        chosen.setdefault(name, []).append(share)
    said = [f"{name} at {_shares(shares)} reads" for name, shares in chosen.items()]
    open_ = [share for share in findings.read_shares if share not in findings.cheapest]
    if not said:
        return []
    rest = f" Inconclusive at {_shares(open_)} reads." if open_ else ""
    by = "latency" if all(compared_by(findings, name) == LATENCY for name in findings.challengers) else CPU
    why = "the least CPU within the noise, and of equals the fewest parts" if by == CPU else "the least median latency"
    return [f"Recommended: {'; '.join(said)} ({why}).{rest}"]


def step_lines(findings: Findings) -> list[str]:
    """Each rung against its parent, where that is not the baseline itself."""
    found = []
    for target, parent in findings.parents.items():
        sizes = [
            f"at {cell.read_share_pct:g}% reads {_step(findings, cell.step)}"
            for cell in findings.of(target)
            if cell.step is not None
        ]
        found.append(f"Step from {parent} to {target}: {', '.join(sizes)}.")
    return found


def _step(findings: Findings, found: Comparison) -> str:
    if found.verdict == "inconclusive":
        return f"inconclusive ({reason(found, CPU)})"
    return amount(found, within_pct=delta(findings))


def price(findings: Findings) -> list[str]:
    """Parts of every target that was compared, and staleness and lag of those whose reads can be stale."""
    names = [findings.baseline, *findings.challengers] if findings.cells else []
    found = [sentences.parts_line(findings, names)] if names else []
    found += [line for name in names if (line := sentences.cache_line(findings, name))]
    seen = {name: each for name in names if (each := sentences.seen_in(findings, name))}
    if not seen:
        return [*found, "Staleness was not measured."] if names else []
    if fresh := [name for name, each in seen.items() if not each.stale_first and not each.never]:
        probes = sum(seen[name].probes for name in fresh)
        found.append(f"{listed(fresh)}: no read missed an acknowledged write ({probes} probes).")
    for name in names:
        if name not in fresh:
            said = (sentences.staleness_line, sentences.token_line, sentences.applied_line)
            found += [line for each in said if (line := each(findings, name))]
    return found
