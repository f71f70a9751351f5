"""What every feed must do, whatever the order in which transactions commit; one subclass a feed."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from psycopg import sql

from contract.messages import CustomerRegistered, CustomerRenamed, Event
from contract.position import BEGINNING, Position, covers
from cqrs_impl.checkpoint import AnotherHistory
from cqrs_impl.feeds.outbox.feed import READ, OutboxFeed
from cqrs_impl.feeds.outbox.recorder import LAST, OUTBOX, history_of
from cqrs_impl.ports import EventLog, RecordedEvent, Unreadable
from ladder.connections import connect
from ladder.environment import CLIENTS, LEVELS, NAMESPACE, Environment
from servers.postgres import POSTGRES
from tests.service import PATIENCE_S
from tests.threads import meanwhile

WRITERS, EACH = 8, 25


def customer(number: int) -> CustomerRegistered:
    return CustomerRegistered(str(UUID(int=number)), 1, f"Customer {number}")


async def begin(log: EventLog) -> Position:
    return Position(BEGINNING, await log.present())


class FeedSuite(ABC):
    """Promises of `Feed` and `EventLog`; a transaction is a `psycopg.Connection`, as all write models are there."""

    @abstractmethod
    def feed(self) -> Any:
        """A fresh `Feed` that is an `EventLog`, too."""

    @abstractmethod
    def transaction(self) -> psycopg.Connection: ...

    @abstractmethod
    def record(self, connection: psycopg.Connection, event: Event) -> None: ...

    @abstractmethod
    def spoil(self, event: Event) -> None:
        """Make the recorded body of an event unreadable."""

    @abstractmethod
    def restore(self, events: int) -> None:
        """The log as it was when it held so many events, restored in place under its readers."""

    def ask(self, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        async def once() -> Any:
            feed = self.feed()
            try:
                return await work(feed)
            finally:
                await feed.close()

        return asyncio.run(once())

    def read(self, after: Position | None = None) -> list[RecordedEvent]:
        async def batch(feed: Any) -> list[RecordedEvent]:
            return list((await feed.read(after or await begin(feed), 1000)).events)

        return list(self.ask(batch))

    def events(self) -> list[Event]:
        return [one.event for one in self.read()]

    def commit(self, *events: Event) -> None:
        connection = self.transaction()
        for event in events:
            self.record(connection, event)
        connection.commit()

    def test_an_event_whose_transaction_commits_late_is_not_skipped(self) -> None:
        early, late = self.transaction(), self.transaction()
        self.record(early, customer(1))
        self.record(late, customer(2))
        late.commit()
        assert self.events() == [], "the second may not be given while the first can still appear before it"
        early.commit()
        assert self.events() == [customer(1), customer(2)]

    def test_a_bystander_transaction_delays_the_feed_and_loses_nothing(self) -> None:
        bystander = self.transaction()
        bystander.execute("SELECT pg_current_xact_id()")  # holds the horizon without recording an event
        self.commit(customer(1))
        assert self.events() == []
        bystander.rollback()
        assert self.events() == [customer(1)]

    def test_what_is_rolled_back_is_never_given(self) -> None:
        connection = self.transaction()
        self.record(connection, customer(1))
        connection.rollback()
        self.commit(customer(2))
        assert self.events() == [customer(2)]

    def test_under_many_writers_a_reader_that_follows_gets_each_event_once(self) -> None:
        connections = [self.transaction() for _ in range(WRITERS)]

        def write(writer: int) -> None:
            for number in range(EACH):
                self.record(connections[writer], customer(writer * EACH + number))
                connections[writer].commit()

        async def follow(feed: Any) -> list[Event]:
            seen, at = [], await begin(feed)
            async with asyncio.timeout(PATIENCE_S):
                while len(seen) < WRITERS * EACH:
                    for position, event, *_ in (await feed.read(at, 7)).events:
                        assert covers(position, at) and position != at, "positions only grow"
                        at = position
                        seen.append(event)
            return seen

        with meanwhile(*(partial(write, writer) for writer in range(WRITERS))):
            seen = self.ask(follow)
        assert sorted(seen, key=lambda event: event.id) == [customer(n) for n in range(WRITERS * EACH)]
        assert len(self.read()) == WRITERS * EACH

    def test_a_position_covers_exactly_what_came_before_it(self) -> None:
        for number in range(3):
            self.commit(customer(number))
        first, second, _ = self.read()
        assert [one.event for one in self.read(first.position)] == [customer(1), customer(2)]
        assert [one.event for one in self.read(second.position)] == [customer(2)]

    def test_of_two_writers_at_one_version_one_is_refused(self) -> None:
        self.commit(customer(1))
        with pytest.raises(psycopg.errors.UniqueViolation):
            self.record(self.transaction(), customer(1))

    def test_an_unreadable_body_is_given_by_its_stream_and_version_and_stops_nobody(self) -> None:
        self.commit(customer(1), customer(2))
        self.spoil(customer(1))
        spoilt, readable = self.read()
        assert isinstance(spoilt.event, Unreadable) and readable.event == customer(2)
        assert (spoilt.event.stream, spoilt.event.version) == (customer(1).stream, 1)

    def test_the_log_gives_one_stream_from_a_version_as_far_as_a_position(self) -> None:
        renamed = [CustomerRenamed(customer(1).id, version, f"Name {version}") for version in (2, 3, 4)]
        self.commit(customer(1), customer(2))
        for event in renamed:
            self.commit(event)
        upto = self.read()[-2].position

        async def stream(log: EventLog) -> tuple[list[Event], int]:
            found = await log.stream(customer(1).stream, 2, upto)
            return [one.event for one in found], await log.count()

        assert self.ask(stream) == (renamed[:2], 5)

    def test_a_position_leads_to_the_present_as_far_as_the_log_holds_what_came_before_it(self) -> None:
        self.commit(customer(1))
        self.commit(customer(2))
        self.commit(customer(3))
        first, second, third = (one.position for one in self.read())

        async def lead(log: Any) -> list[Any]:
            led: list[Any] = [await log.present()]
            for position, counted in ((second, 2), (first, None), (second, 1), (third, 3), (third, None), (nowhere, 1)):
                try:
                    led.append(await log.history(position, counted))
                except AnotherHistory:
                    led.append(None)
            with pytest.raises(AnotherHistory):  # the log is to be asked first what the position is now
                await log.read(second, 9)
            here = second._replace(history=led[0])
            return [*led, *(await log.read(here, 9)).events]

        nowhere = first._replace(history="nowhere")
        self.restore(2)
        self.commit(customer(4))
        present, *led, event = self.ask(lead)
        assert led == [present, present, None, None, None, None] and present != first.history
        assert (event.event, event.position.history) == (customer(4), present)

    def test_it_wakes_up_for_news_and_goes_on_after_it_was_closed(self) -> None:
        async def woken(feed: Any) -> list[Event]:
            await feed.read(await begin(feed), 1)
            await feed.wait(0.01)  # in vain
            waiting = asyncio.ensure_future(feed.wait(PATIENCE_S))
            await asyncio.sleep(0)
            await asyncio.to_thread(self.commit, customer(1))
            async with asyncio.timeout(PATIENCE_S):
                await waiting
            await feed.close()
            return [one.event for one in (await feed.read(await begin(feed), 10)).events]

        assert self.ask(woken) == [customer(1)]


class TestOutbox(FeedSuite):
    @pytest.fixture(autouse=True, params=LEVELS)
    def schema(self, request: pytest.FixtureRequest, postgres_url: str, namespace: Callable[[], str]) -> Iterator[None]:
        self.url, self.name = postgres_url, namespace()
        self.env = Environment({POSTGRES.variable: self.url, NAMESPACE: self.name, CLIENTS: request.param})
        self.held: list[psycopg.Connection] = []
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {0}; SET search_path = {0}").format(sql.Identifier(self.name)))
            connection.execute(OUTBOX.encode())
        yield
        for connection in self.held:
            connection.close()

    def feed(self) -> OutboxFeed:
        return OutboxFeed(connect(self.env), self.name)

    def transaction(self) -> psycopg.Connection:
        self.held.append(psycopg.connect(self.url, options=f"-c search_path={self.name}"))
        return self.held[-1]

    def record(self, connection: psycopg.Connection, event: Event) -> None:
        body = msgspec.json.encode(event).decode()
        row = [event.stream, event.version, body, self.name]
        insert = "INSERT INTO outbox (stream, version, body) VALUES (%s, %s, %s)"
        connection.execute(f"{insert} RETURNING outbox_history(), pg_notify(%s, '')".encode(), row)

    def spoil(self, event: Event) -> None:
        with self.transaction() as connection:
            connection.execute("UPDATE outbox SET body = '{' || body WHERE stream = %s", [event.stream])

    def restore(self, events: int) -> None:
        with self.transaction() as connection:
            kept = f"CREATE TEMPORARY TABLE kept AS SELECT * FROM outbox ORDER BY xid, id LIMIT {events}"
            connection.execute(kept.encode())
            connection.execute("TRUNCATE outbox; INSERT INTO outbox TABLE kept")

    def test_a_number_that_is_given_again_is_no_position_of_before(self) -> None:
        for number in (1, 2, 3):
            self.commit(customer(number))
        third = self.read()[-1].position
        self.restore(2)
        with self.transaction() as connection:
            connection.execute("SELECT outbox_history()")
            row = [*map(str, third.components[0]), customer(4).stream, msgspec.json.encode(customer(4)).decode()]
            connection.execute("INSERT INTO outbox (xid, id, stream, version, body) VALUES (%s, %s, %s, 1, %s)", row)
        assert self.events() == [customer(1), customer(2), customer(4)]
        with pytest.raises(AnotherHistory):
            history_of(self.url, self.name, third, 3)

    def test_rows_of_a_server_that_is_ahead_are_read_in_their_order_and_before_new_ones(self) -> None:
        for number in (1, 2, 3):
            self.commit(customer(number))
        before = self.read()[-1].position
        with self.transaction() as connection:
            connection.execute("CREATE TEMPORARY TABLE kept AS TABLE outbox")
            connection.execute("UPDATE kept SET xid = (xid::text::bigint + 1000000)::text::xid8")
            connection.execute("TRUNCATE outbox; INSERT INTO outbox TABLE kept")
        self.commit(customer(4))
        assert self.events() == [customer(number) for number in (1, 2, 3, 4)]
        with pytest.raises(AnotherHistory):
            history_of(self.url, self.name, before, 3)

    @pytest.mark.parametrize("statement", [READ, LAST], ids=["a batch", "the last event"])
    def test_it_is_read_in_the_order_of_its_index(self, statement: str) -> None:
        """To sort instead would make each batch cost as much as everything behind it."""
        connection, body = self.transaction(), msgspec.json.encode(customer(1)).decode()
        connection.execute(
            "INSERT INTO outbox (stream, version, body) SELECT 'customer-' || n, 1, %s FROM generate_series(1, 5000) n",
            [body],
        )
        connection.execute("ANALYZE outbox")
        explain = f"EXPLAIN {statement}".encode()
        plan = "\n".join(line for (line,) in connection.execute(explain, {"xid": "3", "id": 0, "limit": 500}))
        assert "outbox_by_position" in plan and "Sort" not in plan
