"""The recorder: writes each event as a row of the outbox, in the transaction of the command that caused it."""

from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any

import msgspec
import psycopg

from contract.messages import Event
from contract.position import Position
from cqrs_impl.checkpoint import AnotherHistory
from crud_impl.connections import Rows, Transaction
from crud_impl.load import copy
from crud_impl.session import open_step

OUTBOX = files("cqrs_impl.feeds.outbox").joinpath("schema.sql").read_text("utf-8")

# The notification is sent at commit. Its payload is empty: it only wakes the reader.
RECORD = """
INSERT INTO outbox (stream, version, body) VALUES (%(stream)s, %(version)s, %(body)s)
RETURNING xid::text::bigint, id, outbox_history(), pg_notify(%(channel)s, '')"""
# For a repeat: the latest position. With that of the original event, a client's last token would go backwards.
LAST = """
SELECT coalesce(l.xid::text::bigint, 0), coalesce(l.id, 0), present.history
FROM (SELECT outbox_history() AS history) AS present LEFT JOIN LATERAL (
    SELECT o.xid, o.id FROM outbox o ORDER BY o.xid DESC, o.id DESC LIMIT 1) AS l ON true"""  # outbox_by_position
HOLDS = "SELECT outbox_holds(%(history)s, %(xid)s::text::xid8, %(id)s, %(counted)s)"
BEHIND = f"""
SELECT ({HOLDS}), count(*), coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0)::float8
FROM (SELECT recorded_at FROM outbox WHERE (xid, id) > (%(xid)s::text::xid8, %(id)s) LIMIT 100001) AS waiting"""

SEQUENCE_MAX = 2**63 - 1
_encode = msgspec.json.Encoder().encode


def place(transaction: int, sequence: int, history: str) -> Position:
    """The only component of a position in the outbox sorts in the order of the feed."""
    return Position(((transaction, sequence),), history)


def beyond(position: Position) -> dict[str, Any]:
    """The parameters that name a position in a statement."""
    ((transaction, sequence),) = position.components
    return {"xid": str(transaction), "id": sequence}


def named(position: Position, counted: int | None) -> dict[str, Any]:
    """The parameters of HOLDS; `AnotherHistory` if an outbox has no such position: clients send tokens of any shape."""
    if len(position.components) != 1 or position.components[0][1] > SEQUENCE_MAX:
        raise AnotherHistory
    return beyond(position) | {"history": position.history, "counted": counted}


def held(present: str | None) -> str:
    if present is None:
        raise AnotherHistory
    return present


class Outbox:
    def __init__(self, channel: str) -> None:
        self._channel = channel

    async def record(self, transaction: Transaction, event: Event) -> Callable[[], Position]:
        body = _encode(event).decode()
        values = {"stream": event.stream, "version": event.version, "body": body, "channel": self._channel}
        row = await transaction.send(RECORD, **values)
        return lambda: place(*row()[:3])

    async def latest(self, transaction: Transaction) -> Callable[[], Position]:
        row = await transaction.send(LAST)
        return lambda: place(*row())


class OutboxBacklog:
    """Counts the events after a position, for `/ready` and `/metrics`."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def history(self, position: Position, counted: int | None = None) -> str:
        ((present,),) = await self._rows(HOLDS, named(position, counted))
        return held(present)

    async def behind(self, position: Position, counted: int | None = None) -> tuple[int, float]:
        ((present, events, seconds),) = await self._rows(BEHIND, named(position, counted))
        held(present)
        return events, max(0.0, seconds)


def copy_events(connection: psycopg.Connection, events: Iterable[Event]) -> None:
    """Record the events of a loaded data set with one COPY."""
    connection.execute("SELECT outbox_history()")  # begins before them
    rows = ((event.stream, event.version, _encode(event).decode()) for event in events)
    copy(connection, "outbox (stream, version, body)", rows)


def history_of(url: str, schema: str, position: Position | None, counted: int) -> str:
    """The present history; `AnotherHistory` if the position, one that counted events lead to, does not lead there."""
    with open_step(url, schema) as connection:
        if position is None:
            row = connection.execute("SELECT outbox_history()").fetchone()
        else:
            row = connection.execute(HOLDS, named(position, counted)).fetchone()
        assert row is not None, "a function gives a row"
        return held(row[0])
