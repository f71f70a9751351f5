"""Poison: an event that cannot be applied is tried five times, then its stream is parked and the others go on.

A stream waits as a whole, from the failed event on, so that its versions stay in order. An order also waits for the
registration of its customer and the adding of its products, and for nothing else of theirs: a rename, a price or a
delivery that waits leaves orders alone, because totals only add up and a replayed rename reaches every order.
What is shown is thus all events up to the checkpoint but the parked ones, each wholly in or wholly out; the checkpoint
says from where on that is not all, so that no answer claims to reflect what waits here.
"""

import logging
from collections import Counter

import msgspec
from msgspec.structs import replace

from contract.messages import Event
from contract.position import Position
from cqrs_impl.ports import Parked, RecordedEvent, Unreadable

TRIES_MAX = 5
REASON_MAX = 200

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Parked]).decode
_log = logging.getLogger("crossover.parking")


class NotYet(Exception):
    """The event builds on one of `stream` that has not come by yet."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream


class Tries:
    """How often each event failed, for as long as this projector runs."""

    def __init__(self) -> None:
        self._failed = Counter[Position]()

    def over(self, position: Position) -> bool:
        self._failed[position] += 1
        if self._failed[position] < TRIES_MAX:
            return False
        del self._failed[position]
        return True


class Parking:
    """The parked streams as they are while a batch is folded; `text` is what the read store keeps."""

    def __init__(self, text: bytes | None) -> None:
        self.streams = {} if text is None else _decode(text)
        self.changed = False

    @property
    def text(self) -> bytes:
        return _encode(self.streams)

    def reflected(self, reached: Position) -> Position:
        """How far the views show everything: to before the first event that waits."""
        return min([reached, *(parked.before for parked in self.streams.values())])

    def holds(self, placed: RecordedEvent) -> bool:
        """Whether the event waits behind its parked stream; it is then taken in."""
        parked = self.streams.get(name(placed.event)) if self.streams else None
        if parked is None or placed.event.version < parked.version:
            return False
        if placed.event.version > parked.last:
            self._keep(replace(parked, last=placed.event.version))
        return True

    def park(self, placed: RecordedEvent, reason: str) -> None:
        ((transaction, sequence),), event, _ = placed
        before = ((transaction, sequence - 1),)
        _log.warning("%s is parked from version %d on: %s", name(event), event.version, reason)
        parked = Parked(name(event), event.version, event.version, before, reason[:REASON_MAX])
        if later := self.streams.get(parked.stream):  # a later version came, and failed, first
            parked = replace(parked, last=later.last, before=min(before, later.before))
        self._keep(parked)

    def release(self, stream: str) -> None:
        del self.streams[stream]
        self.changed = True

    def begins(self, stream: str) -> bool:
        """Whether the stream is parked from its first event on, so that the thing itself is not there."""
        return stream in self.streams and self.streams[stream].version == 1

    def _keep(self, parked: Parked) -> None:
        self.streams[parked.stream] = parked
        self.changed = True


def name(event: Event | Unreadable) -> str:
    return event.stream


def parked_events(text: bytes | None) -> int:
    return 0 if text is None else sum(parked.events for parked in _decode(text).values())
