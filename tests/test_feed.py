"""The feed never skips and the views never count twice, whatever the order in which transactions commit."""

import asyncio
import contextlib
import threading
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
    START,
    CustomerRegistered,
    CustomerRenamed,
    Event,
    Line,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    Position,
    ProductAdded,
    StockDelivered,
)
from contract.redis_line import RedisLine
from cqrs_impl.carry.outbox_feed import OutboxFeed
from cqrs_impl.ports import Placed
from cqrs_impl.projector import Projector
from cqrs_impl.read.keys import Keys
from cqrs_impl.read.redis_views import RedisViews
from cqrs_impl.write.outbox import OUTBOX, stream_of
from ladder.environment import Environment
from loadtests.applied import read_applied
from loadtests.client import Client as LoadClient
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
        [stream_of(event), event.version, msgspec.json.encode(event).decode()],
    ).fetchone()
    assert row is not None
    return Position(*row)


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


def test_eight_writers_at_once_lose_no_event(
    postgres_url: str, schema: str, connect: Callable[[], psycopg.Connection]
) -> None:
    writers, each = [connect() for _ in range(8)], 60

    def write(writer: int) -> None:
        for number in range(each):
            append(writers[writer], customer(writer * each + number + 1))
            writers[writer].commit()

    async def follow() -> set[str]:
        feed, seen, at = OutboxFeed(postgres_url, schema), set(), START
        async with asyncio.timeout(60):
            while len(seen) < 8 * each:
                alive = any(thread.is_alive() for thread in threads)
                batch = await feed.read(at, 50)
                for placed in batch.events:
                    assert placed.position > at
                    at = placed.position
                    seen.add(placed.event.id)
                if not batch.events and not alive and not batch.more_soon:
                    break
        await feed.disconnect()
        return seen

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    seen = run(follow)
    for thread in threads:
        thread.join()
    assert len(seen) == 8 * each


def test_a_commit_ends_the_wait_of_the_feed(
    postgres_url: str, schema: str, connect: Callable[[], psycopg.Connection]
) -> None:
    writer = connect()

    def commit(number: int) -> None:
        append(writer, customer(number))
        writer.execute("SELECT pg_notify(%s, '')", [schema])
        writer.commit()

    async def story() -> None:
        feed = OutboxFeed(postgres_url, schema)
        async with asyncio.timeout(20):
            assert not (await feed.read(START, 9)).events
            commit(1)  # its notification comes with the answer of a statement that does not show it
            await feed.count()
            await feed.wait(60)
            waiting = asyncio.ensure_future(feed.wait(60))
            await asyncio.sleep(0)
            commit(2)
            await waiting
            assert len((await feed.read(START, 9)).events) == 2
            await feed.wait(0.01)  # what was read is no news
        await feed.disconnect()

    asyncio.run(story())


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
    env = Environment(redis_url=redis_url)
    views = RedisViews(env.redis(), Keys(namespace))
    placed = [Placed(Position(1, number), event) for number, event in enumerate(events, start=1)]
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


def test_two_projectors_at_once_count_each_event_once(
    postgres_url: str, redis_url: str, schema: str, connect: Callable[[], psycopg.Connection]
) -> None:
    orders = 400
    writer = connect()
    for event in STORY[:3]:
        append(writer, event)
    for number in range(orders):
        order_id = str(UUID(int=1000 + number))
        at = T0 + timedelta(seconds=number)
        append(writer, OrderPlaced(order_id, 1, at, CUSTOMER, (line(TEA, "Green Tea", 1),), 100))
    writer.commit()

    async def both() -> None:
        env = Environment(redis_url=redis_url)
        projectors = [
            Projector(OutboxFeed(postgres_url, schema), RedisViews(env.redis(), Keys(schema))) for _ in range(2)
        ]
        for projector in projectors:
            projector._limit = 20  # many small batches, so that the two meet often

        async def work(projector: Projector) -> None:
            while (await projector.step())[0]:
                projector._limit = 20

        async with asyncio.timeout(60):
            await asyncio.gather(*map(work, projectors))
            await work(projectors[0])
        for projector in projectors:
            await projector._feed.disconnect()
        await env.close()

    asyncio.run(both())
    held = documents(redis_url, schema)
    assert b'"orders":%d,"spent_cents":%d' % (orders, orders * 100) in held[b":customer:" + CUSTOMER.encode()]  # type: ignore[operator]
    assert b'"stock":%d,"sold":%d' % (50 - orders, orders) in held[b":product:" + TEA.encode()]  # type: ignore[operator]


def test_a_transaction_is_not_sent_on_a_connection_that_watches_nothing(
    redis_url: str, namespace: Callable[[], str]
) -> None:
    key = f"{namespace()}:key"

    async def cut_between_watch_and_write() -> None:
        line = RedisLine(redis_url, timeout_s=5)
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
        told = read_applied(LoadClient(target.url))
        assert told[float("inf")] == 2 and told[5.0] == 2 and told[0.0005] <= told[0.1]
        assert set(client.get("/ready").json()) == {"lag_events", "lag_seconds", "parked_events"}
    assert read_applied(LoadClient(fresh_target("crud").url)) == {}
