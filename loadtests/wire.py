"""HTTP/1.1 on raw gevent sockets, by callbacks: what a load generator needs of it, at a third of a client's CPU.

A greenlet for each request would cost more than the request itself, so the event loop calls back when an answer is
there. Answers may have a Content-Length, come in chunks, or end with their connection.
"""

import ssl
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gevent
from gevent import socket
from gevent.hub import get_hub

TIMEOUT_S = 10.0
Answered = Callable[[int, bytes], None]  # status and body; status 0: no usable answer


class Answer(NamedTuple):
    status: int
    body: bytes
    kept: bool  # whether the connection can be used again


class Wire:
    """Kept connections to one address, the last used first."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname, "a target has an address"
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.address = parts.hostname, parts.port or (443 if self.tls else 80)
        self.idle: list[Line] = []
        self._peer: tuple[int, Any] | None = None  # family and numeric address
        bearer = f"Authorization: Bearer {token}\r\n" if token else ""
        self._prefix = parts.path.rstrip("/")
        self._head = f" HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n{bearer}"

    def request(self, method: str, path: str, body: bytes | None = None, reflects: str = "") -> bytes:
        """What goes over the wire; `reflects`: the consistency token of what the answer must know of."""
        line = f"{method} {self._prefix}{path}{self._head}"
        line += f"Consistency-Token: {reflects}\r\n" if reflects else ""
        if body is None:
            return f"{line}\r\n".encode()
        return f"{line}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def line(self) -> "Line":
        """One that nobody uses; a new one if need be."""
        return self.idle.pop() if self.idle else Line(self)

    def connection(self) -> Any:
        """A new one. The address is looked up once: gevent has a thread do that, which takes milliseconds."""
        if self._peer is None:
            connection = socket.create_connection(self.address, TIMEOUT_S)
            self._peer = connection.family, connection.getpeername()
        else:
            family, address = self._peer
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.settimeout(TIMEOUT_S)
            connection.connect(address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap_socket(connection, server_hostname=self.address[0]) if self.tls else connection

    def close(self) -> None:
        while self.idle:
            self.idle.pop().hang_up()


class Line:
    """One connection, with at most one request under way."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._socket: Any = None
        self._answered: Answered | None = None
        self._came = b""

    def ask(self, request: bytes, answered: Answered) -> None:
        """Sends at once and never waits; `answered` is called once, when the answer is whole or will never be."""
        self._answered, self._request, self._came = answered, request, b""
        self._used = self._socket is not None
        if self._used:
            self._send()
        else:
            gevent.spawn_raw(self._connect)

    def hang_up(self) -> None:
        """Whoever still waits for an answer gets none."""
        self._close()
        self._answer(0, b"")

    def header(self, name: bytes) -> str:
        """Of the answer that has just come; empty without it."""
        lines = self._came.partition(b"\r\n\r\n")[0].split(b"\r\n")
        found = (line.partition(b":")[2] for line in lines if line.lower().startswith(name + b":"))
        return next(found, b"").strip().decode("latin-1")

    def _connect(self) -> None:
        try:
            connection = self._wire.connection()
        except OSError:
            return self._answer(0, b"")
        if self._answered is None:  # given up meanwhile
            connection.close()
            return
        connection.settimeout(0.0)  # what would wait raises instead: the loop says when there is something
        self._socket = connection
        self._watcher = get_hub().loop.io(connection.fileno(), 1)
        self._watcher.start(self._readable)  # for good: to start and stop it would cost more than an answer
        self._send()

    def _send(self) -> None:
        try:
            self._socket.sendall(self._request)  # it fits the socket's buffer
        except OSError:
            self._broken()

    def _readable(self) -> None:
        try:
            part = self._socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            part = b""
        if self._answered is None:  # the target has closed a connection that nobody uses
            self._wire.idle.remove(self)
            return self._close()
        self._came += part
        try:
            answer = parse(self._came, ended=not part)
        except ValueError:
            return self.hang_up()
        if answer is not None:
            if answer.kept and part:
                self._wire.idle.append(self)
            else:
                self._close()
            self._answer(answer.status, answer.body)
        elif not part:
            self._broken()

    def _broken(self) -> None:
        """A kept connection that turns out closed is replaced once: every command of the contract is safe to repeat."""
        self._close()
        if self._used and not self._came:
            self._used = False
            gevent.spawn_raw(self._connect)
        else:
            self._answer(0, b"")

    def _close(self) -> None:
        if self._socket is not None:
            self._watcher.close()
            self._socket.close()
            self._socket = None

    def _answer(self, status: int, body: bytes) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(status, body)


def parse(came: bytes, *, ended: bool) -> Answer | None:
    """The answer in what came; None while it is not whole. Raises ValueError when this is no HTTP."""
    end = came.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = came[:end].lower()
    status, start = int(head[9:12]), end + 4
    kept = head.startswith(b"http/1.1") and b"\r\nconnection: close" not in head
    if (at := head.find(b"\r\ncontent-length:")) >= 0:
        over = start + int(head[at + 17 :].split(b"\r\n", 1)[0])
        return Answer(status, came[start:over], kept) if len(came) >= over else None
    if b"\r\ntransfer-encoding: chunked" in head:
        body = _joined(came, start)
        return None if body is None else Answer(status, body, kept)
    if status in (204, 304):
        return Answer(status, b"", kept)
    return Answer(status, came[start:], False) if ended else None


def _joined(came: bytes, start: int) -> bytes | None:
    """The chunks from `start` on; None while the last is missing. Trailers are not understood."""
    parts: list[bytes] = []
    while (end := came.find(b"\r\n", start)) >= 0:
        length = int(came[start:end].split(b";", 1)[0], 16)
        over = end + 2 + length
        if len(came) < over + 2:
            return None
        if not length:
            return b"".join(parts)
        parts.append(came[end + 2 : over])
        start = over + 2
    return None
