"""Legal and illegal HTTP/1.1 responses, generated, and a raw server that sends any bytes it is given."""

import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from hypothesis import strategies as st

from tests.threads import listening


class Answer(NamedTuple):
    """What every client must read, however it is rendered."""

    status: int
    token: str
    body: bytes


BODILESS = (204, 304)
OWS = st.text(" \t", max_size=3)
ANSWERS = st.builds(
    lambda status, token, body: Answer(status, token, b"" if status in BODILESS else body),
    st.sampled_from([200, 201, 204, 302, 304, 404, 503]),
    st.from_regex(r"[!-~]([ -~]{0,8}[!-~])?", fullmatch=True).filter(lambda token: "," not in token),
    st.binary(max_size=40) | st.just(b"0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
)


@st.composite
def field(draw: st.DrawFn, name: str, value: str) -> bytes:
    """A line in some case, with some white space around its value."""
    name = "".join(draw(st.sampled_from([mark.lower(), mark.upper()])) for mark in name)
    return f"{name}:{draw(OWS)}{value}{draw(OWS)}\r\n".encode("latin-1")


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    """In chunks of any size, with extensions and a trailer."""
    rendered = b""
    while body:
        size = draw(st.integers(1, len(body)))
        digits = draw(st.sampled_from([f"{size:x}", f"{size:X}", f"{size:05x}"]))
        extension = draw(st.sampled_from(["", ";a", " ;a=b", ';a="x;y"; c']))
        rendered, body = rendered + f"{digits}{extension}\r\n".encode() + body[:size] + b"\r\n", body[size:]
    trailer = b"".join(draw(st.lists(field("X-Sum", "9"), max_size=2)))
    return rendered + draw(st.sampled_from([b"0", b"000", b"0;last"])) + b"\r\n" + trailer + b"\r\n"


@st.composite
def legal(draw: st.DrawFn) -> tuple[Answer, bytes, bool]:
    """An answer, one of its legal renderings, and whether only the end of the connection ends it."""
    answer = draw(ANSWERS)
    version = draw(st.sampled_from(["1.1", "1.1", "1.0"]))
    reason = draw(st.sampled_from(["", " ", " OK", " Nicht gefunden, f\xfcr jetzt"]))
    before = draw(st.lists(st.sampled_from([b"100", b"103 Early\r\nLink: </x>", b"102 "]), max_size=2))
    framing = draw(st.sampled_from(["length", "close", *(["chunked"] if version == "1.1" else [])]))
    lines, body, size = [draw(field("Consistency-Token", answer.token))], answer.body, str(len(answer.body))
    lines += draw(
        st.lists(st.sampled_from([b"X-Content-Length: 7\r\n", b"Via:transfer-encoding: chunked\r\n"]), max_size=2)
    )
    options = st.sampled_from(["close", "Keep-Alive", "keep-alive , x-y", "x-y,CLOSE", ", close"])
    lines += draw(st.lists(options.flatmap(lambda value: field("Connection", value)), max_size=1))
    if framing == "length":
        values = st.sampled_from([[size], [size, size], [f"{size}, {size}"]])
        lines += [draw(field("Content-Length", value)) for value in draw(values)]
    elif framing == "chunked":
        values = st.sampled_from(["chunked", "Chunked", "CHUNKED", ", chunked ,"])
        lines.append(draw(field("Transfer-Encoding", draw(values))))
        body = b"" if answer.status in BODILESS else draw(chunked(body))
    head = f"HTTP/{version} {answer.status}{reason}\r\n".encode("latin-1")
    text = b"".join(b"HTTP/1.1 " + line + b"\r\n\r\n" for line in before) + head
    text += b"".join(draw(st.permutations(lines))) + b"\r\n" + body
    return answer, text, framing == "close" and answer.status not in BODILESS


OK = b"HTTP/1.1 200 OK\r\n"
LENGTH, CHUNKS = OK + b"Content-Length: 2\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"
ILLEGAL = {
    "another protocol": b"SSH-2.0-OpenSSH_9\r\n",
    "HTTP/2": b"HTTP/2 200\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/0.9": b"<html>",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a status of no class": b"HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\n{}",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "one bare line feed": OK + b"X: a\nContent-Length: 2\r\n\r\n{}",
    "a bare carriage return": LENGTH + b"X: a\rb\r\n\r\n{}",
    "a NUL": LENGTH + b"X: a\0b\r\n\r\n{}",
    "folding": LENGTH + b"X: a\r\n b\r\n\r\n{}",
    "folding by a tab": LENGTH + b"X: a\r\n\tb\r\n\r\n{}",
    "space before the colon": OK + b"Content-Length : 2\r\n\r\n{}",
    "no colon": LENGTH + b"X\r\n\r\n{}",
    "no name": LENGTH + b": x\r\n\r\n{}",
    "length and chunks": LENGTH + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": LENGTH + b"Content-Length: 3\r\n\r\n{}",
    "two lengths in one": OK + b"Content-Length: 2, 3\r\n\r\n{}",
    **{
        f"length {value!r}": OK + b"Content-Length: " + value + b"\r\n\r\n{}"
        for value in (b"", b"-2", b"+2", b"2 2", b"0x2", b"2.0", b"1_0", b"\xb2", b"2,", b"9" * 30)
    },
    **{
        f"coding {value!r}": OK + b"Transfer-Encoding: " + value + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        for value in (b"", b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked;q=1", b"xchunked", b"identity")
    },
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    **{
        f"chunk size {value!r}": CHUNKS + value + b"\r\n{}\r\n0\r\n\r\n"
        for value in (b"", b"-2", b"+2", b"0x2", b"2_", b"g", b" 2", b"2 2", b"2\n", b"f" * 16, b"2;\0", b"2" * 5000)
    },
    "a chunk that is longer": CHUNKS + b"1\r\n{}\r\n0\r\n\r\n",
    "a chunk that is shorter": CHUNKS + b"3\r\n{}\r\n0\r\n\r\n",
    "a trailer that is none": CHUNKS + b"2\r\n{}\r\n0\r\nX\r\n\r\n",
    "an endless trailer": CHUNKS + b"0\r\n" + b"X: y\r\n" * 20_000,
    "a head without end": OK + b"X: y\r\n" * 20_000,
    "informational without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000,
    "another protocol by 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "cut off in its head": LENGTH,
    "cut off in its body": LENGTH + b"\r\n{",
    "cut off in its chunks": CHUNKS + b"2\r\n{}\r\n",
    "cut off after 100": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@contextmanager
def sending(answers: Sequence[Iterable[bytes]], tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends one of these to each connection, piece by piece, and closes it; its URL and the requests."""
    requests, left = list[bytes](), iter(answers)

    def answer(connection: socket.socket) -> None:
        with tls.wrap_socket(connection, server_side=True) if tls else connection as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            requests.append(line.recv(65536))
            for piece in next(left, ()):
                line.sendall(piece)

    with listening(answer) as port:
        yield f"http://127.0.0.1:{port}", requests
