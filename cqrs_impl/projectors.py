"""Several projector processes share the parts of the views; when one comes or goes, the others take over its parts.

Each tells the read store once a second that it is there, and takes every n-th part of the sorted list of those that
are. Nobody grants a part: for a moment two can own one, or nobody. That costs work, but nothing is applied twice, since
a part's checkpoint is written by compare-and-set, and nothing is left out, since whoever takes a part over goes on from
its checkpoint.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Protocol

from contract.errors import StoreGone
from contract.position import Position
from contract.tasks import end
from cqrs_impl.dead_letters import BlockedStream, blocked_in, replay_in
from cqrs_impl.part import Part
from cqrs_impl.ports import Feed, FeedOfLog
from cqrs_impl.projector import Projector

BEAT_S = 1.0
ALIVE_S = 3.0  # without a beat for so long, one is gone
AGAIN_S = 0.1


class Members(Protocol):
    """Raises `StoreGone` if the read store cannot be reached."""

    async def beat(self, name: str, alive_s: float) -> Sequence[str]:
        """Say that this one is there, and return the sorted names of all that have said so lately."""

    async def leave(self, name: str) -> None: ...
    async def close(self) -> None: ...


class Projectors:
    def __init__(
        self, name: str, log: FeedOfLog, parts: int, members: Members, build: Callable[[Part, bool], Projector]
    ) -> None:
        """`build` makes the projector of a part, which reads from the broker, or straight from the log if told so."""
        self.name, self.log, self._members, self._build = name, log, members, build
        self._parts = [Part(number, parts) for number in range(parts)]
        self._wrap: Callable[[Feed], Feed] = lambda feed: feed
        self._running: dict[Part, tuple[Projector, asyncio.Task[None]]] = {}

    def feed_through(self, wrap: Callable[[Feed], Feed]) -> None:
        """For a faulty feed in torture."""
        self._wrap = wrap

    async def run(self) -> None:
        try:
            while True:
                pause_s = BEAT_S
                try:
                    await self._share(await self._members.beat(self.name, ALIVE_S))
                except StoreGone:  # each goes on with what it has
                    await self._members.close()
                    pause_s = AGAIN_S
                await self._watch(pause_s)
        finally:
            await self._end(list(self._running))
            with suppress(StoreGone):
                await self._members.leave(self.name)
            await self._members.close()

    async def _share(self, members: Sequence[str]) -> None:
        mine = [part for part in self._parts if members[part.number % len(members)] == self.name]
        await self._end([part for part in self._running if part not in mine])
        for part in mine:
            if part not in self._running:
                projector = self._build(part, False)
                projector.feed_through(self._wrap)
                self._running[part] = projector, asyncio.ensure_future(projector.run())

    async def _watch(self, pause_s: float) -> None:
        """Until the next beat, or the end of a projector, which raises what it raised."""
        if not self._running:
            return await asyncio.sleep(pause_s)
        tasks = [task for _, task in self._running.values()]
        done, _ = await asyncio.wait(tasks, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _end(self, parts: Sequence[Part]) -> None:
        ending = [self._running.pop(part) for part in parts]
        try:
            await end([task for _, task in ending])
        finally:
            for projector, _ in ending:
                await projector.close()

    # Of all parts, one after the other

    async def rebuild(self, progress: Callable[[int, int], None]) -> tuple[int, Position]:
        """Clear the store and replay all settled events into each part; returns how many were read, heartbeats
        included, and the position that all parts have reached."""
        done, reached = 0, list[Position]()
        for part in self._parts:
            async with self._built(part, from_log=True) as projector:
                done += await (projector.read_all(progress) if part.number else projector.rebuild(progress))
                reached.append(await projector.position())
        return done, min(reached)

    async def blocked_streams(self) -> Sequence[BlockedStream]:
        async with self._all() as projectors:
            return await blocked_in(projectors)

    async def replay(self) -> tuple[int, Sequence[BlockedStream]]:
        """Retry every blocked stream of every part: (events applied, streams still blocked)."""
        async with self._all() as projectors:
            return await replay_in(projectors)

    async def close(self) -> None:
        await self.log.close()
        await self._members.close()

    @asynccontextmanager
    async def _all(self) -> AsyncIterator[Sequence[Projector]]:
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self._built(part)) for part in self._parts]

    @asynccontextmanager
    async def _built(self, part: Part, *, from_log: bool = False) -> AsyncIterator[Projector]:
        projector = self._build(part, from_log)
        try:
            yield projector
        finally:
            await projector.close()
