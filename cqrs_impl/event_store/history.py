"""What happened, and what was at a version or at a time: read from the events alone, never from a snapshot.

The seams for time travel and audit. A moment is a position, in the order of the feed, or a time of the database's
clock, which stamps every event when it is recorded; a service's clock may be wrong, and only orders have its time.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from contract.position import Position
from contract.stores import gone
from cqrs_impl.event_store.events import StoredEvent, decode
from cqrs_impl.event_store.store import AWAY
from cqrs_impl.event_store.streams import State, evolve
from cqrs_impl.feeds.outbox.recorder import beyond, place
from crud_impl.connections import Rows

# Index: that of the unique (stream, version), once a stream.
PAST = """
SELECT xid::text::bigint, id, outbox_history(), body, recorded_at
FROM outbox WHERE stream = ANY(%(streams)s){until} ORDER BY xid, id"""
AT_POSITION = " AND (xid, id) <= (%(xid)s::text::xid8, %(id)s)"
AT_TIME = " AND recorded_at <= %(time)s"
POSITION = """
SELECT xid::text::bigint, id, outbox_history() FROM outbox WHERE stream = %(stream)s AND version = %(version)s"""

Moment = Position | datetime


class PastEvent(NamedTuple):
    """An event in today's shape, and when it was recorded."""

    position: Position
    event: StoredEvent
    recorded_at: datetime


async def past(rows: Rows, streams: Sequence[str], until: Moment | None = None) -> list[PastEvent]:
    """The events of some streams up to a moment, it included, in the order of the feed."""
    params: dict[str, object] = {"streams": list(streams)}
    match until:
        case Position():
            condition, params = AT_POSITION, params | beyond(until)
        case datetime():
            condition, params = AT_TIME, params | {"time": until}
        case None:
            condition = ""
    found = await rows(PAST.format(until=condition), params)
    try:
        return [PastEvent(place(xid, id, history), decode(body), at) for xid, id, history, body, at in found]
    except msgspec.DecodeError as error:
        raise gone(AWAY, f"{', '.join(streams)}: {error}") from error


async def moment_of(rows: Rows, stream: str, version: int) -> Position | None:
    """When this version of a stream took effect; None if it never did."""
    for found in await rows(POSITION, {"stream": stream, "version": version}):
        return place(*found)
    return None


def state_of(events: Iterable[StoredEvent]) -> State | None:
    """The state after the events of one stream."""
    return evolve(None, sorted(events, key=lambda event: event.version))
