"""The event store: what is folded from it is what was, whatever becomes of snapshots, shapes and other writers."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from contract import messages as m
from contract.errors import InsufficientStock, StoreGone
from contract.ports import utc_now
from contract.position import BEGINNING, Position
from cqrs_impl.event_store.commands import EventCommands
from cqrs_impl.event_store.events import SCHEMAS, decode, encode, shown
from cqrs_impl.event_store.history import past, state_of
from cqrs_impl.event_store.load import NewerEvents, claim_types
from cqrs_impl.event_store.store import EVENT_STORE, STREAM_KEYS, EventStore
from cqrs_impl.feeds.outbox.feed import OutboxFeed
from cqrs_impl.ports import Unreadable, Unshown
from crud_impl.session import open_step
from ladder.connections import connect, database
from ladder.environment import CLIENTS, NAMESPACE, Environment
from ladder.rung import rung
from loadtests.dataset import Dataset
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import Unusable
from tests.conftest import LONG_LEVELS
from tests.service import wait_until
from tests.threads import meanwhile

RECORDED = Path(__file__).parent / "recorded_events"
INSERT = "INSERT INTO outbox (stream, version, body) VALUES (%s, %s, %s)"
ANN, TEA, POT, ORDER = (str(UUID(int=n)) for n in (1, 2, 3, 11))


class Shop:
    """The commands of one event store, with a snapshot every four events."""

    def __init__(self, env: Environment, every: int = 4) -> None:
        self.env, self.url, self.name = env, env.url(POSTGRES), env.namespace
        self.runner, self.tables = asyncio.Runner(), database(env, keys=STREAM_KEYS)
        self.commands = EventCommands(self.tables, EventStore(self.name, every), utc_now)

    def does(self, *commands: m.Command) -> list[int]:
        return [self.runner.run(self.commands.execute(command)).receipt.version for command in commands]

    def order(self, number: int) -> list[int]:
        return self.does(m.PlaceOrder(str(UUID(int=100 + number)), ANN, (m.Wanted(TEA, 1),)))

    def sql(self, *statements: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with open_step(self.url, self.name) as connection, connection.transaction():
            *_, last = (connection.execute(one.encode(), values or None) for one in statements)
            return last.fetchall() if last.description else []

    def read(self) -> list[Any]:
        """What the projector is given of each event."""

        async def events() -> list[Any]:
            feed = OutboxFeed(connect(self.env), self.name, shown)
            batch = await feed.read(Position(BEGINNING, await feed.present()), 1000)
            await feed.close()
            return [one.event for one in batch.events]

        return self.runner.run(events())

    def close(self) -> None:
        self.runner.run(self.tables.close())
        self.runner.close()


@pytest.fixture(params=LONG_LEVELS)
def shop(request: pytest.FixtureRequest, postgres_url: str, namespace: Callable[[], str]) -> Iterator[Shop]:
    POSTGRES.create_schema(postgres_url, name := namespace(), EVENT_STORE)
    shop = Shop(Environment({POSTGRES.variable: postgres_url, NAMESPACE: name, CLIENTS: request.param}))
    yield shop
    shop.close()


def filled(shop: Shop) -> Shop:
    shop.does(m.RegisterCustomer(ANN, "Ann Lee"), m.AddProduct(TEA, "Green Tea", 100, 11))
    for number in range(10):
        shop.order(number)
    return shop


SPOIL = "UPDATE snapshots SET state = replace(state, '\"taken\":', '\"taken\":10')"


def test_a_snapshot_is_written_every_so_many_events_and_used(shop: Shop) -> None:
    assert filled(shop).sql("SELECT stream, version FROM snapshots") == [(f"stock-{TEA}", 8)]
    shop.sql(SPOIL)
    with pytest.raises(InsufficientStock):
        shop.order(10)


@pytest.mark.parametrize(
    "done",
    [
        ("TRUNCATE snapshots",),
        (SPOIL, "UPDATE snapshots SET rules = 'of yesterday'"),
        (SPOIL, "UPDATE snapshots SET history = 'of another database'"),
        ("CREATE TEMPORARY TABLE kept AS TABLE outbox", "TRUNCATE outbox", SPOIL, "INSERT INTO outbox TABLE kept"),
    ],
    ids=["dropped", "of other rules", "of another history", "of a database that was restored"],
)
def test_without_the_snapshot_that_counts_the_state_is_folded_from_the_events(
    done: tuple[str, ...], shop: Shop
) -> None:
    filled(shop).sql(*done)
    assert shop.order(10) == [1], "one piece is left"
    with pytest.raises(InsufficientStock):
        shop.order(11)
    assert shop.sql("SELECT version FROM snapshots") == [(11,)], "the stream was long, so it got another"


def test_without_snapshots_none_is_written_or_used(shop: Shop) -> None:
    filled(shop).sql(SPOIL)
    other = Shop(shop.env, every=0)
    assert other.order(10) == [1]
    assert other.sql("SELECT version FROM snapshots") == [(8,)]
    other.close()


def test_of_two_appends_of_one_version_one_starts_over_and_sees_the_other(shop: Shop) -> None:
    shop.does(m.RegisterCustomer(ANN, "Ann"))
    with psycopg.connect(shop.url, options=f"-c search_path={shop.name}") as other:  # it does not lock
        other.execute(INSERT, (f"customer-{ANN}", 2, encode(m.CustomerRenamed(ANN, 2, "Bea"))))
        answers: list[int] = []
        renamed = meanwhile(lambda: answers.extend(shop.does(m.RenameCustomer(ANN, "Cleo"))), end=other.commit)
        with renamed, open_step(shop.url, shop.name) as watching:
            blocked = "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
            wait_until(lambda: watching.execute(blocked).fetchone() != (0,))
    assert answers == [3]


def test_events_of_old_shapes_are_read_as_todays_by_commands_and_views(shop: Shop) -> None:
    for path in RECORDED.glob("*.json"):
        body = path.read_text().strip()
        event = decode(body)
        assert SCHEMAS[type(event).__name__] > 1 and decode(encode(event)) == event
        shop.sql(INSERT, values=(event.stream, 1, body))
    lines = (m.Line(TEA, "Green Tea", 3, 435, 1305), m.Line(POT, "Tea Pot", 1, 1990, 1990))
    placed = m.OrderPlaced(ORDER, 1, datetime(2024, 3, 1, 9, 30, tzinfo=UTC), ANN, lines, 3295)
    assert sorted(shop.read(), key=lambda event: event.stream) == [m.CustomerRegistered(ANN, 1, "Ann Lee"), placed]
    again = m.PlaceOrder(ORDER, ANN, (m.Wanted(TEA, 3), m.Wanted(POT, 1)))
    assert shop.does(m.RenameCustomer(ANN, "Ann Lee"), m.PayOrder(ORDER), again) == [1, 2, 2]


UNKNOWN = {
    '{"schema":1,"type":"CustomerRated","id":"x","version":2}': (
        "CustomerRated is a type that this version does not know"
    ),
    encode(m.CustomerRenamed(ANN, 2, "Bea")).replace('"schema":1', '"schema":2'): (
        "CustomerRenamed has schema 2, and this version reads up to 1"
    ),
    '{"type":"CustomerRegistered","id":"x","version":2}': "CustomerRegistered has not the fields of its schema 1",
}


@pytest.mark.parametrize("body", UNKNOWN)
def test_an_event_that_this_version_cannot_read_stops_its_stream_and_no_other(body: str, shop: Shop) -> None:
    shop.does(m.RegisterCustomer(ANN, "Ann"), m.AddProduct(TEA, "Green Tea", 100, 5))
    shop.sql(INSERT, values=(f"customer-{ANN}", 2, body))
    with pytest.raises(StoreGone, match=r"^What was recorded cannot be read right now\.$") as refused:
        shop.order(1)
    assert refused.value.reason == f"customer-{ANN}: {UNKNOWN[body]}"
    assert shop.does(m.RepriceProduct(TEA, 200)) == [2]
    unread = next(event for event in shop.read() if isinstance(event, Unreadable))
    assert unread == (f"customer-{ANN}", 2, f"its body is no event ({UNKNOWN[body]})")


@pytest.mark.parametrize(
    ("name", "reads"), [("OrderPlaced", "reads them up to schema 2"), ("OrderRated", "does not know them")]
)
def test_a_store_of_a_later_version_is_refused(name: str, reads: str, shop: Shop) -> None:
    for _ in range(2):
        claim_types(shop.url, shop.name)
    shop.sql(f"INSERT INTO event_types VALUES ('{name}', 3) ON CONFLICT (type) DO UPDATE SET schema = 3")
    with pytest.raises(NewerEvents) as refused:
        claim_types(shop.url, shop.name)
    assert str(refused.value) == (
        f"The event store holds events of the type {name} with schema 3, and this version {reads}: serve it with the"
        " version that wrote them, or a later one."
    )


def test_the_past_is_read_up_to_a_position(shop: Shop) -> None:
    filled(shop).does(m.RepriceProduct(TEA, 300))
    shop.order(10)
    stock, product, rows = f"stock-{TEA}", f"product-{TEA}", shop.tables.rows

    async def ask() -> None:
        everything = await past(rows, [product, stock])
        assert [one.event.version for one in everything if one.event.kind == "stock"] == list(range(1, 12))
        until = await past(rows, [product, stock], everything[-2].position)
        assert until == everything[:-1]
        taken = state_of(one.event for one in until if one.event.kind == "stock")
        assert (taken.taken, until[-1].event.price_cents) == (10, 300)

    shop.runner.run(ask())
    assert [type(event) for event in shop.read()[-2:]] == [Unshown, m.OrderPlaced], "the order is its last event"


def test_a_data_set_is_loaded_as_events_that_answer_as_the_tables_do(
    postgres_url: str, redis_url: str, namespace: Callable[[], str]
) -> None:
    data, until, bodies = Dataset(1, 20, 5, 300), datetime(2026, 1, 1, tzinfo=UTC), []
    asked = [m.GetCustomer(id) for id, _ in data.customers()] + [m.GetProduct(id) for id, *_ in data.products()]
    asked += [m.GetOrder(row.id) for row in data.orders()] + [m.TopProducts(5), m.DailySales(90)]

    async def answers(system: Any) -> list[bytes]:
        found = [(await system.answer(query)).body for query in asked]
        order = m.PlaceOrder(ORDER, data.customer_id(0), (m.Wanted(next(data.products())[0], 1),))
        assert (await system.execute(order)).created
        await system.close()
        return found

    for name in ("crud", "event_sourced"):
        values = {POSTGRES.variable: postgres_url, REDIS.variable: redis_url, NAMESPACE: namespace()}
        env = Environment(values)
        for _ in range(2):  # the second time it is there
            rung(name).prepare(env)
            rung(name).load(env, data, until, lambda *_: None)
        with pytest.raises(Unusable, match="another size of seed 1"):
            rung(name).load(env, Dataset(1, 19, 5, 300), until, lambda *_: None)
        bodies.append(asyncio.run(answers(rung(name).system(env))))
    assert bodies[0] == bodies[1]
