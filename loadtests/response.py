"""Reads HTTP/1.1 responses by RFC 9112: whatever is legal, however it is cut up. Anything else is a BadResponse."""

import re
from typing import NamedTuple

HEAD_BYTES_MAX = 64 * 1024  # of all heads of one response, informational ones included; also of the trailer
BODY_BYTES_MAX = 64 * 1024 * 1024
CHUNK_LINE_BYTES_MAX = 4096
BODILESS = (b"204", b"304")
CHUNKED, UNTIL_CLOSED = -1, -2  # in place of a length

_TEXT = rb"[\t\x20-\x7e\x80-\xff]*+"
_FIELD = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:" + _TEXT
_HEAD = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9][0-9])(?: " + _TEXT + rb")?(?:\r\n" + _FIELD + rb")*+")
# Of the usual response: a Content-Length and nothing else that bears on its framing; in lower case.
_OTHER = rb"(?:\r\n(?!content-length:|transfer-encoding:|connection:)" + _FIELD + rb")*+"
_LENGTH = rb"\r\ncontent-length:[\t ]*+([0-9]{1,7}+)[\t ]*+"
_USUAL = re.compile(rb"http/1\.1 ((?!204|304)[2-5][0-9][0-9])(?: " + _TEXT + rb")?" + _OTHER + _LENGTH + _OTHER)
_TRAILER = re.compile(_FIELD)
_CHUNK = re.compile(rb"([0-9A-Fa-f]++)(?:[\t ]*+;" + _TEXT + rb")?")
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|connection):([^\r]*+)")


class BadResponse(ValueError):
    """What came is no HTTP/1.1 response, or ended within one; the message is a clause that says what is wrong."""


class Response(NamedTuple):
    status: int
    head: bytes  # without the empty line that ends it
    body: bytes
    reusable: bool  # whether the connection can be used again


def parse(received: bytes, *, ended: bool = False, bodiless: bool = False) -> Response | None:
    """The response that these bytes begin with; None while it is incomplete.

    `ended`: nothing more comes. `bodiless`: it answers a HEAD. What follows a response was not asked for: it is dropped
    with its connection.
    """
    end = received.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
    if end >= 0 and not bodiless and (usual := _USUAL.fullmatch(received[:end].lower())):  # a fraction of the time
        status, length = usual.groups()
        stop = end + 4 + int(length)
        if len(received) >= stop:
            return Response(int(status), received[:end], received[end + 4 : stop], len(received) == stop)
        response = None
    else:
        response = _whole(received, ended, bodiless)
    if response is None and ended:
        raise BadResponse("the connection ended within it")
    return response


def _whole(received: bytes, ended: bool, bodiless: bool) -> Response | None:
    begin, status = 0, b"1"
    while status < b"2":  # what is only informational comes before the response
        start, end = begin, received.find(b"\r\n\r\n", begin, HEAD_BYTES_MAX)
        if end < 0:
            _refuse_beginning(received, start)
            return None
        found = _HEAD.fullmatch(received, start, end)
        if found is None or found[2] == b"101":  # nobody asks for another protocol
            raise BadResponse("its head is not one of HTTP/1.1")
        minor, status = found.groups()
        begin = end + 4
    head = received[start:end]
    length, reusable = _framing(head.lower(), minor == b"0")
    if bodiless or status in BODILESS:
        length = 0
    if length == CHUNKED:
        whole = _chunks(received, begin)
        if whole is None:
            return None
        body, stop = whole
    elif length == UNTIL_CLOSED:
        if len(received) - begin > BODY_BYTES_MAX:
            raise BadResponse("its body is too long")
        if not ended:
            return None
        body, stop, reusable = received[begin:], len(received), False
    else:
        stop = begin + length
        if len(received) < stop:
            return None
        body = received[begin:stop]
    return Response(int(status), head, body, reusable and len(received) == stop)


def fields(head: bytes) -> dict[str, str]:
    """The header fields, names in lower case; the values of a repeated one are joined by commas."""
    found: dict[str, str] = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        name, value = name.lower(), value.strip(" \t")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _framing(head: bytes, http_1_0: bool) -> tuple[int, bool]:
    """By a head in lower case: the length of the body, or what else ends it, and whether the connection stays open."""
    lengths, codings, options = list[bytes](), list[bytes](), list[bytes]()
    for name, value in _FRAMING.findall(head):
        values = lengths if name == b"content-length" else codings if name == b"transfer-encoding" else options
        values += [element.strip(b" \t") for element in value.split(b",")]
    reusable = b"close" not in options and (not http_1_0 or b"keep-alive" in options)
    if codings:
        if [coding for coding in codings if coding] != [b"chunked"] or lengths or http_1_0:
            raise BadResponse("its body has a Transfer-Encoding other than chunked alone")
        return CHUNKED, reusable
    if not lengths:
        return UNTIL_CLOSED, reusable
    length = lengths[0]
    if not length.isdigit() or lengths.count(length) < len(lengths):
        raise BadResponse("its Content-Length is no number, or two that differ")
    if len(length) > 19 or int(length) > BODY_BYTES_MAX:
        raise BadResponse("its body is too long")
    return int(length), reusable


def _refuse_beginning(received: bytes, start: int) -> None:
    """Of a head that can never become one, so that nobody waits for its end."""
    head = received[start:]
    if len(received) >= HEAD_BYTES_MAX:
        raise BadResponse("its head is too long")
    if head[:7] != b"HTTP/1."[: len(head)] or b"\n" in head.replace(b"\r\n", b""):
        raise BadResponse("it is not HTTP/1.1")


def _chunks(received: bytes, at: int) -> tuple[bytes, int] | None:
    """The joined chunks from `at` on and where the trailer after them ends; None while something is missing."""
    parts, total = list[bytes](), 0
    while True:
        end = received.find(b"\r\n", at, at + CHUNK_LINE_BYTES_MAX)
        if end < 0 and len(received) - at < CHUNK_LINE_BYTES_MAX:
            return None
        found = _CHUNK.fullmatch(received, at, end) if end >= 0 else None
        if found is None:
            raise BadResponse("a chunk has no size")
        length, at = int(found[1], 16), end + 2
        if not length:
            break
        total += length
        if total > BODY_BYTES_MAX:
            raise BadResponse("its body is too long")
        ending = received[at + length : at + length + 2]
        if ending != b"\r\n"[: len(ending)]:
            raise BadResponse("a chunk is longer than its size")
        if len(ending) < 2:
            return None
        parts.append(received[at : at + length])
        at += length + 2
    limit = at + HEAD_BYTES_MAX
    while (end := received.find(b"\r\n", at, limit)) != at:
        if end < 0 and len(received) < limit:
            return None
        if end < 0 or not _TRAILER.fullmatch(received, at, end):
            raise BadResponse("its trailer is none")
        at = end + 2
    return b"".join(parts), at + 2
