"""What each client may see as it goes on: its own writes, never less than before, and answers of the contract alone."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from loadtests.history import COMMANDS, Entry
from loadtests.judge import Finding

STATUSES = (0, 200, 201, 404, 409, 412, 422, 503)  # what well-formed requests are answered; 0 is no answer
Span = tuple[float, float]  # from, to


def judge_sessions(entries: Iterable[Entry], restored: Sequence[Span] = ()) -> tuple[list[Finding], int, int]:
    """With a token a client reads its own writes, and never goes back. Returns the violations, and of the reads
    without a token how many went back and how many could have.

    What was seen in one of the spans may have been restored away since: then only a token of its own history still
    asks for it.
    """
    findings: list[Finding] = []
    stale = reads = 0
    seen: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)  # by the only history that must show it; or ""
    for entry in entries:
        resource, histories = (entry.client, entry.collection, entry.id), dict.fromkeys(("", entry.sent_history))
        if entry.version is None or not entry.id:
            continue
        before = max(seen[*resource, history] for history in histories)
        if entry.name not in COMMANDS and before:
            went_back = entry.version < before
            if entry.tokens and went_back:
                what = f"{entry.client} saw version {before} of {entry.collection}/{entry.id}, then {entry.version}"
                findings.append(Finding("stale", what))
            reads += not entry.tokens
            stale += went_back and not entry.tokens
        if not within(entry, restored):
            seen[*resource, ""] = max(seen[*resource, ""], entry.version)
        elif entry.received_history:
            seen[*resource, entry.received_history] = max(seen[*resource, entry.received_history], entry.version)
    return findings, stale, reads


def within(entry: Entry, spans: Sequence[Span]) -> bool:
    """Whether any moment of it falls into one of these spans of time."""
    return any(entry.sent_s < end_s and entry.done_s > start_s for start_s, end_s in spans)


def uncertain(entry: Entry, restored: Sequence[Span]) -> Entry:
    """What was acknowledged within such a span may have been restored away since, so its outcome is unknown."""
    may_be_gone = entry.outcome == "ok" and within(entry, restored)
    return msgspec.structs.replace(entry, status=0, version=None) if may_be_gone else entry


def judge_statuses(entries: Iterable[Entry]) -> list[Finding]:
    """Whatever goes wrong, an answer is one of the contract's, and neither a version nor a lag is negative."""
    return [
        Finding("trouble", f"{e.name} {e.path} answered {e.status}, {e.version}")
        for e in entries
        if e.status not in STATUSES or (e.version or 0) < 0
    ]
