"""The recorder: writes each event as a row of the outbox, in the transaction of the command that caused it."""

from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec
import psycopg

from contract.messages import Event
from contract.position import Position
from crud_impl.connections import Rows, Transaction
from crud_impl.load import copy
from crud_impl.session import open_step

OUTBOX = files("cqrs_impl.feeds.outbox").joinpath("schema.sql").read_text("utf-8")

# The notification is sent at commit. Its payload is empty: it only wakes the reader.
RECORD = """
INSERT INTO outbox (stream, version, body) VALUES (%(stream)s, %(version)s, %(body)s)
RETURNING xid::text::bigint, id, pg_notify(%(channel)s, '')"""
# For a repeat: the latest position. With that of the original event, a client's last token would go backwards.
LAST = "SELECT o.xid::text::bigint, o.id FROM outbox o ORDER BY o.xid DESC, o.id DESC LIMIT 1"  # outbox_by_position
BEHIND = """
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0)::float8
FROM (SELECT recorded_at FROM outbox WHERE (xid, id) > (%(xid)s::text::xid8, %(id)s) LIMIT 100001) AS waiting"""

_encode = msgspec.json.Encoder().encode


class OutboxPosition(NamedTuple):
    """The only component of a position in the outbox. Sorts in the order of the feed."""

    transaction: int
    sequence: int


def beyond(position: Position) -> dict[str, Any]:
    """The parameters that name a position in a statement."""
    ((transaction, sequence),) = position
    return {"xid": str(transaction), "id": sequence}


class Outbox:
    def __init__(self, channel: str) -> None:
        self._channel = channel

    async def record(self, transaction: Transaction, event: Event) -> Callable[[], Position]:
        body = _encode(event).decode()
        values = {"stream": event.stream, "version": event.version, "body": body, "channel": self._channel}
        row = await transaction.send(RECORD, **values)
        return lambda: (OutboxPosition(*row()[:2]),)

    async def latest(self, transaction: Transaction) -> Callable[[], Position]:
        row = await transaction.send(LAST)
        return lambda: (OutboxPosition(*row()),)


class OutboxBacklog:
    """Counts the events after a position, for `/ready` and `/metrics`."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def behind(self, position: Position) -> tuple[int, float]:
        ((events, seconds),) = await self._rows(BEHIND, beyond(position))
        return events, max(0.0, seconds)


def copy_events(connection: psycopg.Connection, events: Iterable[Event]) -> None:
    """Record the events of a loaded data set with one COPY."""
    rows = ((event.stream, event.version, _encode(event).decode()) for event in events)
    copy(connection, "outbox (stream, version, body)", rows)


def identity_of(url: str, schema: str) -> str:
    with open_step(url, schema) as connection:
        row = connection.execute("SELECT id::text FROM outbox_identity").fetchone()
        assert row is not None, "made with the tables"
        return str(row[0])
