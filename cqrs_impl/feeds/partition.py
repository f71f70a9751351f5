"""The feed of one partition: messages of a broker, and the outbox for whatever the broker has lost."""

from collections import deque
from typing import Any

import msgspec

from contract.errors import WorkerError
from contract.position import Position, covers
from cqrs_impl.checkpoint import AnotherHistory
from cqrs_impl.feeds.routes import Routes
from cqrs_impl.feeds.transport import Message, Reader, decode
from cqrs_impl.part import Part
from cqrs_impl.ports import Batch, Feed, FeedOfLog, Heartbeat, RecordedEvent

AHEAD_MAX = 1000  # messages that a broker must give before some are acknowledged; who waits for more asks the log


class NotOurs(WorkerError):
    def __init__(self, part: Part, reason: str) -> None:
        super().__init__(
            f"Partition {part.number} of the broker gave a message that is none of ours ({reason}): somebody else"
            " publishes there; delete it, and what is lost with it is read from the outbox."
        )


class LogPart:
    """A `Feed`: the events of one partition, straight from the log."""

    def __init__(self, log: FeedOfLog, part: Part) -> None:
        self._log, self._part, self._routes = log, part, Routes(log, part.of)
        self._counted: tuple[Position, int] | None = None  # how many events there are up to a position

    async def read(self, after: Position, limit: int) -> Batch:
        batch = await self._log.read(after, limit)
        if not batch.events:
            return batch
        counted = await self._count(after)
        events: list[RecordedEvent] = []
        for one in batch.events:
            counted += 1
            if self._part.number in await self._routes.of(one):
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


class PartitionFeed:
    """A `Feed` for a projector, whose position in the read store decides what a message is to it."""

    def __init__(self, reader: Reader, log: FeedOfLog, part: Part, of_log: Feed | None = None) -> None:
        """`of_log` gives what the broker has lost, those events of the log that the partition carries."""
        self._reader, self._log, self._part = reader, log, part
        self._of_log = of_log or LogPart(log, part)
        self._messages = deque[tuple[Any, Message]]()  # by their offsets: those that are not known to be applied

    async def read(self, after: Position, limit: int) -> Batch:
        """What `after` covers has been applied, so that it is acknowledged now."""
        if limit > AHEAD_MAX:
            return (await self._of_log.read(after, limit))._replace(more_soon=True)
        while True:
            if (missing := limit - len(self._messages)) > 0:
                delivered = await self._reader.read(missing)
                self._messages.extend((offset, self._decoded(body)) for offset, body in delivered)
            if not await self._acknowledge(after):
                break
        if any(message.history != after.history for _, message in self._messages):
            await self._of_present(after)
        events, at = list[RecordedEvent](), after
        for _, message in self._messages:
            if not covers(at, Position(message.after, at.history)):
                break
            if not covers(at, (next := message.recorded()).position) and len(events) < limit:
                events.append(next)
                at = next.position
        if self._messages and not events:
            return (await self._of_log.read(after, limit))._replace(more_soon=True)
        return Batch(events, more_soon=len(events) == limit or len(events) < len(self._messages))

    def _decoded(self, body: bytes) -> Message:
        try:
            return decode(body)
        except msgspec.DecodeError as error:
            raise NotOurs(self._part, str(error)) from None

    async def _acknowledge(self, after: Position) -> bool:
        """Drop what is covered; whether there was any."""
        applied: list[Any] = []
        while self._messages:
            offset, message = self._messages[0]
            if message.history != after.history or not covers(after, Position(message.upto, after.history)):
                break
            applied.append(offset)
            self._messages.popleft()
        if applied:
            await self._reader.acknowledge(applied[-1])
        return bool(applied)

    async def _of_present(self, after: Position) -> None:
        """Drop the messages of earlier histories: what is missing then is read from the log, which knows what of it
        still holds."""
        if after.history != (present := await self._log.present()):
            raise AnotherHistory
        self._messages = deque(one for one in self._messages if one[1].history == present)

    async def wait(self, timeout_s: float) -> None:
        if not self._messages:
            await self._reader.wait(timeout_s)

    async def close(self) -> None:
        self._messages.clear()
        await self._reader.close()
        await self._log.close()
