"""With a token a client reads its own writes and never goes back; a restored database is the one excuse."""

from typing import Any

import pytest

from loadtests.history import Entry
from loadtests.sessions import judge_sessions, uncertain, within


def read(at: float, version: int, tokens: bool = True, **histories: Any) -> Entry:
    return Entry("order", "/orders/1", 200, at, at + 0.5, {}, version, "a", tokens, **histories)


def test_without_tokens_going_back_is_counted_and_no_violation() -> None:
    assert judge_sessions([read(1, 2, tokens=False), read(2, 1, tokens=False)]) == ([], 1, 1)


@pytest.mark.parametrize(
    ("seen_s", "received", "sent", "findings"),
    [
        (2.0, "old", "old", 1),  # its token asks for what it saw
        (2.0, "old", "new", 0),  # what it saw was restored away, and its token is of what came after
        (2.0, "", "", 0),  # a token that names no history cannot tell
        (1.0, "old", "new", 1),  # what was there before the copy is there after it
    ],
)
def test_who_saw_what_was_restored_away_may_go_back_but_not_with_its_token(
    seen_s: float, received: str, sent: str, findings: int
) -> None:
    saw, back = read(seen_s, 2, received_history=received), read(9, 1, sent_history=sent)
    span = (1.9, 3.0)
    assert len(judge_sessions([saw, back], [span])[0]) == findings
    assert uncertain(saw, [span]).outcome == ("unknown" if within(saw, [span]) else "ok")
