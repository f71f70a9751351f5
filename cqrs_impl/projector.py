"""Feed to views: the only code that knows both. A process of its own."""

import asyncio
from collections.abc import Callable, Sequence

import psycopg
import redis.exceptions as redis_errors

from contract.position import Position
from cqrs_impl.carry.outbox_feed import OutboxFeed
from cqrs_impl.ports import Parked, Views

BATCH_MAX = 500
WINDOW_MAX = 64_000  # how far it looks for what a waiting event waits for
IDLE_WAIT_S = 1.0  # a notification comes sooner; this is for one that was lost
SOON_WAIT_S = (0.001, 0.05)  # for events that are committed, but not yet the next ones

STORE_GONE = (
    psycopg.OperationalError,
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.OutOfMemoryError,  # it does not evict, so it may refuse
)


class Projector:
    name = "projector"

    def __init__(self, feed: OutboxFeed, views: Views) -> None:
        self._feed, self._views = feed, views
        self._at: Position | None = None  # of the views, as far as is known here: they know better, and correct it
        self._limit = BATCH_MAX

    async def run(self) -> None:
        pause_s, gone_s = SOON_WAIT_S[0], 0.02
        while True:
            try:
                moved, more_soon = await self.step()
                gone_s = 0.02
                if not more_soon:
                    await self._feed.wait(IDLE_WAIT_S)
                elif not moved:
                    await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, SOON_WAIT_S[1]) if more_soon and not moved else SOON_WAIT_S[0]
            except STORE_GONE:
                await self._feed.disconnect()
                await asyncio.sleep(gone_s)
                gone_s = min(gone_s * 2, 0.5)

    async def step(self) -> tuple[bool, bool]:
        """One batch: (whether the position moved, whether more is on its way)."""
        if self._at is None:
            self._at = await self._views.position()
        before = self._at
        batch = await self._feed.read(before, self._limit)
        if not batch.events:
            self._at = await self._views.position()  # an emptied store is noticed also when nothing happens
            return self._at != before, self._at != before or batch.more_soon
        self._at = reached = await self._views.apply(before, batch.events)
        waiting = reached < batch.events[-1].position
        # What the first event waits for may lie behind the window: look further until it is found.
        self._limit = min(self._limit * 2, WINDOW_MAX) if waiting and reached == before else BATCH_MAX
        return reached != before, waiting or batch.more_soon

    async def rebuild(self, progress: Callable[[int, int], None]) -> None:
        """Clear the views and replay everything that is settled now."""
        await self._views.clear()
        total, done, limit = await self._feed.count(), 0, BATCH_MAX
        while True:
            before = await self._views.position()
            batch = await self._feed.read(before, limit)
            if not batch.events:
                return
            moved = await self._views.apply(before, batch.events) != before
            limit = BATCH_MAX if moved else min(limit * 2, WINDOW_MAX)
            done += len(batch.events)
            progress(min(done, total), total)

    async def parked(self) -> Sequence[Parked]:
        return (await self._views.parked())[0]

    async def replay(self) -> tuple[int, Sequence[Parked]]:
        """Try every parked stream again, and those that waited for it: (events applied, what is parked still)."""
        applied = 0
        while True:
            healed = [await self._replay(one.stream) for one in await self.parked()]
            applied += sum(healed)
            if not any(healed):
                return applied, await self.parked()

    async def _replay(self, stream: str) -> int:
        """One stream, on its own: a projector that is at work moves the views in between, and is let through."""
        while True:
            parked, at = await self._views.parked()
            one = next((one for one in parked if one.stream == stream), None)
            if one is None:
                return 0
            applied = await self._views.replay(stream, await self._feed.parked(one, at), at)
            if applied is not None:
                return applied
