"""What happened, up to a position in the feed: read from the events alone, never from a snapshot."""

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


class PastEvent(NamedTuple):
    """An event in today's shape, and when it was recorded by the database's clock."""

    position: Position
    event: StoredEvent
    recorded_at: datetime


async def past(rows: Rows, streams: Sequence[str], until: Position | None = None) -> list[PastEvent]:
    """The events of some streams up to a position, it included, in the order of the feed."""
    condition, params = (AT_POSITION, beyond(until)) if until else ("", {})
    found = await rows(PAST.format(until=condition), params | {"streams": list(streams)})
    try:
        return [PastEvent(place(xid, id, history), decode(body), at) for xid, id, history, body, at in found]
    except msgspec.DecodeError as error:
        raise gone(AWAY, f"{', '.join(streams)}: {error}") from error


def state_of(events: Iterable[StoredEvent]) -> State | None:
    """The state after the events of one stream."""
    return evolve(None, sorted(events, key=lambda event: event.version))
