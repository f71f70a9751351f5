"""What the HTTP layer does with a system that is behind, away, too far behind or stopped: over a scripted one."""

import socket
import time

import httpx
import pytest

from contract.errors import Unavailable
from contract.http.request import Request
from contract.messages import Command, CommandResult, Query, QueryResult, Readiness
from contract.ports import utc_now
from contract.position import Position
from ladder.noop.system import MemoryOrders
from tests.service import Shop, client_of, wait_until

ID = "01990000-0000-7000-8000-000000000001"


class Scripted(MemoryOrders):
    """Memory that reflects one position more with every question, or is not available at all."""

    def __init__(self, at: int = 0, lag_events: int = 0, available: bool = True) -> None:
        super().__init__(utc_now)
        self.at, self.lag_events, self.available = at, lag_events, available
        self.asked, self.closed = 0, False

    async def execute(self, command: Command) -> CommandResult:
        if not self.available:
            raise Unavailable("The database cannot be reached.")
        return await super().execute(command)

    async def answer(self, query: Query) -> QueryResult:
        if not self.available:
            raise Unavailable("The read store cannot be reached.")
        self.at += 1
        return QueryResult((await super().answer(query)).body, Position(((0, self.at),)))

    async def readiness(self) -> Readiness:
        self.asked += 1
        return Readiness(self.lag_events, 0.5, 1)

    async def close(self) -> None:
        self.closed = True


BEHIND, UNAVAILABLE = (503, "urn:crossover:behind", "1"), (503, "urn:crossover:unavailable", "1")


def refusal(response: httpx.Response) -> tuple[int, str, str | None]:
    return response.status_code, response.json()["type"], response.headers.get("retry-after")


def test_a_query_waits_for_its_token_and_is_refused_as_behind_before_its_404() -> None:
    with client_of(Scripted()) as client:

        def ask(path: str, token: str, prefer: str) -> httpx.Response:
            return client.get(path, headers={"Consistency-Token": token, "Prefer": prefer})

        assert refusal(ask(f"/orders/{ID}", "0-1000000", "wait=0")) == BEHIND
        assert refusal(ask(f"/orders/{ID}", "0-1.0-1", "wait=0")) == BEHIND
        reached = ask("/reports/top-products", "0-8", "foo, wait=5")
        assert reached.status_code == 200 and reached.headers["consistency-token"] == "0-8"
        assert refusal(ask(f"/orders/{ID}", "0-9", "")) == (404, "urn:crossover:not-found", None)
        another = ask("/reports/top-products", "a1B2.0-1", "wait=5")
        assert refusal(another) == BEHIND and another.elapsed.total_seconds() < 4, "waiting would not help"
        assert another.json()["detail"].startswith("The Consistency-Token belongs to another history of the data")
        assert ask("/reports/top-products", "a1B2.0-0", "wait=0").status_code == 200, "all begin with nothing"


PREFERENCES = {
    0: (["wait=0"], ["wait=0", "wait=5"]),
    1: ([], ["wait=x"], ["wait=1.5"]),
    2: (["respond-async, WAIT = 2"], ['wait="2"'], ["wait=-3", "wait=2"]),
    5: (["wait=" + "9" * 5000],),
}


@pytest.mark.parametrize(("prefer", "waits_s"), [(one, s) for s, several in PREFERENCES.items() for one in several])
def test_prefer_says_how_long_to_wait_and_what_is_unreadable_is_ignored(prefer: list[str], waits_s: int) -> None:
    assert Request({"headers": [(b"prefer", value.encode()) for value in prefer]}).wait_s() == waits_s


def test_a_store_that_cannot_be_asked_is_unavailable() -> None:
    with client_of(Scripted(available=False)) as client:
        assert refusal(client.put(f"/customers/{ID}", json={"name": "x"})) == UNAVAILABLE
        assert refusal(client.get(f"/customers/{ID}")) == UNAVAILABLE
        assert refusal(client.get(f"/customers/{ID}", headers={"Consistency-Token": "0-99"})) == UNAVAILABLE


def test_ready_refuses_over_the_backlog_limit_and_metrics_still_tell() -> None:
    system = Scripted(lag_events=10)
    with client_of(system, rung="x", backlog_limit=10) as client:
        assert client.get("/ready").content == b'{"lag_events":10,"lag_seconds":0.5,"parked_events":1}'
        system.lag_events = 11
        assert refusal(client.get("/ready")) == UNAVAILABLE
        metrics = client.get("/metrics").text
        assert "\nprojection_lag_events 11.0\n" in metrics and "\nprojection_parked_events 1.0\n" in metrics
        assert 'http_requests_total{operation="ready",rung="x",status="503"} 1.0' in metrics
        assert 'http_request_duration_seconds_count{operation="ready",rung="x"} 2.0' in metrics
        assert client.get("/health").status_code == 200


def test_over_the_backlog_limit_commands_are_refused_until_it_is_worked_off_and_queries_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system, path, sent = Scripted(lag_events=11), f"/customers/{ID}", {"json": {"name": "x"}}
    with client_of(system, backlog_limit=10) as client:
        wait_until(lambda: client.put(path, **sent).status_code == 503)
        assert refusal(client.put(path, **sent)) == UNAVAILABLE
        asked, now_s = system.asked, time.monotonic()
        with monkeypatch.context() as patched:
            patched.setattr("contract.http.service.monotonic", lambda: now_s)
            assert all(client.put(path, **sent).status_code == 503 for _ in range(50))
        assert system.asked - asked <= 2, "not each command asks how far behind the read side is"
        assert client.get("/reports/top-products").status_code == 200
        system.lag_events = 10
        wait_until(lambda: client.put(path, **sent).status_code in (200, 201))


def test_a_configured_token_is_asked_for_before_all() -> None:
    with client_of(Scripted(), token="sesame") as client:
        for path in ("/health", "/nowhere", "/orders/x", "/metrics", "/docs"):
            for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sesame"}):
                response = client.get(path, headers=sent)
                assert refusal(response) == (401, "urn:crossover:unauthorized", None)
                assert response.headers["www-authenticate"] == "Bearer"
        bearer = {"Authorization": "bearer sesame"}
        assert client.get("/health", headers=bearer).status_code == 200
        assert client.get("/nowhere", headers=bearer).status_code == 404


def test_a_body_without_end_is_refused_after_64_kib_and_is_not_kept() -> None:
    with client_of(Scripted()) as client:
        url = client.base_url
        with socket.create_connection((url.host, url.port), timeout=60) as connection:
            head = f"POST /orders/{ID}/pay HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode() + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 5)  # and never a last chunk
            assert connection.recv(64).startswith(b"HTTP/1.1 413")


def test_a_stopped_app_closes_its_system() -> None:
    with client_of(system := Scripted()):
        assert not system.closed
    assert system.closed


def test_head_answers_as_get_without_the_body() -> None:
    with client_of(MemoryOrders(utc_now)) as client:
        there = f"/customers/{Shop(client).customer()}"
        for path in (there, f"/orders/{ID}", "/reports/top-products", "/health", "/openapi.json"):
            head, get = client.head(path), client.get(path)
            assert (head.status_code, head.content) == (get.status_code, b"")
            same = ("content-length", "content-type", "consistency-token")
            assert [head.headers.get(name) for name in same] == [get.headers.get(name) for name in same]
