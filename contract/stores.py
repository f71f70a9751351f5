"""What is said of a store that is away: its own words in one line, in the log at most once a second."""

import logging
from time import monotonic

from contract.errors import StoreGone

REASON_MAX = 300
HIDDEN: set[str] = set()  # passwords of the addresses this process was given: a server may repeat what it was sent

LATEST: dict[str, StoreGone] = {}  # by what clients are told

_log = logging.getLogger("crossover")
_next_s: dict[str, float] = {}


def gone(detail: str, words: str) -> StoreGone:
    """The error to raise; `detail` is what clients are told, `words` what the store said."""
    reason, now_s = one_line(words), monotonic()
    if now_s >= _next_s.get(detail, 0.0):
        _next_s[detail] = now_s + 1.0
        _log.warning("%s %s", detail, reason)
    LATEST[detail] = StoreGone(detail, reason)
    return LATEST[detail]


def one_line(words: str) -> str:
    for secret in sorted(HIDDEN, key=len, reverse=True):
        words = words.replace(secret, "***")
    line = " ".join(words.split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:REASON_MAX]
