"""The feed: reads the outbox in an order in which nothing can appear behind the reader."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg

from contract.errors import StoreGone
from contract.messages import Event
from contract.position import Position
from cqrs_impl.feeds.outbox.recorder import OutboxPosition, beyond
from cqrs_impl.ports import Batch, RecordedEvent, Unreadable
from crud_impl.connections import Connect, Connection

# A row is given only once every transaction that could still write before it has ended: those are the ones below
# the snapshot's xmin. Horizon and rows are taken in one statement, hence of one snapshot. Ordered by o.xid: a bare
# xid would be the column that is shown, and every row behind the reader's place would be sorted for each batch.
READ = """
SELECT o.xid::text::bigint, id, body, extract(epoch FROM recorded_at)::float8,
xid < pg_snapshot_xmin(pg_current_snapshot()) AS settled
FROM outbox o WHERE (xid, id) > (%(xid)s::text::xid8, %(id)s) ORDER BY o.xid, o.id LIMIT %(limit)s"""
STREAM = """
SELECT xid::text::bigint, id, body FROM outbox WHERE stream = %(stream)s AND version >= %(version)s
AND (xid, id) <= (%(xid)s::text::xid8, %(id)s) ORDER BY version"""
NAME = "SELECT stream, version FROM outbox WHERE (xid, id) = (%(xid)s::text::xid8, %(id)s)"

_decode = msgspec.json.Decoder(Event).decode


class OutboxFeed:
    """Holds one connection, which also listens; opens it again after `close`. It is the log of events, too."""

    def __init__(self, connect: Connect, channel: str) -> None:
        self._connect, self._channel = connect, channel
        self._connection: Connection | None = None
        self._identity = ""
        self._news = asyncio.Event()

    async def read(self, after: Position, limit: int) -> Batch:
        rows = await self._rows(READ, limit=limit, **beyond(after))
        events: list[RecordedEvent] = []
        for xid, sequence, body, recorded_s, settled in rows:
            if not settled:
                return Batch(events, more_soon=True)
            events.append(await self._recorded(xid, sequence, body, recorded_s))
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

    async def identity(self) -> str:
        """Of the outbox, as it was when the connection was opened."""
        await self._connected()
        return self._identity

    async def count(self) -> int:
        ((events,),) = await self._rows("SELECT count(*) FROM outbox")
        return int(events)

    async def stream(self, stream: str, version: int, upto: Position) -> Sequence[RecordedEvent]:
        rows = await self._rows(STREAM, stream=stream, version=version, **beyond(upto))
        return [await self._recorded(*row) for row in rows]

    async def _recorded(self, xid: int, sequence: int, body: str, recorded_s: float | None = None) -> RecordedEvent:
        position = (OutboxPosition(xid, sequence),)
        try:
            return RecordedEvent(position, _decode(body), recorded_s)
        except msgspec.DecodeError as error:
            ((stream, version),) = await self._rows(NAME, **beyond(position))
            return RecordedEvent(position, Unreadable(stream, version, f"its body is no event ({error})"))

    async def _rows(self, statement: str, **params: Any) -> Sequence[Any]:
        with gone():
            return await (await self._connected()).rows(statement, params)

    async def _connected(self) -> Connection:
        if self._connection is None:
            with gone():
                self._connection = await self._open()
        return self._connection

    async def _open(self) -> Connection:
        connection = await self._connect(writing=False)
        connection.driver.add_notify_handler(lambda _: self._news.set())  # of those that come with an answer
        await connection.rows(f'LISTEN "{self._channel}"', {})
        rows = await connection.rows("SELECT id::text FROM outbox_identity", {})
        self._identity = rows[0][0] if rows else ""
        return connection


@contextmanager
def gone() -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        raise StoreGone("The outbox cannot be read right now.") from error
