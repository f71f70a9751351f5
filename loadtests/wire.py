"""The load generator's fast path: HTTP/1.1 on raw gevent sockets, by callbacks.

Why not `loadtests.http` or Locust's session: a session costs 120–170 µs of CPU a request and this 37 µs, on the same
two cores as the targets. A greenlet a request would cost more than the request, so the event loop calls back when a
response is complete. All three read responses by `loadtests.response`.
"""

import ssl
from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket
from gevent.hub import get_hub

from loadtests.address import address_of, authorization
from loadtests.response import BadResponse, fields, parse

TIMEOUT_S = 10.0
Callback = Callable[[int, bytes], None]  # status and body; status 0: no usable response


class ConnectionPool:
    """Keep-alive connections to one address, the last used first."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self.address = address_of(url)
        self.tls = ssl.create_default_context() if self.address.tls else None
        self.idle: list[PooledConnection] = []
        self._peer: tuple[int, Any] | None = None  # family and numeric address
        self._headers = authorization(token)

    def request(self, method: str, path: str, body: bytes | None = None, token: str = "") -> bytes:
        """The bytes to send; `token`: the consistency token that the response must reflect."""
        headers = self._headers | ({"Consistency-Token": token} if token else {})
        return self.address.request(method, path, headers, body)

    def acquire(self) -> "PooledConnection":
        """An idle connection, or a new one."""
        return self.idle.pop() if self.idle else PooledConnection(self)

    def connection(self) -> Any:
        """A new one. The address is looked up once: gevent has a thread do that, which takes milliseconds."""
        if self._peer is None:
            connection = socket.create_connection((self.address.host, self.address.port), TIMEOUT_S)
            self._peer = connection.family, connection.getpeername()
        else:
            family, address = self._peer
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.settimeout(TIMEOUT_S)
            connection.connect(address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap_socket(connection, server_hostname=self.address.host) if self.tls else connection

    def close(self) -> None:
        while self.idle:
            self.idle.pop().abort()


class PooledConnection:
    """One connection, with at most one request under way."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._socket: Any = None
        self._callback: Callback | None = None
        self._received = self._head = b""

    def send(self, request: bytes, callback: Callback) -> None:
        """Send now without waiting; `callback` is called once, when the response is complete or has failed."""
        self._callback, self._request, self._received, self._head = callback, request, b"", b""
        self._used = self._socket is not None
        if self._used:
            self._send()
        else:
            gevent.spawn_raw(self._connect)

    def abort(self) -> None:
        """Close; a request in flight gets no response."""
        self._close()
        self._respond(0, b"")

    def header(self, name: str) -> str:
        """A header of the response just received; empty if missing."""
        return fields(self._head).get(name, "")

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
        broken = False
        try:
            part = self._socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            part, broken = b"", True
        if self._callback is None:  # the target has closed a connection that nobody uses
            self._pool.idle.remove(self)
            return self._close()
        self._received += part
        if broken or not self._received:
            return self._broken()
        try:
            response = parse(self._received, ended=not part, bodiless=self._request.startswith(b"HEAD "))
        except BadResponse:
            return self.abort()
        if response is not None:
            if response.reusable and part:
                self._pool.idle.append(self)
            else:
                self._close()
            self._head = response.head
            self._respond(response.status, response.body)

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
