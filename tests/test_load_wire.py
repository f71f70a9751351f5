"""The generator's own connections: kept, replaced and counted as failed. `test_http_framing` has what they read."""

import socket
import threading
from collections.abc import Callable

import pytest
from gevent.event import Event

import loadtests.wire as wire_module
from loadtests.wire import ConnectionPool
from tests.service import PATIENCE_S

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


@pytest.fixture
def served() -> Callable[[list[list[bytes]]], str]:
    """A server that answers the requests of one connection after the other with these bytes, and then closes it."""

    def serve(connections: list[list[bytes]]) -> str:
        listening = socket.create_server(("127.0.0.1", 0))

        def answer() -> None:
            with listening:
                for answers in connections:
                    connection, _ = listening.accept()
                    with connection:
                        for text in answers:
                            if connection.recv(65536):
                                connection.sendall(text)

        threading.Thread(target=answer, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    return serve


def test_a_kept_connection_that_is_closed_instead_of_answered_is_replaced(
    served: Callable[[list[list[bytes]]], str],
) -> None:
    wire = ConnectionPool(served([[PLAIN, b""], [CHUNKED]]))
    assert [asked(wire), asked(wire)] == [(201, b"hello"), (200, b"hello")]


def test_an_answer_cut_off_in_the_middle_is_none(served: Callable[[list[list[bytes]]], str]) -> None:
    assert asked(ConnectionPool(served([[PLAIN[:-2]]]))) == (0, b"")


def test_an_address_is_looked_up_once_however_many_connections_it_gets(
    served: Callable[[list[list[bytes]]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups, look_up = list[object](), wire_module.socket.create_connection
    monkeypatch.setattr(wire_module.socket, "create_connection", lambda *at: lookups.append(at) or look_up(*at))
    wire = ConnectionPool(served([[LAST], [LAST], [LAST]]))
    assert [asked(wire)[0] for _ in range(3)] == [404, 404, 404]
    assert len(lookups) == 1
