"""The relay: reads the outbox in an order in which nothing can appear behind the reader."""

import asyncio

import msgspec
import psycopg

from contract.messages import Event
from contract.position import Position
from cqrs_impl.ports import Batch, Parked, RecordedEvent, Unreadable
from cqrs_impl.write.outbox import OutboxPosition

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
    """Holds one connection, which also listens; opens it again after `disconnect`."""

    def __init__(self, database_url: str, namespace: str) -> None:
        self._database_url, self._namespace = database_url, namespace
        self._connection: psycopg.AsyncConnection | None = None
        self._identity = ""
        self._news = asyncio.Event()

    async def read(self, after: Position, limit: int) -> Batch:
        connection, ((xid, sequence),) = await self._connected(), after
        rows = await (await connection.execute(READ, {"xid": str(xid), "id": sequence, "limit": limit})).fetchall()
        events: list[RecordedEvent] = []
        for xid, sequence, body, recorded_s, settled in rows:
            if not settled:
                return Batch(events, more_soon=True)
            events.append(await self._placed(xid, sequence, body, recorded_s))
        return Batch(events, more_soon=len(rows) == limit)

    async def parked(self, parked: Parked, upto: Position) -> list[RecordedEvent]:
        """The events of a parked stream that wait, in the order of their versions."""
        ((xid, sequence),) = upto
        wanted = {"stream": parked.stream, "version": parked.version, "xid": str(xid), "id": sequence}
        rows = await (await (await self._connected()).execute(STREAM, wanted)).fetchall()
        return [await self._placed(*row) for row in rows]

    async def _placed(self, xid: int, sequence: int, body: str, recorded_s: float | None = None) -> RecordedEvent:
        try:
            return RecordedEvent((OutboxPosition(xid, sequence),), _decode(body), recorded_s)
        except msgspec.DecodeError as error:
            row = await (await (await self._connected()).execute(NAME, {"xid": str(xid), "id": sequence})).fetchone()
            assert row is not None, "events are kept"
            stream, version = row
            return RecordedEvent(
                (OutboxPosition(xid, sequence),), Unreadable(stream, version, f"its body is no event ({error})")
            )

    async def wait(self, timeout_s: float) -> None:
        connection, loop = await self._connected(), asyncio.get_running_loop()
        if not self._news.is_set():  # psycopg's own wait would wake ten times a second
            loop.add_reader(connection.fileno(), self._news.set)
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError:
                return
            finally:
                loop.remove_reader(connection.fileno())
            connection.pgconn.consume_input()
            while connection.pgconn.notifies():
                pass
        self._news.clear()

    async def identity(self) -> str:
        """Of the outbox, as it was when the connection was opened."""
        await self._connected()
        return self._identity

    async def count(self) -> int:
        """How many events there are in all, for the progress of a rebuild."""
        row = await (await (await self._connected()).execute("SELECT count(*) FROM outbox")).fetchone()
        assert row is not None
        return int(row[0])

    async def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> psycopg.AsyncConnection:
        if self._connection is None:
            connection = await psycopg.AsyncConnection.connect(
                self._database_url,
                autocommit=True,
                prepare_threshold=1,
                connect_timeout=2,
                options=f"-c search_path={self._namespace}",
            )
            connection.add_notify_handler(lambda _: self._news.set())  # of those that come with a statement's answer
            await connection.execute(f'LISTEN "{self._namespace}"')
            row = await (await connection.execute("SELECT id::text FROM outbox_identity")).fetchone()
            self._identity = row[0] if row else ""
            self._connection = connection
        return self._connection
