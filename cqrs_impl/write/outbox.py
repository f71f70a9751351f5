"""The outbox: each event is a row, written in the transaction of the command that caused it, and kept.

`xid` is the transaction that wrote the row. Sequence numbers are taken before the commit, so their order is not
the order of commits and `id > last` skips rows for ever; `cqrs_impl/carry/outbox_feed.py` reads by `xid`.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.messages import Event
from contract.position import Position
from crud_impl.load import copy

OUTBOX = """
CREATE TABLE IF NOT EXISTS outbox (
    id bigserial,
    xid xid8 DEFAULT pg_current_xact_id(),
    stream text NOT NULL,
    version int NOT NULL,
    body text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT outbox_by_position PRIMARY KEY (xid, id),
    UNIQUE (stream, version)          -- of two writers at one version, one fails
);
-- Which outbox this is: a read store that followed another one is of no use here. Where a crash can lose events that
-- were read already, it must not be the same one afterwards: a crash empties an unlogged table.
CREATE TABLE IF NOT EXISTS outbox_identity (one boolean PRIMARY KEY DEFAULT true CHECK (one), id uuid NOT NULL);
DO $$ BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN ALTER TABLE outbox_identity SET UNLOGGED;
    ELSE ALTER TABLE outbox_identity SET LOGGED; END IF;
END $$;
INSERT INTO outbox_identity (id) VALUES (gen_random_uuid()) ON CONFLICT DO NOTHING;
"""

# The notification is sent at commit; it carries nothing, so that many of one moment are one.
RECORD = """
INSERT INTO outbox (stream, version, body) VALUES (%(stream)s, %(version)s, %(body)s)
RETURNING xid::text::bigint, id, pg_notify(%(channel)s, '')"""
# For a repeat: not the place of its own old event, or a client that keeps the last token it received would go back.
LAST = "SELECT o.xid::text::bigint, o.id FROM outbox o ORDER BY o.xid DESC, o.id DESC LIMIT 1"

_encode = msgspec.json.Encoder().encode


class OutboxPosition(NamedTuple):
    """The one component of a position in the outbox. Compares like the feed is read."""

    transaction: int
    sequence: int


def copy_events(connection: psycopg.Connection, events: Iterable[Event]) -> None:
    """Record many events at once: those of a data set that is loaded."""
    rows = ((event.stream, event.version, _encode(event).decode()) for event in events)
    copy(connection, "outbox (stream, version, body)", rows)


class Outbox:
    def __init__(self, channel: str) -> None:
        self._channel = channel

    async def record(self, connection: AsyncConnection, event: Event) -> Position:
        values = {
            "stream": event.stream,
            "version": event.version,
            "body": _encode(event).decode(),
            "channel": self._channel,
        }
        row: Any = (await connection.exec_driver_sql(RECORD, values)).one()
        return (OutboxPosition(*row[:2]),)

    async def latest(self, connection: AsyncConnection) -> Position:
        row: Any = (await connection.exec_driver_sql(LAST)).one()
        return (OutboxPosition(*row[:2]),)
