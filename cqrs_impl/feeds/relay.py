"""The relay: a process that publishes the events of the outbox to a broker, after they are committed.

No command talks to the broker: it could publish what is then rolled back, or commit what is then never published. The
relay moves its position only when the broker has confirmed, so that no event is left out; it notes the position in the
outbox's database at most every second, so that after a kill some are published again, which changes nothing.

Each batch ends in every partition with the same position, by an entry without an event where it has none: a partition
without events must say so, as an answer claims no more than every partition has reached.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from operator import attrgetter
from time import monotonic

from contract.errors import StoreGone
from contract.position import BEGINNING, Components, Position, position_of, token_of
from cqrs_impl.batch import uncovered
from cqrs_impl.checkpoint import AnotherHistory
from cqrs_impl.feeds.outbox.recorder import OutboxBacklog
from cqrs_impl.feeds.routes import Routes
from cqrs_impl.feeds.transport import PackEntry, Publisher, encode, packed
from cqrs_impl.ports import FeedOfLog, Heartbeat, RecordedEvent, Unshown
from cqrs_impl.steps import repeat
from crud_impl.connections import Database, Rows

BATCH_MAX = 500
HEARTBEAT_S = 1.0  # also how long an idle partition does not notice that its broker has lost something
NOTE_S = 1.0

RELAYS = """
CREATE TABLE IF NOT EXISTS outbox_relays (
    relay text PRIMARY KEY,           -- the transport, and how many partitions it has
    position text NOT NULL,           -- confirmed by the broker
    counted bigint NOT NULL,          -- events up to there
    trouble text                      -- what keeps the relay from going on
);
"""
NOTED = "SELECT position, counted FROM outbox_relays WHERE relay = %(relay)s"
TROUBLE = "SELECT trouble FROM outbox_relays WHERE relay = %(relay)s"
NOTE = """
INSERT INTO outbox_relays VALUES (%(relay)s, %(position)s, %(counted)s, %(trouble)s)
ON CONFLICT (relay) DO UPDATE
SET position = excluded.position, counted = excluded.counted, trouble = excluded.trouble"""


class Notes:
    """How far a relay has come, beside the outbox. An old note is as good as a new one, but for the work."""

    def __init__(self, database: Database, relay: str) -> None:
        self._database, self._relay = database, relay

    async def read(self) -> tuple[Position, int] | None:
        for position, counted in await self._database.rows(NOTED, {"relay": self._relay}):
            return position_of(position), counted
        return None

    async def write(self, position: Position, counted: int, trouble: str | None = None) -> None:
        noted = {"relay": self._relay, "position": token_of(position), "counted": counted, "trouble": trouble}
        await self._database.transact(lambda transaction: transaction.send(NOTE, **noted))

    async def close(self) -> None:
        await self._database.close()


class RelayedBacklog(OutboxBacklog):
    """It may grow because the relay cannot go on, which only the relay knows."""

    def __init__(self, rows: Rows, relay: str) -> None:
        super().__init__(rows)
        self._ask, self._relay = rows, relay

    async def trouble(self) -> str | None:
        for (trouble,) in await self._ask(TROUBLE, {"relay": self._relay}):
            return None if trouble is None else str(trouble)
        return None


class Relay:
    name = "relay"

    def __init__(
        self,
        log: FeedOfLog,
        notes: Notes,
        publisher: Publisher,
        partitions: int,
        *,
        batch_max: int = BATCH_MAX,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._log, self._notes, self._publisher = log, notes, publisher
        self._sleep, self._clock = sleep, clock
        self._partitions, self._routes = partitions, Routes(log, partitions)
        self._batch_max = batch_max
        self._at: tuple[Position, int] | None = None  # confirmed, and the events up to there
        self._noted: tuple[Position, int] | None = None
        self._trouble: str | None = None  # as it is noted
        self._published_s = self._noted_s = 0.0

    def feed_through(self, wrap: Callable[[FeedOfLog], FeedOfLog]) -> None:
        """For a faulty feed in torture."""
        self._log = wrap(self._log)

    async def run(self) -> None:
        await repeat(self.step, lambda: self._log.wait(HEARTBEAT_S), self._gone, sleep=self._sleep)

    async def _gone(self, gone: StoreGone) -> None:
        with suppress(StoreGone):
            await self._note(gone.reason or gone.detail)
        await self._log.close()
        await self._publisher.close()

    async def close(self) -> None:
        for connected in (self._log, self._publisher, self._notes):
            await connected.close()

    async def step(self) -> tuple[bool, bool]:
        """One batch: (whether the position moved, whether more is on its way)."""
        try:
            at, counted = self._at = self._at or await self._begin()
            batch = await self._log.read(at, self._batch_max)
            news = sorted(uncovered(batch.events, at), key=attrgetter("position"))
            messages = await self._messages(at, counted, news)
        except AnotherHistory:
            self._at = None
            return True, True
        if messages:
            await self._publisher.publish(messages)
            self._published_s = self._clock()
        if news:
            self._at = news[-1].position, counted + len(news)
        await self._note()
        return bool(news), batch.more_soon

    async def _begin(self) -> tuple[Position, int]:
        """Where the broker has confirmed everything before, as far as that is noted and still of this history."""
        if noted := await self._notes.read():
            position, counted = noted
            with suppress(AnotherHistory):
                return position._replace(history=await self._log.history(position, counted)), counted
        return Position(BEGINNING, await self._log.present()), 0

    async def _messages(self, at: Position, counted: int, news: Sequence[RecordedEvent]) -> Sequence[tuple[int, bytes]]:
        entries: list[list[tuple[Components, bytes]]] = [[] for _ in range(self._partitions)]
        for one in news:
            counted += 1
            assert not isinstance(one.event, Heartbeat | Unshown), "the outbox holds events of views"
            upto = one.position.components
            to, once = await self._routes.of(one)
            entry = upto, encode(PackEntry(upto, counted, one.recorded_s, one.event, once))
            for partition in to:
                entries[partition].append(entry)
        idle = not news and self._clock() >= self._published_s + HEARTBEAT_S
        if news or idle:
            end = news[-1].position.components if news else at.components
            nothing = end, encode(PackEntry(end, counted))
            for of_one in entries:
                if not of_one or of_one[-1][0] != end:
                    of_one.append(nothing)
        return [
            (partition, message)
            for partition, of_one in enumerate(entries)
            for message in packed(at.history, self._partitions, at.components, of_one)
        ]

    async def _note(self, trouble: str | None = None) -> None:
        due = self._at != self._noted and self._clock() >= self._noted_s + NOTE_S
        if self._at is not None and (due or trouble != self._trouble):
            await self._notes.write(*self._at, trouble)
            self._noted, self._noted_s, self._trouble = self._at, self._clock(), trouble
