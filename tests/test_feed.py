"""The feed never skips and the views never count twice, whatever the order in which transactions commit."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import psycopg
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from redis.exceptions import ConnectionError

from contract.messages import (
    CustomerRegistered,
    CustomerRenamed,
    Event,
    Line,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    ProductAdded,
    StockDelivered,
)
from contract.position import START, Position
from cqrs_impl.carry.outbox_feed import READ, OutboxFeed
from cqrs_impl.documents.redis_client import RedisClient
from cqrs_impl.ports import RecordedEvent
from cqrs_impl.read.keys import Keys
from cqrs_impl.read.redis_views import RedisViews
from cqrs_impl.write.outbox import LAST, OUTBOX
from ladder.connections import redis_client
from ladder.environment import Environment
from loadtests.http import HttpClient
from loadtests.staleness import read_applied
from tests.service import Shop, settle

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CUSTOMER, TEA, POT = (str(UUID(int=n)) for n in (1, 2, 3))
FIRST, SECOND = (str(UUID(int=n)) for n in (11, 12))


def line(product: str, name: str, quantity: int) -> Line:
    return Line(product, name, quantity, 100, 100 * quantity)


STORY: tuple[Event, ...] = (
    CustomerRegistered(CUSTOMER, 1, "Ann Lee"),
    ProductAdded(TEA, 1, "Green Tea", 100, 50),
    ProductAdded(POT, 1, "Tea Pot", 100, 50),
    OrderPlaced(FIRST, 1, T0, CUSTOMER, (line(TEA, "Green Tea", 2), line(POT, "Tea Pot", 1)), 300),
    OrderPaid(FIRST, 2, T0 + timedelta(seconds=1)),
    OrderPlaced(SECOND, 1, T0 + timedelta(days=1), CUSTOMER, (line(TEA, "Green Tea", 5),), 500),
    StockDelivered(TEA, 2, str(UUID(int=99)), 7),
    CustomerRenamed(CUSTOMER, 2, "Bea Lee"),
    OrderCancelled(SECOND, 2, T0 + timedelta(days=2)),
)

Append = Callable[..., Position]


@pytest.fixture
def schema(postgres_url: str, namespace: Callable[[], str]) -> str:
    name = namespace()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {0}; SET search_path = {0}").format(sql.Identifier(name)))
        connection.execute(OUTBOX)
    return name


@pytest.fixture
def connect(postgres_url: str, schema: str) -> Iterator[Callable[[], psycopg.Connection]]:
    held: list[psycopg.Connection] = []

    def fresh() -> psycopg.Connection:
        held.append(psycopg.connect(postgres_url, options=f"-c search_path={schema}"))
        return held[-1]

    yield fresh
    for connection in held:
        connection.close()


def append(connection: psycopg.Connection, event: Event) -> Position:
    row = connection.execute(
        "INSERT INTO outbox (stream, version, body) VALUES (%s, %s, %s) RETURNING xid::text::bigint, id",
        [event.stream, event.version, msgspec.json.encode(event).decode()],
    ).fetchone()
    assert row is not None
    return ((row[0], row[1]),)


def customer(number: int) -> CustomerRegistered:
    return CustomerRegistered(str(UUID(int=number)), 1, f"Customer {number}")


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(work())


def read(postgres_url: str, schema: str, after: Position = START) -> list[Event]:
    async def once() -> list[Event]:
        feed = OutboxFeed(postgres_url, schema)
        try:
            return [placed.event for placed in (await feed.read(after, 1000)).events]
        finally:
            await feed.disconnect()

    return list(run(once))


def test_a_row_whose_transaction_commits_late_is_not_skipped(
    postgres_url: str, schema: str, connect: Callable[[], psycopg.Connection]
) -> None:
    early, late = connect(), connect()
    append(early, customer(1))
    append(late, customer(2))
    late.commit()
    assert read(postgres_url, schema) == [], "the second may not be given while the first can still appear before it"
    early.commit()
    assert read(postgres_url, schema) == [customer(1), customer(2)]


def test_a_bystander_transaction_delays_the_feed_and_loses_nothing(
    postgres_url: str, schema: str, connect: Callable[[], psycopg.Connection]
) -> None:
    bystander, writer = connect(), connect()
    bystander.execute("SELECT pg_current_xact_id()")  # holds the horizon without writing to the outbox
    append(writer, customer(1))
    writer.commit()
    assert read(postgres_url, schema) == []
    bystander.rollback()
    assert read(postgres_url, schema) == [customer(1)]


@pytest.mark.parametrize("statement", [READ, LAST], ids=["a batch", "the last event"])
def test_an_outbox_is_read_in_the_order_of_its_index(statement: str, connect: Callable[[], psycopg.Connection]) -> None:
    """To sort instead would make each batch cost as much as everything behind it."""
    connection = connect()
    body = msgspec.json.encode(customer(1)).decode()
    connection.execute(
        "INSERT INTO outbox (stream, version, body) SELECT 'customer-' || n, 1, %s FROM generate_series(1, 5000) n",
        [body],
    )
    connection.execute("ANALYZE outbox")
    plan = connection.execute(f"EXPLAIN {statement}", {"xid": "3", "id": 0, "limit": 500}).fetchall()
    lines = "\n".join(line for (line,) in plan)
    assert "outbox_by_position" in lines and "Sort" not in lines


def test_of_two_writers_at_one_version_one_is_refused(connect: Callable[[], psycopg.Connection]) -> None:
    one, other = connect(), connect()
    append(one, customer(1))
    one.commit()
    with pytest.raises(psycopg.errors.UniqueViolation):
        append(other, customer(1))


def documents(redis_url: str, namespace: str) -> dict[bytes, object]:
    """Everything the views hold, but the checkpoint."""
    with redis.Redis.from_url(redis_url) as client:
        found: dict[bytes, object] = {}
        for key in client.keys(f"{namespace}:*"):
            name = key.removeprefix(namespace.encode())
            if name != b":checkpoint":
                found[name] = client.get(key) if client.type(key) == b"string" else client.zrange(key, 0, -1)
        return found


async def apply_all(redis_url: str, namespace: str, events: list[Event], batch_size: int) -> None:
    env = Environment({"REDIS_URL": redis_url})
    views = RedisViews(redis_client(env), Keys(namespace))
    placed = [RecordedEvent(((1, number),), event) for number, event in enumerate(events, start=1)]
    await views.position()
    while (at := await views.position()) < placed[-1].position:
        ahead = [one for one in placed if one.position > at]
        size = batch_size
        while await views.apply(at, ahead[:size]) == at:
            assert size <= len(ahead), "no progress with everything in sight"
            size *= 2
    await env.close()


def test_events_before_what_they_build_on_wait_for_it(redis_url: str, namespace: Callable[[], str]) -> None:
    """The three-transaction inversion: versions 2 and 1 of one order arrive in this order."""
    straight, inverted = namespace(), namespace()
    events = list(STORY)
    asyncio.run(apply_all(redis_url, straight, events, 500))
    events[3], events[4] = events[4], events[3]
    asyncio.run(apply_all(redis_url, inverted, events, 1))
    assert documents(redis_url, inverted) == documents(redis_url, straight)
    order = documents(redis_url, straight)[b":order:" + FIRST.encode()]
    assert b'"status":"paid"' in order and b'"name":"Bea Lee"' in order  # type: ignore[operator]


def test_any_permutation_with_repeats_gives_the_same_views(redis_url: str, namespace: Callable[[], str]) -> None:
    straight = namespace()
    asyncio.run(apply_all(redis_url, straight, list(STORY), 500))
    expected = documents(redis_url, straight)
    assert expected

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.permutations(STORY), st.lists(st.sampled_from(STORY), max_size=4), st.integers(1, 12))
    def same(order: list[Event], repeats: list[Event], batch_size: int) -> None:
        other = namespace()
        asyncio.run(apply_all(redis_url, other, [*order, *repeats], batch_size))
        assert documents(redis_url, other) == expected

    same()


def test_a_transaction_is_not_sent_on_a_connection_that_watches_nothing(
    redis_url: str, namespace: Callable[[], str]
) -> None:
    key = f"{namespace()}:key"

    async def cut_between_watch_and_write() -> None:
        line = RedisClient(redis_url, timeout_s=5)
        *_, number = await line.ask(("WATCH", key), ("CLIENT", "ID"))
        watching = line.connection
        with redis.Redis.from_url(redis_url) as other:
            other.client_kill_filter(_id=number)
        async with asyncio.timeout(10):
            while line.connection is watching:
                with contextlib.suppress(ConnectionError):
                    await line.ask(("PING",))
        with pytest.raises(ConnectionError):
            await line.ask(("MULTI",), ("SET", key, "unwatched"), ("EXEC",), on=watching)
        assert await line.ask(("GET", key)) == [None]
        await line.close()

    asyncio.run(cut_between_watch_and_write())


def test_the_projectors_own_times_are_told_by_the_app(fresh_target: Callable[..., Any]) -> None:
    target = fresh_target("cqrs")
    with httpx.Client(base_url=target.url) as client:
        shop = Shop(client)
        for number in range(3):  # an event's age is told with the write after it
            shop.customer(f"Ann {number}")
            settle(client)
        told = read_applied(HttpClient(target.url))
        assert told[float("inf")] == 2 and told[5.0] == 2 and told[0.0005] <= told[0.1]
        assert set(client.get("/ready").json()) == {"lag_events", "lag_seconds", "parked_events"}
    assert read_applied(HttpClient(fresh_target("crud").url)) == {}
