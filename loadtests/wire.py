"""The load generator's fast path: HTTP/1.1 on raw gevent sockets, by callbacks.

Why not `loadtests.http` or Locust's session: a session costs 120–170 µs of CPU a request and this 37 µs, on the same
two cores as the targets. A greenlet a request would cost more than the request, so the event loop calls back when a
response is complete. Responses may have a Content-Length, come in chunks, or end with their connection.
"""

import ssl
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gevent
from gevent import socket
from gevent.hub import get_hub

TIMEOUT_S = 10.0
Callback = Callable[[int, bytes], None]  # status and body; status 0: no usable response


class RawResponse(NamedTuple):
    status: int
    body: bytes
    reusable: bool  # whether the connection can be used again


class ConnectionPool:
    """Keep-alive connections to one address, the last used first."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname, "a target has an address"
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.address = parts.hostname, parts.port or (443 if self.tls else 80)
        self.idle: list[PooledConnection] = []
        self._peer: tuple[int, Any] | None = None  # family and numeric address
        bearer = f"Authorization: Bearer {token}\r\n" if token else ""
        self._prefix = parts.path.rstrip("/")
        self._head = f" HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n{bearer}"

    def request(self, method: str, path: str, body: bytes | None = None, token: str = "") -> bytes:
        """The bytes to send; `token`: the consistency token that the response must reflect."""
        line = f"{method} {self._prefix}{path}{self._head}"
        line += f"Consistency-Token: {token}\r\n" if token else ""
        if body is None:
            return f"{line}\r\n".encode()
        return f"{line}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def acquire(self) -> "PooledConnection":
        """An idle connection, or a new one."""
        return self.idle.pop() if self.idle else PooledConnection(self)

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
            self.idle.pop().abort()


class PooledConnection:
    """One connection, with at most one request under way."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._socket: Any = None
        self._callback: Callback | None = None
        self._received = b""

    def send(self, request: bytes, callback: Callback) -> None:
        """Send now without waiting; `callback` is called once, when the response is complete or has failed."""
        self._callback, self._request, self._received = callback, request, b""
        self._used = self._socket is not None
        if self._used:
            self._send()
        else:
            gevent.spawn_raw(self._connect)

    def abort(self) -> None:
        """Close; a request in flight gets no response."""
        self._close()
        self._respond(0, b"")

    def header(self, name: bytes) -> str:
        """A header of the response just received; empty if missing."""
        lines = self._received.partition(b"\r\n\r\n")[0].split(b"\r\n")
        found = (line.partition(b":")[2] for line in lines if line.lower().startswith(name + b":"))
        return next(found, b"").strip().decode("latin-1")

    def _connect(self) -> None:
        try:
            connection = self._pool.connection()
        except OSError:
            return self._respond(0, b"")
        if self._callback is None:  # aborted meanwhile
            connection.close()
            return
        connection.settimeout(0.0)  # what would wait raises instead: the loop says when there is something
        self._socket = connection
        self._watcher = get_hub().loop.io(connection.fileno(), 1)
        self._watcher.start(self._readable)  # for good: to start and stop it would cost more than a response
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
        if self._callback is None:  # the target has closed a connection that nobody uses
            self._pool.idle.remove(self)
            return self._close()
        self._received += part
        try:
            response = parse(self._received, ended=not part)
        except ValueError:
            return self.abort()
        if response is not None:
            if response.reusable and part:
                self._pool.idle.append(self)
            else:
                self._close()
            self._respond(response.status, response.body)
        elif not part:
            self._broken()

    def _broken(self) -> None:
        """A reused connection that turns out closed is replaced once: every command of the contract is idempotent."""
        self._close()
        if self._used and not self._received:
            self._used = False
            gevent.spawn_raw(self._connect)
        else:
            self._respond(0, b"")

    def _close(self) -> None:
        if self._socket is not None:
            self._watcher.close()
            self._socket.close()
            self._socket = None

    def _respond(self, status: int, body: bytes) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(status, body)


def parse(received: bytes, *, ended: bool) -> RawResponse | None:
    """The response in these bytes; None while it is incomplete. Raises ValueError for what is not HTTP."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = received[:end].lower()
    status, start = int(head[9:12]), end + 4
    reusable = head.startswith(b"http/1.1") and b"\r\nconnection: close" not in head
    if (at := head.find(b"\r\ncontent-length:")) >= 0:
        stop = start + int(head[at + 17 :].split(b"\r\n", 1)[0])
        return RawResponse(status, received[start:stop], reusable) if len(received) >= stop else None
    if b"\r\ntransfer-encoding: chunked" in head:
        body = _joined(received, start)
        return None if body is None else RawResponse(status, body, reusable)
    if status in (204, 304):
        return RawResponse(status, b"", reusable)
    return RawResponse(status, received[start:], False) if ended else None


def _joined(received: bytes, start: int) -> bytes | None:
    """The chunks from `start` on; None while the last is missing. Trailers are not supported."""
    parts: list[bytes] = []
    while (end := received.find(b"\r\n", start)) >= 0:
        length = int(received[start:end].split(b";", 1)[0], 16)
        stop = end + 2 + length
        if len(received) < stop + 2:
            return None
        if not length:
            return b"".join(parts)
        parts.append(received[end + 2 : stop])
        start = stop + 2
    return None
