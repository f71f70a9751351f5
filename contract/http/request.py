"""What a request says outside its body: ids, query parameters and headers, read strictly."""

import re
from datetime import datetime
from urllib.parse import unquote_to_bytes

from contract import text
from contract.errors import Invalid, Malformed
from contract.http.fields import UUID, Fields, deeper_than
from contract.position import Position, position_of

MAX_ERRORS = 10
MAX_DEPTH = 100  # the contract's deepest body has three levels
NO_VERSION = 2**62  # a version that nothing ever has: what longer numbers are read as

_DIGITS = re.compile(r"[0-9]+")
_WAIT = re.compile(r'\s*wait\s*=\s*("?)([0-9]+)\1\s*(?:;.*)?', re.IGNORECASE | re.ASCII)


class Request:
    """One request. Each method reads one thing and keeps what is wrong with it; `finish` refuses then."""

    __slots__ = ("_errors", "_headers", "_parameters", "_path", "body", "query")

    def __init__(self, path: dict[str, str], query: bytes, headers: dict[bytes, list[bytes]]) -> None:
        self._path, self.query, self._headers = path, query, headers
        self._errors: list[dict[str, str]] = []
        self._parameters: dict[str, list[bytes]] | None = None
        self.body: object = None

    def wrong(self, field: str, reason: str) -> None:
        self._errors.append({"field": field, "reason": reason})

    def finish(self) -> None:
        if self._errors:
            if deeper_than(self.body, MAX_DEPTH):
                raise Malformed("The JSON is too deeply nested.")
            raise Invalid("The request is not valid; see errors.", errors=self._errors[:MAX_ERRORS])

    def path_id(self, name: str) -> str:
        value = self._path[name]
        if not UUID.fullmatch(value):
            self.wrong(name, "must be a hyphenated UUID")
        return value.lower()

    def fields(self, *names: str) -> Fields:
        return Fields(self.body, frozenset(names), "", self._errors)

    # Headers

    def expected_version(self) -> int | None:
        sent = self._headers.get(b"expected-version")
        if sent is None:
            return None
        if len(sent) > 1 or not _DIGITS.fullmatch(digits := sent[0].decode("latin-1")):
            self.wrong("Expected-Version", "must be plain digits, once")
            return None
        digits = digits.lstrip("0") or "0"
        return int(digits) if len(digits) < 19 else NO_VERSION

    def token(self) -> Position | None:
        sent = self._headers.get(b"consistency-token")
        if sent is None:
            return None
        try:
            if len(sent) == 1:
                return position_of(sent[0].decode("latin-1"))
        except ValueError:
            pass
        self.wrong("Consistency-Token", "must be a token of an answer, once")
        return None

    def wait_s(self) -> int:
        """`Prefer: wait=<seconds>` (RFC 7240): the first that can be read, at most 5; 1 without."""
        for header in self._headers.get(b"prefer", ()):
            for preference in header.decode("latin-1").split(","):
                if found := _WAIT.fullmatch(preference):
                    digits = found[2].lstrip("0")
                    return min(5, int(digits[:2] or "0"))
        return 1

    # Query parameters

    def _parameter(self, name: str) -> str | None:
        """The text of a parameter, None where it is not given; unknown parameters are never looked at."""
        if not self.query:
            return None
        if self._parameters is None:
            self._parameters = {}
            for pair in self.query.split(b"&"):
                key, _, value = pair.replace(b"+", b" ").partition(b"=")
                self._parameters.setdefault(unquote_to_bytes(key).decode("latin-1"), []).append(value)
        values = self._parameters.get(name)
        if values is None:
            return None
        if len(values) > 1:
            self.wrong(name, "must be given once")
        elif not values[0]:
            self.wrong(name, "must not be empty")
        else:
            try:
                return unquote_to_bytes(values[0]).decode()
            except UnicodeDecodeError:
                self.wrong(name, "must be UTF-8")
        return None

    def number(self, name: str, default: int, highest: int) -> int:
        value = self._parameter(name)
        if value is None:
            return default
        digits = value.lstrip("0")
        if _DIGITS.fullmatch(value) and 0 < len(digits) < 5 and int(digits) <= highest:
            return int(digits)
        self.wrong(name, f"must be from 1 to {highest}, in plain digits")
        return default

    def cursor(self, name: str) -> tuple[datetime, str] | None:
        value = self._parameter(name)
        if value is None:
            return None
        try:
            return text.cursor_place(value)
        except ValueError:
            self.wrong(name, "must be the cursor of a page before")
            return None

    def words(self, name: str) -> tuple[str, ...]:
        known = len(self._errors)
        value = self._parameter(name)
        if value is None:
            if len(self._errors) == known:
                self.wrong(name, "is missing")
        elif len(value) > 200:
            self.wrong(name, "must have at most 200 code points")
        elif "\x00" in value:
            self.wrong(name, "must not hold NUL")
        elif not 1 <= len(text.split_words(value)) <= 10:
            self.wrong(name, "must have 1 to 10 words")
        else:
            return text.words(value)
        return ()
