"""The generator's own connections: kept, replaced and counted as failed. `test_http_framing` has what they read."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from gevent.event import Event

import loadtests.wire as wire_module
from loadtests.wire import ConnectionPool
from tests.service import PATIENCE_S
from tests.threads import listening

PLAIN = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nX: 1\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"
LAST = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\ncontent-length: 0\r\n\r\n"


def test_a_request_names_its_host_carries_the_token_and_keeps_to_the_path_of_its_address() -> None:
    wire = ConnectionPool("http://shop.example:81/api/", token="secret")
    assert wire.request("GET", "/orders/1") == (
        b"GET /api/orders/1 HTTP/1.1\r\nHost: shop.example:81\r\nAuthorization: Bearer secret\r\n\r\n"
    )
    assert wire.request("PUT", "/x", b"{}").endswith(b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")


def asked(wire: ConnectionPool) -> tuple[int, bytes]:
    found: list[tuple[int, bytes]] = []
    there = Event()

    def answered(status: int, body: bytes) -> None:
        found.append((status, body))
        there.set()

    wire.acquire().send(wire.request("GET", "/"), answered)
    assert there.wait(PATIENCE_S)
    return found[0]


@contextmanager
def served(*connections: list[bytes]) -> Iterator[ConnectionPool]:
    """By a server that answers the requests of one connection after the other with these bytes, and then closes it."""
    left = iter(connections)

    def answer(connection: socket.socket) -> None:
        for text in next(left, ()):
            if connection.recv(65536):
                connection.sendall(text)

    with listening(answer) as port:
        yield ConnectionPool(f"http://127.0.0.1:{port}")


def test_a_kept_connection_that_is_closed_instead_of_answered_is_replaced() -> None:
    with served([PLAIN, b""], [CHUNKED]) as wire:
        assert [asked(wire), asked(wire)] == [(201, b"hello"), (200, b"hello")]


def test_an_answer_cut_off_in_the_middle_is_none() -> None:
    with served([PLAIN[:-2]]) as wire:
        assert asked(wire) == (0, b"")


def test_an_address_is_looked_up_once_however_many_connections_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups, look_up = list[object](), wire_module.socket.create_connection
    monkeypatch.setattr(wire_module.socket, "create_connection", lambda *at: lookups.append(at) or look_up(*at))
    with served([LAST], [LAST], [LAST]) as wire:
        assert [asked(wire)[0] for _ in range(3)] == [404, 404, 404]
    assert len(lookups) == 1
