"""Dead letters: an event that cannot be applied is tried five times, then its stream is blocked and others go on.

A stream waits as a whole, from the failed event on, so that its versions stay in order. An order also waits until its
customer is registered and its products are added. It does not wait for a blocked rename, price or delivery: totals are
sums, and a replayed rename reaches every order. The documents thus show all events up to the checkpoint except the
dead letters, and never a part of an event. The checkpoint's low-water mark is the position before the first dead
letter, so that no answer claims to reflect an event that waits here.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from contract.position import Position
from cqrs_impl.ports import RecordedEvent

TRIES_MAX = 5
REASON_MAX = 200


class BlockedStream(Struct, frozen=True):
    """A stream whose events from `version` to `last` wait, because the first of them could not be applied."""

    stream: str
    version: int
    last: int
    before: Position  # covers all events before the first that waits
    reason: str

    @property
    def events(self) -> int:
        return self.last - self.version + 1


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, BlockedStream]).decode
_log = logging.getLogger("crossover.dead_letters")


class Retries:
    """How often each event failed since this projector started."""

    def __init__(self) -> None:
        self._failed = Counter[Position]()

    def exhausted(self, position: Position) -> bool:
        self._failed[position] += 1
        if self._failed[position] < TRIES_MAX:
            return False
        del self._failed[position]
        return True


class DeadLetters:
    """The blocked streams while a batch is applied; `text` is what the document store keeps."""

    def __init__(self, text: bytes | None) -> None:
        self.streams = {} if text is None else _decode(text)
        self.changed = False

    @property
    def text(self) -> bytes:
        return _encode(self.streams)

    def low_water(self, position: Position) -> Position:
        """The part of `position` that the documents show in full: everything before the first event that waits."""
        components = position.components
        for blocked in self.streams.values():
            pairs = zip_longest(components, blocked.before.components, fillvalue=(0, 0))
            components = tuple(min(pair) for pair in pairs)
        return Position(components, position.history)

    def hold(self, recorded: RecordedEvent) -> bool:
        """Whether the event waits because its stream is blocked; it is then a dead letter too."""
        event = recorded.event
        blocked = self.streams.get(event.stream) if self.streams else None
        if blocked is None or event.version < blocked.version:
            return False
        if event.version > blocked.last:
            self._keep(replace(blocked, last=event.version))
        return True

    def add(self, recorded: RecordedEvent, before: Position, reason: str) -> None:
        event = recorded.event
        _log.warning("%s is blocked from version %d on: %s", event.stream, event.version, reason)
        blocked = BlockedStream(event.stream, event.version, event.version, before, reason[:REASON_MAX])
        if later := self.streams.get(event.stream):  # a later version came, and failed, first
            blocked = replace(blocked, last=later.last, before=min(before, later.before))
        self._keep(blocked)

    def release(self, stream: str) -> None:
        del self.streams[stream]
        self.changed = True

    def begin(self, stream: str) -> bool:
        """Whether a stream is blocked from its first event on, so that its customer, product or order is missing."""
        return stream in self.streams and self.streams[stream].version == 1

    def _keep(self, blocked: BlockedStream) -> None:
        self.streams[blocked.stream] = blocked
        self.changed = True


def count(*texts: bytes | None) -> int:
    """The number of dead letters in the texts that a document store keeps, one for each part: several can have
    blocked the same stream."""
    parts = [_decode(text) for text in texts if text]
    return sum(blocked.events for blocked in together([one for part in parts for one in part.values()]))


def together(blocked: Sequence[BlockedStream]) -> Sequence[BlockedStream]:
    """Each stream that some part has blocked once, in the order of their first waiting events."""
    streams: dict[str, BlockedStream] = {}
    for one in sorted(blocked, key=lambda one: one.version):
        first = streams.setdefault(one.stream, one)
        streams[one.stream] = replace(first, last=max(first.last, one.last), before=min(first.before, one.before))
    return sorted(streams.values(), key=lambda blocked: blocked.before)


class Replaying(Protocol):
    """A worker, or one part of it, that keeps dead letters."""

    async def blocked_streams(self) -> Sequence[BlockedStream]: ...
    async def replay(self) -> tuple[int, Sequence[BlockedStream]]: ...


async def blocked_in(keepers: Iterable[Replaying]) -> Sequence[BlockedStream]:
    return together([stream for keeper in keepers for stream in await keeper.blocked_streams()])


async def replay_in(keepers: Sequence[Replaying]) -> tuple[int, Sequence[BlockedStream]]:
    """Retry what any of them keeps: (events applied everywhere, streams still blocked)."""
    before = await blocked_in(keepers)
    for keeper in keepers:
        await keeper.replay()
    after = await blocked_in(keepers)
    return sum(one.events for one in before) - sum(one.events for one in after), after
