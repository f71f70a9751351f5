"""What tests of the HTTP side share: an app served from a thread, fresh ids, and small requests."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from contract.http.app import make_app
from contract.ports import OrderSystem
from ladder.arrival import Arrival

PATIENCE_S = 90.0  # with a machine that does much else; no test waits longer than it has to


def fresh_id() -> str:
    return str(uuid4())


def patient(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """What is only slow, on a busy machine, is not given up after these times of the product."""
    for name in names:
        monkeypatch.setattr(name, PATIENCE_S)


@contextmanager
def in_thread(app: ASGIApp) -> Iterator[str]:
    """Serve an app as the ladder does, in this process; gives its URL."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, loop="uvloop", http=Arrival, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started, "the server starts"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=PATIENCE_S)


@contextmanager
def client_of(system: OrderSystem, **settings: Any) -> Iterator[httpx.Client]:
    """A client of the contract's app over a system, served in this process."""
    with in_thread(make_app(system, **settings)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def wait_until(condition, deadline_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition is met before its deadline"
        threading.Event().wait(0.005)


def patiently(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """An answer; asked again while, on a busy machine, no connection of the pool is free within its second."""
    while (answer := ask()).status_code == 503 and answer.json()["detail"] == "All database connections are busy.":
        pass
    return answer


def settle(client: httpx.Client, deadline_s: float = PATIENCE_S) -> None:
    """Wait until nothing is left to project; a read store that is not built yet makes /ready a refusal."""
    wait_until(lambda: client.get("/ready").json().get("lag_events") == 0, deadline_s)


class Shop:
    """Commands that must succeed, for tests that need something to be there."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def customer(self, name: str = "Ada") -> str:
        id = fresh_id()
        assert self.client.put(f"/customers/{id}", json={"name": name}).status_code == 201
        return id

    def product(self, stock: int = 10, price_cents: int = 100, name: str = "Pot") -> str:
        id = fresh_id()
        body = {"name": name, "price_cents": price_cents, "stock": stock}
        assert self.client.put(f"/products/{id}", json=body).status_code == 201
        return id

    def order(self, customer: str, *products: str, then: tuple[str, ...] = ()) -> str:
        id = fresh_id()
        lines = [{"product_id": product, "quantity": 1} for product in products]
        answer = self.client.put(f"/orders/{id}", json={"customer_id": customer, "lines": lines})
        assert answer.status_code == 201, answer.text
        for transition in then:
            assert self.client.post(f"/orders/{id}/{transition}").status_code == 200
        return id
