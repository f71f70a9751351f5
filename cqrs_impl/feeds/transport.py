"""The seam to a message broker: what `redis_streams.py`, and every transport beside it, implements.

A broker carries messages in partitions, each in the order in which they were published. It may deliver one again, and
it may lose all of them: it is no store here. So that nothing has to be believed of it, each message names the interval
of the outbox that it covers, `(after, upto]`, and holds all events of its partition in there. A reader that has applied
everything up to a position can tell from that alone what a message is to it:

- `upto` is covered already: a repeat, delivered again or published again. It is dropped.
- `after` is covered: the next one, of which what is covered already is left out.
- `after` is not covered: messages are missing, as after a broker came back empty. They are read from the outbox.

The position is in the read store and moves in the transaction that changes the documents. The broker's own offset is
acknowledged after that, and only says where to go on reading.

A message is a pack of events, since each costs a broker and its client about as much as all the events in it: whatever
the relay finds at once goes into one, the same for every transport.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from contract.messages import Event
from contract.position import Components, Position
from cqrs_impl.ports import Heartbeat, RecordedEvent, Unreadable

PACK_BYTES = 100_000  # a message ends with the entry that passes this; every broker takes ten times as much
READ_MAX = 16  # messages at a time
AWAY = "The broker cannot be reached right now."


class PackEntry(Struct, frozen=True, array_like=True):
    """An event, the same in each partition that carries it; without one it only says how far the partition is."""

    upto: Components  # the position of the event, if there is one
    counted: int  # how many events of the outbox `upto` covers
    recorded_s: float | None = None
    event: Event | Unreadable | None = None
    once: int = 0  # the partition of all that carry it where those take it who want each event once


class Pack(Struct, frozen=True, array_like=True):
    """A message: the first entry follows `after`, and each other one the entry before it."""

    history: str
    of: int  # partitions
    after: Components
    entries: Annotated[list[PackEntry], msgspec.Meta(min_length=1)]

    @property
    def upto(self) -> Components:
        return self.entries[-1].upto

    def recorded(self, once_in: int | None = None) -> list[RecordedEvent]:
        """The events; only those to be taken in this partition by who wants each once."""
        return [
            RecordedEvent(
                Position(one.upto, self.history),
                NOTHING if one.event is None or once_in not in (None, one.once) else one.event,
                one.recorded_s,
                one.counted,
            )
            for one in self.entries
        ]


NOTHING = Heartbeat()
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Pack).decode


def packed(history: str, of: int, after: Components, entries: Sequence[tuple[Components, bytes]]) -> Iterator[bytes]:
    """Messages of these entries, each given as where it ends and itself encoded."""
    while entries:
        size = count = 0
        while count < len(entries) and (not count or size < PACK_BYTES):
            size, count = size + len(entries[count][1]), count + 1
        yield encode((history, of, after, [msgspec.Raw(entry) for _, entry in entries[:count]]))
        after, entries = entries[count - 1][0], entries[count:]


class Delivered(NamedTuple):
    offset: Any  # the broker's own name of the place; only its adapter knows what it is
    body: bytes


class Publisher(Protocol):
    """Raises `StoreGone` if the broker cannot be reached, or does not confirm."""

    async def publish(self, messages: Sequence[tuple[int, bytes]]) -> None:
        """Append each to its partition, in this order. Returns when the broker has confirmed all of them; if it raises,
        any of them may be there."""

    async def close(self) -> None:
        """Close the connection; the next use opens another."""


class Reader(Protocol):
    """Reads one partition. Raises `StoreGone` where only another connection helps: if the broker numbers its messages
    anew, or cannot be reached and is not connected to again by itself."""

    async def read(self, limit: int) -> Sequence[Delivered]:
        """The next messages, without waiting; at least the first of those that are not acknowledged can be had. After
        `close`, and for a new reader, they begin again with that one, or earlier."""

    async def wait(self, timeout_s: float) -> None:
        """Return when there may be new messages, or after the timeout, or sooner."""

    async def acknowledge(self, offset: Any) -> None:
        """This message and those before it are applied; the broker need not keep them for this reader. An adapter may
        put it off, as it costs a round trip."""

    async def close(self) -> None:
        """Close the connection; the next use opens another."""
