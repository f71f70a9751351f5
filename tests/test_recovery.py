"""A read store of another database replays itself, as the checkpoint goes with the data; what tokens and times tell."""

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from rich.console import Console
from sqlalchemy import make_url

from contract.position import covers, position_of
from crossover.errors import UserError
from crossover.parked import show_parked
from crossover.targets import LOOPBACK, Target, listen
from loadtests.http import HttpClient
from loadtests.staleness import read_applied
from servers.server import fresh_namespace
from servers.supervisor import Processes
from tests.service import Shop, settle, wait_until


def test_the_token_of_a_repeat_is_no_older_than_the_last_one(serve: Callable[..., Any]) -> None:
    with httpx.Client(base_url=serve("cqrs").url, timeout=60) as client:
        shop = Shop(client)
        first = f"/orders/{shop.order(shop.customer(), shop.product())}/pay"
        client.post(first).raise_for_status()
        last = client.put(f"/customers/{uuid.uuid4()}", json={"name": "Ann"}).headers["Consistency-Token"]
        repeat = client.post(first).raise_for_status().headers["Consistency-Token"]
        assert covers(position_of(repeat), position_of(last)), "who keeps the last token would lose sight of the other"


@pytest.mark.long
def test_a_read_store_of_another_database_is_dropped_and_replayed(
    fresh_target: Callable[..., Any], processes: Processes
) -> None:
    first, other = fresh_target("cqrs"), fresh_namespace("other")
    with httpx.Client(base_url=first.url, timeout=60) as client:
        ann = Shop(client).customer("Ann")
        wait_until(lambda: client.get(f"/customers/{ann}").status_code == 200)
    url = make_url(first.env["DATABASE_URL"]).set(database=other).render_as_string(hide_password=False)
    with psycopg.connect(first.env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {other}")
        placed = Target(other, "cqrs", first.env | {"DATABASE_URL": url}, processes)
        placed.prepare(private=True)
        second = placed.launch(listen(LOOPBACK, 0))
        try:
            with httpx.Client(base_url=second.url, timeout=60) as client:
                wait_until(lambda: client.get(f"/customers/{ann}").status_code == 404)
                eve = Shop(client).customer("Eve")
                wait_until(lambda: client.get(f"/customers/{eve}").status_code == 200)
            wait_until(lambda: processes.poll() or f"{first.name}/projector" in processes.ended)
            assert "follows another database by now" in processes.last_lines(f"{first.name}/projector")
            with pytest.raises(UserError, match="follows another database by now"):
                show_parked(Console(), "cqrs", first.env)
        finally:
            second.stop()
            connection.execute(f"DROP DATABASE {other} WITH (FORCE)")


@pytest.mark.long
def test_the_projectors_own_times_are_told_by_the_app(
    serve: Callable[..., Any], fresh_target: Callable[..., Any]
) -> None:
    target = fresh_target("cqrs")
    with httpx.Client(base_url=target.url, timeout=60) as client:
        shop = Shop(client)
        for number in range(3):  # an event's age is told with the write after it
            shop.customer(f"Ann {number}")
            settle(client)
        told = read_applied(HttpClient(target.url))
        assert told[float("inf")] == 2 and told[0.0005] <= told[0.1]
        assert set(client.get("/ready").json()) == {"lag_events", "lag_seconds", "parked_events"}
    assert read_applied(HttpClient(serve("crud").url)) == {}
