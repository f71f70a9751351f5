"""The projector: a process that applies the events of a feed to documents. It depends on no store and no driver."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from contract.errors import StoreGone
from contract.http.metrics import Histogram
from contract.position import Position, covers
from cqrs_impl.batch import Apply, EventBatch, StagedDocuments, uncovered
from cqrs_impl.checkpoint import AnotherHistory, Checkpoint
from cqrs_impl.dead_letters import BlockedStream, DeadLetters, Retries
from cqrs_impl.next_version import leads_to_present
from cqrs_impl.part import WHOLE, Part
from cqrs_impl.ports import Changes, Contents, DocumentStore, EventLog, Feed, RecordedEvent
from cqrs_impl.slips import apply_in
from cqrs_impl.steps import repeat

BATCH_MAX = 500
FAR = 8  # times as many for a projector that is far behind; whoever reads then waits for the end of a write of 50 ms
BULK = 20  # times as many where nobody reads
BESIDE = 25  # events a batch beside those that answer, whose readers wait for the end of each write: about 0.2 ms
READ_S_MAX = 2.0  # whoever began to read the old version has its answer by then, or has given up
WINDOW_MAX = 64_000  # events read ahead at most, to find one that a waiting event needs
COPIES_MAX = 50_000
IDLE_WAIT_S = 1.0  # normally a notification comes sooner; one may be lost

AT_ONCE = partial(asyncio.gather, return_exceptions=True)  # no part goes on after another has failed
_encode = msgspec.json.Encoder().encode


class Projector:
    name = "projector"

    def __init__(
        self,
        feed: Feed,
        log: EventLog,
        store: DocumentStore,
        *,
        part: Part = WHOLE,
        apply: Apply | None = None,
        batch_max: int = BATCH_MAX,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        both: Callable[..., Awaitable[Sequence[Any]]] = AT_ONCE,
    ) -> None:
        """`part` is that of the views which the events of the feed build; all of them if left out."""
        self.feed, self.log, self._store = feed, log, store
        self._part, self._apply = part, apply or apply_in(part)
        self._batch_max, self._sleep, self._both = batch_max, sleep, both
        self._at: Position | None = None  # last known position of the store, which may have moved
        self._history: str | None = None  # the present one, as far as we know
        self._adopted: Checkpoint | None = None  # of an earlier history that leads to it
        self._own: Checkpoint | None = None  # the last of the store that was ours
        self._limit = batch_max
        self._copies: dict[str, Any] = {}  # cached documents, valid until somebody else writes
        self._copies_at: Checkpoint | None = None
        self._retries = Retries()
        self._ages = Histogram("applied")  # of events when applied; stored with the next write

    def feed_through(self, wrap: Callable[[Feed], Feed]) -> None:
        """For a faulty feed in torture."""
        self.feed = wrap(self.feed)

    async def run(self) -> None:
        await repeat(self.step, lambda: self.feed.wait(IDLE_WAIT_S), self._gone, sleep=self._sleep)

    async def _gone(self, _: StoreGone) -> None:
        self._set_pace(far_behind=False)  # so much may have taken too long
        await self.feed.close()

    async def step(self) -> tuple[bool, bool]:
        """One batch: (whether the position moved, whether more is on its way)."""
        try:
            if self._at is None:
                self._at = await self.position()
            return await self._step(self._at)
        except AnotherHistory:
            await self._begin_anew()
            return True, True

    async def _step(self, before: Position) -> tuple[bool, bool]:
        batch = await self.feed.read(before, self._limit)
        if not batch.events:
            self._set_pace(far_behind=False)
            self._at = await self.position()  # notices an emptied store even without new events
            return self._at != before, self._at != before or batch.more_soon
        self._at = reached = await self._project(before, batch.events)
        waiting = not covers(reached, batch.events[-1].position)
        if waiting and reached == before:  # what the first event waits for may be beyond the window
            self._limit = min(self._limit * 2, WINDOW_MAX)
        else:
            self._set_pace(far_behind=len(batch.events) >= self._limit)
        return reached != before, waiting or batch.more_soon

    def _set_pace(self, *, far_behind: bool) -> None:
        """Far behind it takes more events at a time and collects no garbage, as in a rebuild."""
        if far_behind:
            gc.disable()
            self._limit = min(self._limit * 2, FAR * self._batch_max)
        else:
            gc.enable()
            self._limit = self._batch_max

    async def _begin_anew(self) -> None:
        """After the feed or the store turned out to be of another history. If the store's checkpoint leads to the
        present one, the server was only restarted. Otherwise the store is emptied: it, or the database, was replaced.
        If our own last position still holds, it was the store, by somebody who uses it: `AnotherHistory` ends us."""
        self._history = self._adopted = self._at = None
        try:
            self._at = await self.position()
        except AnotherHistory:
            if self._own is not None and await leads_to_present(self.log, self._own):
                raise
            await self._store.clear()

    async def position(self) -> Position:
        return (await self._contents()).checkpoint.position

    async def _contents(self) -> Contents:
        """What the store holds, its position one of the present history; `AnotherHistory` if it does not lead there."""
        checkpoint, letters = await self._store.open()
        if checkpoint.position.history != self._history and checkpoint != self._adopted:
            self._history = await self.log.history(checkpoint.position, checkpoint.counted)
            self._adopted = checkpoint
        self._own = checkpoint
        return Contents(checkpoint.of_history(self._history or ""), letters)

    async def rebuild(self, progress: Callable[[int, int], None]) -> int:
        """Clear the store and replay all settled events; returns how many were read."""
        await self._store.clear()
        return await self.read_all(progress)

    async def read_all(self, progress: Callable[[int, int], None]) -> int:
        """Apply all settled events that follow; returns how many were read."""
        gc.disable()  # it would look for cycles in events and documents, which have none: a tenth of the time
        try:
            return await self._read_all(await self.log.count(), 0, progress)
        finally:
            gc.enable()

    async def rebuild_live(self, progress: Callable[[int, int], None]) -> int:
        """Replay all events into the next version of the documents, while a projector keeps up the present one, and
        let it answer. One that was interrupted goes on from its checkpoint. Returns how many events it shows."""
        await self.log.reserve()
        version = self._store.beside(self.log)
        builder = Projector(
            self.feed,
            self.log,
            version,
            part=self._part,
            apply=self._apply,
            batch_max=self._batch_max,
            sleep=self._sleep,
            both=self._both,
        )
        done = await version.begin()
        total = await self.log.count()
        while True:
            done = await builder._read_all(total, done, progress, beside=True)
            if await version.switch():
                break
        await self._sleep(READ_S_MAX)
        await version.drop()
        return done

    async def _read_all(
        self, total: int, done: int, progress: Callable[[int, int], None], *, beside: bool = False
    ) -> int:
        """All settled events that follow; `done` were read before. While a batch is written the next one is read.
        Beside a service, half of the time is left to others, and what few events come meanwhile are left too: under
        commands there is no end of them."""
        most = limit = BESIDE if beside else BULK * self._batch_max
        at = await self.position()
        batch = await self.feed.read(at, limit)
        while batch.events:
            begun = time.monotonic()
            last = batch.events[-1].position
            reached, following = await self._both(self._project(at, batch.events), self.feed.read(last, most))
            for failed in (reached, following):
                if isinstance(failed, BaseException):
                    raise failed
            done += sum(covers(reached, one.position) for one in batch.events)  # who waits is read again
            progress(min(done, total), total)
            if reached == last:
                at, batch, limit = last, following, most
                if beside and len(batch.events) < most:
                    break
            else:  # some wait for others, or the store was emptied
                limit = most if reached != at else min(limit * 2, WINDOW_MAX)
                at = await self.position()
                batch = await self.feed.read(at, limit)
            if beside:
                await self._sleep(time.monotonic() - begun)
        return done

    async def close(self) -> None:
        await self.feed.close()
        await self._store.close()

    async def blocked_streams(self) -> Sequence[BlockedStream]:
        """The blocked streams in the order of their first waiting events."""
        letters = DeadLetters((await self._contents()).dead_letters)
        return sorted(letters.streams.values(), key=lambda blocked: blocked.before)

    async def replay(self) -> tuple[int, Sequence[BlockedStream]]:
        """Retry every blocked stream, then those that waited for it: (events applied, streams still blocked)."""
        applied = 0
        while True:
            healed = [await self._replay(blocked.stream) for blocked in await self.blocked_streams()]
            applied += sum(healed)
            if not any(healed):
                return applied, await self.blocked_streams()

    async def _project(self, after: Position, events: Sequence[RecordedEvent]) -> Position:
        """Apply what can be applied of the events that follow `after`. Returns the position reached, which is before
        the first event that must wait or be retried."""
        while True:
            checkpoint, letters = await self._opened()
            at = checkpoint.position
            if at.history != after.history or not covers(at, after):
                return at  # the store was emptied meanwhile: events before these must be applied first
            news = uncovered(events, at)
            batch = EventBatch(self._staged(), letters, self._retries, self._apply)
            reached = await batch.run(news, at)
            if not batch.documents.documents and not letters.changed and reached == at:
                return reached
            done = [one for one in news if covers(reached, one.position)]
            if await self._write(batch, checkpoint, reached, _counted(checkpoint, done)):
                now_s = time.time()
                for one in done:
                    if one.recorded_s is not None:
                        self._ages.observe(0, max(0.0, now_s - one.recorded_s))
                return reached

    async def _replay(self, stream: str) -> int:
        """Replay one stream. If a running projector writes meanwhile, start again from its result."""
        while True:
            at, text = await self._contents()
            blocked = DeadLetters(text).streams.get(stream)
            if blocked is None:
                return 0
            events = await self.log.stream(stream, blocked.version, at.position)
            checkpoint, letters = await self._opened()
            if checkpoint != at:
                continue
            letters.release(stream)
            batch = EventBatch(self._staged(), letters, None, self._apply)
            await batch.run(events, blocked.before)
            if await self._write(batch, checkpoint, at.position, at.counted):
                return len(events) - (letters.streams[stream].events if stream in letters.streams else 0)

    async def _opened(self) -> tuple[Checkpoint, DeadLetters]:
        checkpoint, text = await self._contents()
        if checkpoint != self._copies_at or len(self._copies) > COPIES_MAX:
            self._copies = {}
        self._copies_at = None  # until our write succeeds, the copies may be outdated
        return checkpoint, DeadLetters(text)

    def _staged(self) -> StagedDocuments:
        return StagedDocuments(self._store, self._copies, self._part)

    async def _write(self, batch: EventBatch, at: Checkpoint, reached: Position, counted: int) -> bool:
        letters, documents = batch.letters, batch.documents.documents
        after = Checkpoint(letters.low_water(reached), reached, at.writes + 1, counted, at.version)
        ages = _encode((self._ages.counts, self._ages.seconds))
        dead = letters.text if letters.changed else None
        if not await self._store.write(after, Changes(documents, batch.documents.lists(), dead, ages)):
            return False
        self._copies |= documents
        self._copies_at = self._own = after
        return True


def _counted(at: Checkpoint, done: Sequence[RecordedEvent]) -> int:
    """How many events of the log are covered now: as the feed says, or those before and those that were done."""
    given = [one.counted for one in done if one.counted is not None]
    return max(given) if given else at.counted + len({one.position for one in done})
