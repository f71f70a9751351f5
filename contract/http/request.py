"""A request read strictly: ids in the path, query parameters, headers and the body."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from starlette.types import Receive, Scope

from contract import text
from contract.errors import Invalid, TooLarge
from contract.http.bodies import errors_of, json_value, refuse_deep, uuid
from contract.position import Position, position_of

T = TypeVar("T")

MAX_BODY_BYTES = 64 * 1024
MAX_ERRORS = 10
NO_VERSION = 2**62  # a version that nothing ever has: what longer numbers are read as

_READ_HEADERS = frozenset(
    (b"content-type", b"content-length", b"transfer-encoding", b"consistency-token", b"expected-version", b"prefer")
)
_DIGITS = re.compile(r"[0-9]+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)  # RFC 3339
_WAIT = re.compile(r'\s*wait\s*=\s*("?)([0-9]+)\1\s*(?:;.*)?', re.IGNORECASE | re.ASCII)


class Disconnected(Exception):
    """The client went away before its body was here: there is nobody to answer."""


class Request:
    """Each method reads one part and notes what is wrong with it, so that one refusal names all errors."""

    __slots__ = ("_content", "_errors", "_headers", "_parameters", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope, self._content = scope, b""
        self._headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            if name in _READ_HEADERS:
                self._headers.setdefault(name, []).append(value)
        self._errors: list[dict[str, str]] = []
        self._parameters: dict[str, list[bytes]] | None = None

    async def receive(self, receive: Receive) -> None:
        """Take the body in, but never more than the limit; refuses by its announced or its real length."""
        if b"content-length" not in self._headers and b"transfer-encoding" not in self._headers:
            return
        announced = int(self._headers.get(b"content-length", [b"0"])[0])
        content, more = bytearray(), True
        while more and max(announced, len(content)) <= MAX_BODY_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            content += message.get("body", b"")
            more = message.get("more_body", False)
        if max(announced, len(content)) > MAX_BODY_BYTES:
            raise TooLarge("The body is longer than 64 KiB.")
        self._content = bytes(content)

    def _wrong(self, field: str, reason: str) -> None:
        self._errors.append({"field": field, "reason": reason})

    def finish(self) -> None:
        """Refuse when any part that was read is wrong."""
        if self._errors:
            raise Invalid("The request is not valid; see errors.", errors=self._errors[:MAX_ERRORS])

    # Path

    @property
    def collection(self) -> str:
        """The first segment of the path: "customers", "products" or "orders"."""
        path: str = self._scope["path"]
        return path.split("/", 2)[1]

    def id(self, name: str = "id") -> str:
        try:
            return uuid(self._scope["path_params"][name])
        except PydanticCustomError as error:
            self._wrong(name, error.message())
            return ""

    def body(self, model: TypeAdapter[T]) -> T:
        """The body by its model. Refuses at once, for there is no command without it: read the other parts before."""
        value = json_value(self._content, self._headers.get(b"content-type", []))
        try:
            return model.validate_python(value, context=set())
        except ValidationError as failure:
            refuse_deep(self._content)
            self._errors += errors_of(failure)
            self.finish()
            raise AssertionError("a failure has errors") from None

    # Headers

    def version(self) -> int | None:
        sent = self._headers.get(b"expected-version")
        if sent is None:
            return None
        if len(sent) > 1 or not _DIGITS.fullmatch(digits := sent[0].decode("latin-1")):
            self._wrong("Expected-Version", "must be plain digits, once")
            return None
        digits = digits.lstrip("0") or "0"
        return int(digits) if len(digits) < 19 else NO_VERSION

    def token(self) -> Position | None:
        sent = self._headers.get(b"consistency-token")
        if sent is None:
            return None
        try:
            (token,) = sent
            return position_of(token.decode("latin-1"))
        except ValueError:
            self._wrong("Consistency-Token", "must be a token of an earlier answer, once")
            return None

    def wait_s(self) -> int:
        """`Prefer: wait=<seconds>` (RFC 7240): the first that can be read, at most 5; 1 without."""
        for header in self._headers.get(b"prefer", ()):
            for preference in header.decode("latin-1").split(","):
                if found := _WAIT.fullmatch(preference):
                    return min(5, int(found[2].lstrip("0")[:2] or "0"))
        return 1

    # Query parameters

    def _given(self, name: str) -> list[bytes] | None:
        """What a parameter was given as, once or more; unknown parameters are ignored."""
        if not self._scope["query_string"]:
            return None
        if self._parameters is None:
            self._parameters = {}
            for pair in self._scope["query_string"].split(b"&"):
                key, _, value = pair.replace(b"+", b" ").partition(b"=")
                self._parameters.setdefault(unquote_to_bytes(key).decode("latin-1"), []).append(value)
        return self._parameters.get(name)

    def gives(self, name: str) -> bool:
        return self._given(name) is not None

    def _parameter(self, name: str) -> str | None:
        """The text of a parameter, None where it is not given."""
        values = self._given(name)
        if values is None:
            return None
        if len(values) > 1:
            self._wrong(name, "must be given once")
        elif not values[0]:
            self._wrong(name, "must not be empty")
        else:
            try:
                return unquote_to_bytes(values[0]).decode()
            except UnicodeDecodeError:
                self._wrong(name, "must be UTF-8")
        return None

    def number(self, name: str, default: int, highest: int) -> int:
        value = self._parameter(name)
        if value is None:
            return default
        digits = value.lstrip("0")
        if _DIGITS.fullmatch(value) and 0 < len(digits) < 5 and int(digits) <= highest:
            return int(digits)
        self._wrong(name, f"must be from 1 to {highest}, in plain digits")
        return default

    def choice(self, name: str, choices: tuple[str, ...]) -> None:
        value = self._parameter(name)
        if value is not None and value not in choices:
            self._wrong(name, f"must be {' or '.join(choices)}")

    def cursor(self, name: str) -> tuple[datetime, str] | None:
        value = self._parameter(name)
        if value is None:
            return None
        try:
            return text.cursor_place(value)
        except ValueError:
            self._wrong(name, "must be the `next` of an earlier page")
            return None

    def moment(self, name: str) -> int | datetime:
        """A version or a time."""
        value = self._parameter(name)
        if value is None:
            return 0
        with suppress(ValueError, OverflowError):  # digits that are no time
            if _DIGITS.fullmatch(value):
                return int(value) if len(value) < 19 else NO_VERSION
            if _TIME.fullmatch(value):
                return datetime.fromisoformat(value).astimezone(UTC)
        self._wrong(name, "must be a version in plain digits, or a time as 2026-11-23T09:30:00.000000Z")
        return 0

    def words(self, name: str) -> tuple[str, ...]:
        known = len(self._errors)
        value = self._parameter(name)
        if value is None:
            if len(self._errors) == known:
                self._wrong(name, "is missing")
        elif len(value) > 200:
            self._wrong(name, "must have at most 200 code points")
        elif "\x00" in value:
            self._wrong(name, "must not hold NUL")
        elif not 1 <= len(text.split_words(value)) <= 10:
            self._wrong(name, "must have 1 to 10 words")
        else:
            return text.words(value)
        return ()
