"""JSON from outside: what is well-formed, and a JSON object read field by field with every problem named."""

import re
from collections.abc import Iterable
from json import JSONDecodeError, loads
from typing import NoReturn

import msgspec

from contract.errors import Malformed, UnsupportedMediaType

UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
_CHARSET = re.compile(r'charset="?utf-?8"?', re.IGNORECASE | re.ASCII)
_decode = msgspec.json.Decoder().decode


def json_body(body: bytes, content_types: list[bytes]) -> object:
    """The value of a body that must be JSON; refuses the media type first, then what cannot be parsed."""
    if content_types != [b"application/json"] and (body or content_types):
        _check_media_type(content_types)
    try:
        return _decode(body)
    except RecursionError:
        _malformed()
    except (msgspec.DecodeError, UnicodeDecodeError):
        # msgspec refuses lone surrogates too, which are well-formed JSON and bad text: the slower parser tells.
        try:
            return loads(body.decode(), parse_constant=_malformed)
        except (JSONDecodeError, UnicodeDecodeError, RecursionError):
            _malformed()
        except ValueError:  # what `int` says to more digits than it reads
            raise Malformed("A number is too long to read.") from None


def _malformed(_: str = "") -> NoReturn:
    raise Malformed("The body is not well-formed JSON in UTF-8, or too deeply nested.") from None


def _check_media_type(content_types: list[bytes]) -> None:
    if len(content_types) == 1:
        media_type, *parameters = (part.strip() for part in content_types[0].decode("latin-1").split(";"))
        charsets = [part for part in parameters if part.lower().startswith("charset=")]
        if media_type.lower() == "application/json" and all(map(_CHARSET.fullmatch, charsets)):
            return
    raise UnsupportedMediaType("The body must be application/json in UTF-8.")


def deeper_than(value: object, levels: int) -> bool:
    """Without recursion, because how deep Python recurses differs between its versions."""
    level = [value]
    for _ in range(levels):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


class Fields:
    """A JSON object with exactly these fields; `prefix` says where in the body it stands."""

    __slots__ = ("_errors", "_prefix", "_values")

    def __init__(self, value: object, names: frozenset[str], prefix: str, errors: list[dict[str, str]]) -> None:
        self._values: dict[str, object] = value if isinstance(value, dict) else {}
        self._prefix, self._errors = prefix, errors
        if isinstance(value, dict):
            if not value.keys() <= names:  # the name came from the client, so it is not repeated
                errors.append({"field": prefix.rstrip("."), "reason": "has an unknown field"})
            for name in sorted(names - value.keys()):
                self._wrong(name, "is missing")
        else:
            errors.append({"field": prefix.rstrip("."), "reason": "must be an object"})

    def _wrong(self, name: str, reason: str) -> None:
        self._errors.append({"field": self._prefix + name, "reason": reason})

    def integer(self, name: str, low: int, high: int) -> int:
        value = self._values.get(name, low)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON knows one kind of number: 5.0 is 5, as JSON Schema has it too
        if type(value) is not int:  # a bool is an int to Python, and not to the contract
            self._wrong(name, "must be an integer")
        elif not low <= value <= high:
            self._wrong(name, f"must be from {low} to {high}")
        else:
            return value
        return low

    def name(self, name: str) -> str:
        value = self._values.get(name, "-")
        if not isinstance(value, str):
            self._wrong(name, "must be a string")
        elif not 1 <= len(value) <= 200:
            self._wrong(name, "must have 1 to 200 code points")
        elif not value.strip():
            self._wrong(name, "must not be blank")
        elif _NOT_TEXT.search(value):
            self._wrong(name, "must hold neither NUL nor a lone surrogate")
        else:
            return value
        return ""

    def id(self, name: str) -> str:
        value = self._values.get(name)
        if isinstance(value, str) and UUID.fullmatch(value):
            return value.lower()
        if name in self._values:
            self._wrong(name, "must be a hyphenated UUID")
        return ""

    def objects(self, name: str, names: frozenset[str], low: int, high: int) -> "Iterable[Fields]":
        value = self._values.get(name)
        if not isinstance(value, list):
            if name in self._values:
                self._wrong(name, "must be an array")
        elif not low <= len(value) <= high:
            self._wrong(name, f"must have {low} to {high} items")
        else:
            for at, item in enumerate(value):
                yield Fields(item, names, f"{self._prefix}{name}[{at}].", self._errors)

    def repeated(self, name: str) -> None:
        self._wrong(name, "must not occur twice")
