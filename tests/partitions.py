"""A log, a transport and the parts of the views it feeds, moved step by step, and what can break in between."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from random import Random
from typing import Any

from contract.errors import StoreGone, Unavailable
from contract.messages import BaseEvent, Event
from contract.position import START, Position, covers
from cqrs_impl.documents.redis_client import RedisClient
from cqrs_impl.documents.redis_parts import PartDocuments, PartKeys, PartReads
from cqrs_impl.feeds.partition import PartitionFeed
from cqrs_impl.feeds.relay import Relay
from cqrs_impl.feeds.transport import Pack, Publisher, decode
from cqrs_impl.part import Part
from cqrs_impl.projector import Projector
from tests.documents import NoBacklog
from tests.service import PATIENCE_S
from tests.story import ListFeed, events, place

PARTS = 2
EVENTS = list(islice(events(Random(3), things=4), 60))


def of_pack(pack: Pack) -> list[Event]:
    return [one.event for one in pack.entries if isinstance(one.event, BaseEvent)]  # type: ignore[misc]


class Notes:
    """Those of a relay, in memory."""

    def __init__(self) -> None:
        self.noted: tuple[Position, int] | None = None

    async def read(self) -> tuple[Position, int] | None:
        return self.noted

    async def write(self, position: Position, counted: int, trouble: str | None = None) -> None:
        self.noted = position, counted


class World:
    """A log, a transport, a relay, and the parts of the views in a read store, moved step by step."""

    def __init__(self, suite: Any, log: ListFeed) -> None:
        self.suite, self.log, self.name = suite, log, suite.namespace()
        self.publisher, self.notes = suite.connected(suite.publisher(self.name)), Notes()
        self.relay = self.new_relay()
        self.projectors = [self.projector(number) for number in range(PARTS)]

    def new_relay(self, publisher: Any = None) -> Relay:
        return Relay(self.log, self.notes, publisher or self.publisher, PARTS, batch_max=5)  # type: ignore[arg-type]

    def projector(self, number: int, client: Any = None) -> Projector:
        part = Part(number, PARTS)
        feed = PartitionFeed(self.suite.connected(self.suite.reader(self.name, part)), self.log, part)
        documents = PartDocuments(client or self.suite.client(), PartKeys(self.name, part), self.log.present)
        return Projector(feed, self.log, documents, part=part, batch_max=7)

    async def publish(self, upto: int | None = None) -> None:
        """So many of the events, or all."""
        whole = self.log.events
        self.log.events = whole[:upto]
        while (await self.relay.step())[0]:
            pass
        self.log.events = whole

    async def project_some(self) -> None:
        for projector in self.projectors:
            await projector.step()

    async def project(self, *numbers: int) -> None:
        """Until these projectors, or all, have applied everything that the log holds."""
        for number in numbers or range(PARTS):
            projector = self.projectors[number]
            async with asyncio.timeout(PATIENCE_S):
                await self.step(projector)
                while (await projector.position()).components < place(len(self.log.events)).components:
                    await self.step(projector)

    async def step(self, projector: Projector) -> None:
        try:
            moved, more_soon = await projector.step()
            if not (moved or more_soon):
                await projector.feed.wait(0.05)
        except StoreGone:
            await projector.feed.close()

    async def go_on(self, projector: Projector) -> None:
        """Until it is interrupted: its messages may arrive a moment later."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await self.step(projector)

    async def messages(self, upto: int) -> list[list[Pack]]:
        """What a new reader of each partition is given, until one covers so many events."""
        given: list[list[Pack]] = [[] for _ in range(PARTS)]
        for number, messages in enumerate(given):
            reader = self.suite.reader(self.name, Part(number, PARTS))
            async with asyncio.timeout(PATIENCE_S):
                while not messages or messages[-1].upto < place(upto).components:
                    await reader.wait(0.05)
                    messages += (decode(one.body) for one in await reader.read(1000))
            await reader.close()
        return given

    def reads(self) -> PartReads:
        return PartReads(self.suite.client(), PartKeys(self.name, Part(0, PARTS)), NoBacklog())

    async def shown(self) -> Position | None:
        return (await self.reads().first("top", 1))[1]

    async def reached(self) -> Position:
        with suppress(Unavailable):  # nobody has begun yet
            return await self.shown() or START
        return START

    async def until(self, event: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not covers(await self.reached(), place(event)):  # what is read from the log may be more
                await asyncio.sleep(0.01)


class Dying:
    """A client whose user is ended after so many calls, the last of which was carried out."""

    def __init__(self, client: RedisClient, calls: int) -> None:
        self.client, self.left = client, calls

    def __getattr__(self, name: str) -> Any:
        async def called(*words: Any) -> Any:
            if self.left < 0:
                raise asyncio.CancelledError
            done = await getattr(self.client, name)(*words)
            self.left -= 1
            if self.left < 0:
                raise asyncio.CancelledError
            return done

        return called


class Half:
    """A publisher that dies in the middle."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher, self.broken = publisher, True

    async def publish(self, messages: Sequence[tuple[int, bytes]]) -> None:
        if self.broken:
            await self.publisher.publish(messages[: len(messages) // 2])
            raise StoreGone("The broker went away.")
        await self.publisher.publish(messages)

    async def close(self) -> None:
        await self.publisher.close()
