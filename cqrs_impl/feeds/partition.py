"""The feed of one partition: messages of a broker, and the outbox for whatever the broker has lost."""

from collections import deque
from typing import Any, NamedTuple

import msgspec

from contract.errors import WorkerError
from contract.position import Position, covers
from cqrs_impl.batch import uncovered
from cqrs_impl.checkpoint import AnotherHistory
from cqrs_impl.feeds.routes import Routes
from cqrs_impl.feeds.transport import READ_MAX, Delivered, Pack, Reader, decode
from cqrs_impl.part import Part
from cqrs_impl.ports import Batch, FeedOfLog, Heartbeat, RecordedEvent

AHEAD_MAX = 4000  # events, as many as a projector applies at once; who waits for one that comes later asks the log


class ForeignMessage(WorkerError):
    def __init__(self, part: Part, reason: str) -> None:
        super().__init__(
            f"Partition {part.number} of the broker gave a message that is none of ours ({reason}): somebody else"
            " publishes there; delete it, and what is lost with it is read from the outbox."
        )


class LogPart:
    """A `Feed`: the events of one partition, straight from the log."""

    def __init__(self, log: FeedOfLog, part: Part, *, once: bool = False) -> None:
        """`once`: without the events that are to be taken in another of the partitions that carry them."""
        self._log, self._part, self._routes, self._once = log, part, Routes(log, part.of), once
        self._counted: tuple[Position, int] | None = None  # how many events there are up to a position

    async def read(self, after: Position, limit: int) -> Batch:
        batch = await self._log.read(after, limit)
        if not batch.events:
            return batch
        counted = await self._count(after)
        events: list[RecordedEvent] = []
        for one in batch.events:
            counted += 1
            to, once = await self._routes.of(one)
            if self._part.number in ((once,) if self._once else to):
                events.append(one._replace(counted=counted))
        last = batch.events[-1].position
        if not events or events[-1].position != last:
            events.append(RecordedEvent(last, Heartbeat(), None, counted))
        self._counted = last, counted
        return Batch(events, batch.more_soon)

    async def _count(self, upto: Position) -> int:
        if self._counted and self._counted[0] == upto:
            return self._counted[1]
        return await self._log.count(upto)

    async def wait(self, timeout_s: float) -> None:
        await self._log.wait(timeout_s)

    async def close(self) -> None:
        await self._log.close()


class HeldMessage(NamedTuple):
    offset: Any
    pack: Pack
    events: list[RecordedEvent]


class PartitionFeed:
    """A `Feed` for a projector, whose position in the read store decides what a message is to it."""

    def __init__(self, reader: Reader, log: FeedOfLog, part: Part, *, once: bool = False) -> None:
        """`once`: as of `LogPart`, which gives what the broker has lost."""
        self._reader, self._log, self._part = reader, log, part
        self._of_log, self._once_in = LogPart(log, part, once=once), part.number if once else None
        self._held = deque[HeldMessage]()  # messages that are not known to be applied

    async def read(self, after: Position, limit: int) -> Batch:
        """What `after` covers has been applied, so that it is acknowledged now."""
        if limit > AHEAD_MAX:
            return (await self._of_log.read(after, limit))._replace(more_soon=True)
        full = True
        while full and sum(len(one.events) for one in self._held) < limit:
            delivered = await self._reader.read(READ_MAX)
            full = len(delivered) == READ_MAX
            taken = (self._taken(one) for one in delivered)
            self._held.extend(one for one in taken if one.pack.of == self._part.of)  # else it was left behind
            await self._acknowledge(after)
        if any(one.pack.history != after.history for one in self._held):
            await self._of_present(after)
        events, at = list[RecordedEvent](), after
        for one in self._held:
            if len(events) >= limit or not covers(at, Position(one.pack.after, at.history)):
                break
            events += uncovered(one.events, at)
            at = max(at, one.events[-1].position)
        if self._held and not events:
            return (await self._of_log.read(after, limit))._replace(more_soon=True)
        more_soon = full or len(events) > limit or len(events) < sum(len(one.events) for one in self._held)
        return Batch(events[:limit], more_soon)

    def _taken(self, delivered: Delivered) -> HeldMessage:
        try:
            pack = decode(delivered.body)
        except msgspec.DecodeError as error:
            raise ForeignMessage(self._part, str(error)) from None
        return HeldMessage(delivered.offset, pack, pack.recorded(self._once_in))

    async def _acknowledge(self, after: Position) -> None:
        """Drop what is covered."""
        applied: list[Any] = []
        while self._held:
            offset, pack, _ = self._held[0]
            if pack.history != after.history or not covers(after, Position(pack.upto, after.history)):
                break
            applied.append(offset)
            self._held.popleft()
        if applied:
            await self._reader.acknowledge(applied[-1])

    async def _of_present(self, after: Position) -> None:
        """Drop the messages of earlier histories: what is missing then is read from the log, which knows what of it
        still holds."""
        if after.history != (present := await self._log.present()):
            raise AnotherHistory
        self._held = deque(one for one in self._held if one.pack.history == present)

    async def wait(self, timeout_s: float) -> None:
        if not self._held:
            await self._reader.wait(timeout_s)

    async def close(self) -> None:
        self._held.clear()
        await self._reader.close()
        await self._log.close()
