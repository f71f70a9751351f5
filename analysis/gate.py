"""The verdict of a gate: does head use more CPU per operation than base, or is this run inconclusive?

The verdict rests on one figure: the ratio of head to base over all rounds of all read shares. Its interval includes the
spread between starts. A control must show that the interval is wide enough on this machine: base against itself in the
same run, or the controls of earlier gates, whose spread then widens the interval.
"""

import math
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from analysis import sentences
from analysis.costs import family
from analysis.findings import Findings, find, judged
from analysis.layout import STYLES
from analysis.runs import UnusableRun, differences, read_manifest
from analysis.statistics import Comparison, Interval

HISTORY_MIN = 3  # gates, for the spread of their controls to mean something
MAY_DIFFER = {"commit", "dirty", "targets"}

Answer = Literal["same or better", "worse", "inconclusive"]


class Gate(NamedTuple):
    findings: Findings
    change: Comparison  # head over base; its interval is the one the answer rests on
    control: Comparison | None  # base again over base
    history: int  # gates whose controls were taken into account
    answer: Answer = "inconclusive"
    reason: str = ""


def judge(folder: str | Path, history: str | Path | None = None) -> Gate:
    """Raises UnusableRun when the folder is no gate or gives no figures."""
    findings = find(folder)
    if findings.run.manifest.kind != "gate":
        raise UnusableRun(f"{folder} is a run of `crossover {findings.run.manifest.kind}`, not of `crossover gate`.")
    change, control, earlier = _change(findings), _control(findings), _controls(findings, history)
    if change.interval and change.ratio and len(earlier) >= HISTORY_MIN:
        spread = math.exp(2 * math.sqrt(sum(math.log(ratio) ** 2 for ratio in earlier) / len(earlier)))
        low, high = change.interval
        change = change._replace(interval=Interval(min(low, change.ratio / spread), max(high, change.ratio * spread)))
    answer, reason = _answer(findings, change, control, len(earlier))
    return Gate(findings, change, control, len(earlier), answer, reason)


def _answer(findings: Findings, change: Comparison, control: Comparison | None, history: int) -> tuple[Answer, str]:
    most = 1 + findings.run.manifest.thresholds.equivalence_delta
    for share in findings.read_shares:
        if why := findings.validity.too_many_gone(share):
            return "inconclusive", f"at {share:g}% reads {why}"
    if change.interval is None:
        unmeasured = findings.costs["cpu_us"].is_null().any()
        why = "the CPU of a target was not measured" if unmeasured else f"there is too little data: {change.reason}"
        return "inconclusive", why
    if history < HISTORY_MIN and (control is None or control.interval is None):
        why = f"give --again a second instance of base, or --history a folder with {HISTORY_MIN} such gates"
        return "inconclusive", f"nothing shows how much base differs from itself here: {why}"
    if control and control.verdict in ("better", "worse"):
        return "inconclusive", f"base differs from itself, ratio {sentences.ratio_text(control)}: too much noise"
    if change.interval.high <= most:
        return "same or better", f"at most {100 * (most - 1):g}% more CPU"
    if change.interval.low > 1:
        return "worse", "the whole interval is above 1"
    return "inconclusive", f"the interval contains both 1 and {most:g}: more rounds are needed"


def _change(findings: Findings) -> Comparison:
    """Head over base, all read shares together; a base that was measured twice counts with the mean of the two."""
    base, head, *again = findings.run.targets
    logs, starts = family(findings.costs, base, head, None)
    if again:
        others, _ = family(findings.costs, again[0], head, None)
        logs = (logs + others) / 2 if len(others) == len(logs) else logs  # a round counts only if it is whole
    return judged(findings.run, [(logs, starts)])[0]


def _control(findings: Findings) -> Comparison | None:
    """The second base over the first."""
    base, _, *again = findings.run.targets
    return judged(findings.run, [family(findings.costs, base, again[0], None)])[0] if again else None


def require_history(history: str | Path | None) -> None:
    """A folder, or none yet: the first gate has nothing behind it."""
    path = Path(history or ".")
    if not path.is_dir() and (path.exists() or not path.parent.is_dir()):
        raise UnusableRun(f"{path} is not a folder: give --history the folder that holds the runs of earlier gates.")


def _controls(findings: Findings, history: str | Path | None) -> list[float]:
    """The control ratios of earlier gates like this one."""
    require_history(history)
    was, ratios = findings.run.manifest, []
    for file in sorted(Path(history).glob("*/manifest.json")) if history else []:
        try:
            other = read_manifest(file.parent)
            if other.kind == "gate" and other.run != was.run and not set(differences(was, other)) - MAY_DIFFER:
                control = _control(find(file.parent))
                ratios += [control.ratio] if control and control.ratio else []
        except UnusableRun:
            continue  # what gives no figures says nothing about noise
    return ratios


def lines(gate: Gate) -> list[str]:
    """The verdict first, then what it rests on."""
    run = gate.findings
    base, head, *_ = (f"{target.name} ({target.rung})" for target in run.run.manifest.fingerprint.targets)
    both, ratio = " (the mean of both)" if gate.control else "", sentences.ratio_text(gate.change)
    control = [f"A/A control, base over itself: {sentences.ratio_text(gate.control)}."] if gate.control else []
    return [
        f"{gate.answer}: {head} against {base}, {gate.reason}.",
        f"CPU per operation of head over base{both}: {ratio}, {gate.change.rounds} rounds.",
        *control,
        *([f"History: the A/A controls of {gate.history} gates."] if gate.history else []),
        *(line(run) for line in (sentences.starts_line, sentences.validity_line, sentences.checks_line)),
    ]


def render(folder: str | Path, history: str | Path | None = None) -> RenderableType:
    gate = judge(folder, history)
    first, *rest = lines(gate)
    return Group(Text(first, style=f"bold {STYLES[gate.answer]}"), *(Text("· " + line) for line in rest))
