"""The feed: reads the outbox in an order in which no event can appear before one already read."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg

from contract import stores
from contract.errors import WorkerError
from contract.messages import Event
from contract.position import Position
from cqrs_impl.checkpoint import AnotherHistory
from cqrs_impl.feeds.outbox.recorder import HOLDS, beyond, held, named, place
from cqrs_impl.ports import Batch, RecordedEvent, Unreadable, Unshown
from crud_impl.connections import Connect, Connection
from crud_impl.session import message_of

# A row is settled when its xid is below the snapshot's xmin: no open transaction can then add a row before it. xmin and
# rows come from one statement, hence from one snapshot. ORDER BY o.xid uses the index: a bare xid would be the output
# column, and each batch would sort all rows that follow.
READ = """
SELECT o.xid::text::bigint, id, body, extract(epoch FROM recorded_at)::float8,
xid < pg_snapshot_xmin(pg_current_snapshot()) AS settled, (SELECT outbox_history())
FROM outbox o WHERE (xid, id) > (%(xid)s::text::xid8, %(id)s) ORDER BY o.xid, o.id LIMIT %(limit)s"""
STREAM = """
SELECT xid::text::bigint, id, body FROM outbox WHERE stream = %(stream)s AND version >= %(version)s
AND (xid, id) <= (%(xid)s::text::xid8, %(id)s) ORDER BY version"""
COUNT_ALL = "SELECT count(*) FROM outbox"
COUNT = f"{COUNT_ALL} WHERE (xid, id) <= (%(xid)s::text::xid8, %(id)s)"
NAME = "SELECT stream, version FROM outbox WHERE (xid, id) = (%(xid)s::text::xid8, %(id)s)"

# Locks that connections hold, and lose when they end: all readers of the outbox share the one, and who rebuilds beside
# them has the other. That the first cannot be had alone shows that others read.
FOLLOW = "SELECT pg_advisory_lock_shared(hashtext(%(channel)s), 1)"
ALONE = """
SELECT CASE WHEN pg_try_advisory_lock(hashtext(%(channel)s), 1) THEN pg_advisory_unlock(hashtext(%(channel)s), 1)
ELSE false END"""
BUILD = "SELECT pg_try_advisory_lock(hashtext(%(channel)s), 2)"
RESERVE_TRIES, RESERVE_WAIT_S = 20, 0.05  # that the one before was killed is noticed soon; a projector may reconnect

_decode = msgspec.json.Decoder(Event).decode


class AnotherBuilds(WorkerError):
    def __init__(self) -> None:
        super().__init__("These views are being rebuilt live already: let that end first.")


class NobodyFollows(WorkerError):
    def __init__(self) -> None:
        super().__init__("No projector is running here: start the service, or leave out --live.")


class OutboxFeed:
    """Holds one connection for reading and LISTEN, and reopens it after `close`. It also implements `EventLog`."""

    def __init__(
        self, connect: Connect, channel: str | None, decode: Callable[[str], Event | Unshown] = _decode
    ) -> None:
        """Without a channel nothing wakes it up: for a reader that never waits. `decode` reads a body; it raises
        `msgspec.DecodeError` where that is no event."""
        self._connect, self._channel, self._decode = connect, channel, decode
        self._connection: Connection | None = None
        self._news = asyncio.Event()

    async def read(self, after: Position, limit: int) -> Batch:
        rows = await self._rows(READ, limit=limit, **beyond(after))
        present = rows[0][5] if rows else await self.present()
        if after.history != present:
            raise AnotherHistory
        events: list[RecordedEvent] = []
        for xid, sequence, body, recorded_s, settled, _ in rows:
            if not settled:
                return Batch(events, more_soon=True)
            events.append(await self._recorded(place(xid, sequence, present), body, recorded_s))
        return Batch(events, more_soon=len(rows) == limit)

    async def wait(self, timeout_s: float) -> None:
        connection, loop = (await self._connected()).driver, asyncio.get_running_loop()
        if not self._news.is_set():  # psycopg's own wait would wake ten times a second
            loop.add_reader(connection.fileno(), self._news.set)
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError:
                return
            finally:
                loop.remove_reader(connection.fileno())
            with gone():
                connection.pgconn.consume_input()
            while connection.pgconn.notifies():
                pass
        self._news.clear()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def present(self) -> str:
        ((present,),) = await self._rows("SELECT outbox_history()")
        return str(present)

    async def history(self, position: Position, counted: int | None = None) -> str:
        ((present,),) = await self._rows(HOLDS, **named(position, counted))
        return held(present)

    async def count(self, upto: Position | None = None) -> int:
        ((events,),) = await self._rows(COUNT, **beyond(upto)) if upto else await self._rows(COUNT_ALL)
        return int(events)

    async def reserve(self) -> None:
        await self._until(BUILD, True, AnotherBuilds)
        await self._until(ALONE, False, NobodyFollows)

    async def _until(self, question: str, wanted: bool, otherwise: type[WorkerError]) -> None:
        for _ in range(RESERVE_TRIES):
            ((answer,),) = await self._rows(question, channel=self._channel)
            if answer == wanted:
                return
            await asyncio.sleep(RESERVE_WAIT_S)
        raise otherwise

    async def stream(self, stream: str, version: int, upto: Position) -> Sequence[RecordedEvent]:
        rows = await self._rows(STREAM, stream=stream, version=version, **beyond(upto))
        return [await self._recorded(place(xid, id, upto.history), body) for xid, id, body in rows]

    async def _recorded(self, at: Position, body: str, recorded_s: float | None = None) -> RecordedEvent:
        try:
            return RecordedEvent(at, self._decode(body), recorded_s)
        except msgspec.DecodeError as error:
            ((stream, version),) = await self._rows(NAME, **beyond(at))
            return RecordedEvent(at, Unreadable(stream, version, f"its body is no event ({error})"))

    async def _rows(self, statement: str, **params: Any) -> Sequence[Any]:
        connection = await self._connected()
        with gone():
            return await connection.rows(statement, params)

    async def _connected(self) -> Connection:
        if self._connection is None:
            with gone():
                self._connection = await self._open()
        return self._connection

    async def _open(self) -> Connection:
        connection = await self._connect(writing=False)
        connection.driver.add_notify_handler(lambda _: self._news.set())  # that arrive with a response
        if self._channel:  # who does not wait must not listen: what is not fetched would fill the connection
            await connection.rows(f'LISTEN "{self._channel}"', {})
            await connection.rows(FOLLOW, {"channel": self._channel})
        return connection


@contextmanager
def gone() -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, OSError) as error:
        raise stores.gone("The outbox cannot be read right now.", message_of(error)) from error
