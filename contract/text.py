"""Text formats that every rung shares: times, page cursors and the words of a search."""

import re
import unicodedata
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

_encode = msgspec.json.Encoder().encode
_BASE64 = re.compile(r"[A-Za-z0-9_-]{84}")
_CURSOR = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII)


def time_text(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds: `2026-11-23T09:30:00.000000Z`."""
    text = _encode(at.astimezone(UTC)).decode()[1:-1]  # five times as fast as `isoformat`
    return text if at.microsecond else text[:-1] + ".000000Z"


def cursor_text(placed_at: str, order_id: str) -> str:
    """The opaque cursor of the page after the order (placed_at, id)."""
    return urlsafe_b64encode((placed_at + order_id).encode()).decode().rstrip("=")


def cursor_place(cursor: str) -> tuple[datetime, str]:
    """The (placed_at, order id) of a cursor; ValueError if it is not one."""
    found = _BASE64.fullmatch(cursor) and _CURSOR.fullmatch(urlsafe_b64decode(cursor).decode("ascii"))
    if not found:
        raise ValueError("not a cursor")
    return datetime.fromisoformat(found[1]), found[2]


@lru_cache(maxsize=50_000)
def words(text: str) -> tuple[str, ...]:
    """The distinct searchable words of a name or a search, in order of first occurrence."""
    return tuple(dict.fromkeys(split_words(text)))


def split_words(text: str) -> list[str]:
    """NFC, then full case folding, then split at everything outside the Unicode classes L and N."""
    folded = unicodedata.normalize("NFC", text).casefold()
    letters = "".join(c if unicodedata.category(c)[0] in "LN" else " " for c in folded)
    return letters.split()
