"""How times, cursors and searched words are written; the same on every rung."""

import re
import unicodedata
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from functools import lru_cache

_CURSOR = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII)


def time_text(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds: `2026-11-23T09:30:00.000000Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if at.tzinfo is not UTC else _utc_text(at)


def _utc_text(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")[:26] + "Z"


def time_of(text: str) -> datetime:
    """The inverse of `time_text`; ValueError if it is none."""
    return datetime.fromisoformat(text)


def cursor_text(placed_at: str, order_id: str) -> str:
    """The opaque cursor after the order (placed_at, id) of a list."""
    return urlsafe_b64encode((placed_at + order_id).encode()).decode().rstrip("=")


def cursor_place(cursor: str) -> tuple[datetime, str]:
    """Where a cursor points: (placed_at, order id); ValueError if it is none."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{84}", cursor):
        raise ValueError("not a cursor")
    found = _CURSOR.fullmatch(urlsafe_b64decode(cursor).decode("ascii"))
    if not found:
        raise ValueError("not a cursor")
    return time_of(found[1]), found[2]


@lru_cache(maxsize=50_000)
def words(text: str) -> tuple[str, ...]:
    """The distinct searchable words of a name or a search, in order of first occurrence."""
    return tuple(dict.fromkeys(split_words(text)))


def split_words(text: str) -> list[str]:
    """NFC, then full case folding, then split at everything outside the Unicode classes L and N."""
    folded = unicodedata.normalize("NFC", text).casefold()
    letters = "".join(c if unicodedata.category(c)[0] in "LN" else " " for c in folded)
    return letters.split()
