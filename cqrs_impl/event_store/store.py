"""The event store: loads the state of streams, and appends to several of them in the transaction of one command.

Of two commands that append the same version of a stream, the second fails by the unique (stream, version) and starts
over. That alone would be right, and too little where many change one thing: of 40 changes of one product by 16 clients,
two failed five times. So a command locks what it will append to before it reads it, in the order of the names: it waits
where it would have failed. The unique key still holds against whoever does not lock.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec

from contract.position import Position
from contract.stores import gone
from cqrs_impl.event_store.events import StoredEvent, decode, encode
from cqrs_impl.event_store.streams import RULES, STATES, State, evolve
from cqrs_impl.feeds.outbox.recorder import LAST, OUTBOX, place
from crud_impl.connections import Transaction

EVENT_STORE = OUTBOX + files("cqrs_impl.event_store").joinpath("schema.sql").read_text("utf-8")
# Two commands that append the same version of a stream, or record the same delivery, violate one of these.
STREAM_KEYS = ("outbox_stream_version_key", "outbox_deliveries")
SNAPSHOT_EVERY = 100  # events of a stream; 0: never

LOAD = "SELECT * FROM event_streams(%(streams)s, %(locked)s, %(rules)s)"
# Index: outbox_deliveries, whose condition it repeats.
DELIVERED = """
SELECT substring(body FROM '"quantity":([0-9]+)')::bigint FROM outbox
WHERE stream = %(stream)s AND substring(body FROM '"delivery_id":"([^"]+)"') = %(delivery)s
AND stream LIKE 'product-%%' AND body LIKE '%%"type":"StockDelivered"%%'"""
# One statement for all streams, so that the order of the events is theirs. The last has the position of the command.
APPEND = """
WITH appended AS (
    INSERT INTO outbox (stream, version, body)
    SELECT * FROM unnest(%(streams)s::text[], %(versions)s::int[], %(bodies)s::text[]) RETURNING xid, id)
SELECT xid::text::bigint, max(id), outbox_history(), pg_notify(%(channel)s, '') FROM appended GROUP BY xid"""
SNAPSHOT = """
INSERT INTO snapshots (stream, version, rules, history, state)
VALUES (%(stream)s, %(version)s, %(rules)s, outbox_history(), %(state)s)
ON CONFLICT (stream) DO UPDATE
SET version = excluded.version, rules = excluded.rules, history = excluded.history, state = excluded.state"""
AWAY = "What was recorded cannot be read right now."

_encode = msgspec.json.Encoder().encode


class Stream(NamedTuple):
    """A stream as it was loaded."""

    state: Any  # one of STATES, None before the first event
    replayed: int  # events since the snapshot that it was folded from


class EventStore:
    def __init__(self, channel: str, snapshot_every: int = SNAPSHOT_EVERY, rules: str = RULES) -> None:
        self._channel, self._every = channel, snapshot_every
        self._rules = rules if snapshot_every else ""  # without snapshots, those of others are not used either

    async def load(
        self, transaction: Transaction, streams: Sequence[str], *, locked: Iterable[str]
    ) -> dict[str, Stream]:
        """Some streams, as they were when those that will be appended to were locked, until the transaction ends."""
        rows = await transaction.rows(LOAD, streams=list(streams), locked=sorted(locked), rules=self._rules)
        snapshots, bodies = dict[str, str](), defaultdict[str, list[str]](list)
        for stream, state, body in rows:
            if state is not None:
                snapshots[stream] = state
            if body is not None:
                bodies[stream].append(body)
        return {stream: folded(stream, snapshots.get(stream), bodies[stream]) for stream in streams}

    async def delivered(self, transaction: Transaction, product: str, delivery_id: str) -> int | None:
        """The quantity recorded under this delivery id in the stream of a product, if there is one."""
        row = await transaction.first(DELIVERED, stream=product, delivery=delivery_id)
        return row and int(row[0])

    async def append(
        self, transaction: Transaction, streams: Mapping[str, Stream], events: Sequence[StoredEvent]
    ) -> Callable[[], Position]:
        """Append events, each the next of one of the loaded streams. Their position is known after the commit."""
        row = await transaction.send(
            APPEND,
            streams=[event.stream for event in events],
            versions=[event.version for event in events],
            bodies=[encode(event) for event in events],
            channel=self._channel,
        )
        for event in events:
            before = streams[event.stream]
            if self._every and before.replayed + 1 >= self._every:
                state = evolve(before.state, (event,))
                snapshot = {"stream": event.stream, "version": event.version, "state": _encode(state).decode()}
                await transaction.send(SNAPSHOT, rules=self._rules, **snapshot)
        return lambda: place(*row()[:3])

    async def latest(self, transaction: Transaction) -> Callable[[], Position]:
        """As of `Recorder`: for a repeat."""
        row = await transaction.send(LAST)
        return lambda: place(*row())


def folded(stream: str, snapshot: str | None, bodies: Sequence[str]) -> Stream:
    """`StoreGone` if an event cannot be read or is missing: a state without it would be a wrong one."""
    kind: type[State] = STATES[stream.partition("-")[0]]
    try:
        state = None if snapshot is None else msgspec.json.decode(snapshot, type=kind)
        return Stream(evolve(state, map(decode, bodies)), len(bodies))
    except (msgspec.DecodeError, ValueError) as error:
        raise gone(AWAY, f"{stream}: {error}") from error
