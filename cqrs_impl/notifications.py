"""A second consumer of the events: a service that would notify customers of their orders, and only counts.

It stands for whatever else wants to know what happened, so that the price of one more reader can be measured. Its
position is stored with its counts, in one transaction, as a projector's is with the views: each event counts once.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from contract.errors import StoreGone
from contract.messages import OfOrder
from contract.position import BEGINNING, Position, position_of, token_of
from contract.tasks import end
from cqrs_impl.batch import uncovered
from cqrs_impl.checkpoint import AnotherHistory
from cqrs_impl.documents.redis_client import RedisClient
from cqrs_impl.ports import EventLog, Feed
from cqrs_impl.steps import repeat

NAME = "notifications"
BATCH_MAX = 500
IDLE_WAIT_S = 1.0

_decode = msgspec.json.Decoder(dict[str, int]).decode


class Counted(NamedTuple):
    position: Position
    orders: Mapping[str, int]  # by what happened to them


class Counts(Protocol):
    """Raises `StoreGone` if the store cannot be reached."""

    async def open(self) -> Counted | None:
        """None where nothing was counted yet. The next `write` fails if another process writes in between."""

    async def write(self, counted: Counted) -> bool: ...
    async def close(self) -> None: ...


class Notifications:
    name = NAME

    def __init__(self, feed: Feed, log: EventLog, counts: Counts) -> None:
        self._feed, self._log, self._counts = feed, log, counts

    async def run(self) -> None:
        await repeat(self.step, lambda: self._feed.wait(IDLE_WAIT_S), self._gone)

    async def _gone(self, _: StoreGone) -> None:
        await self._feed.close()

    async def step(self) -> tuple[bool, bool]:
        """One batch: (whether there were events, whether more is on its way)."""
        at, orders = await self._counts.open() or await self._nothing()
        try:
            batch = await self._feed.read(at, BATCH_MAX)
        except AnotherHistory:
            await self._counts.write(await self._followed(Counted(at, orders)))
            return True, True
        news = uncovered(batch.events, at)
        if news:
            happened = Counter(type(one.event).__name__ for one in news if isinstance(one.event, OfOrder))
            reached = max(one.position for one in news)
            await self._counts.write(Counted(reached, Counter(orders) + happened))
        return bool(news), batch.more_soon

    async def _nothing(self) -> Counted:
        return Counted(Position(BEGINNING, await self._log.present()), {})

    async def _followed(self, counted: Counted) -> Counted:
        """The same in the present history; where the log lost events, it is counted anew."""
        try:
            history = await self._log.history(counted.position)
        except AnotherHistory:
            return await self._nothing()
        return counted._replace(position=counted.position._replace(history=history))

    async def close(self) -> None:
        await self._feed.close()
        await self._counts.close()


class NotificationsOfParts:
    """One for each partition of a broker: an event is counted in one of those that carry it."""

    name = NAME

    def __init__(self, parts: Sequence[Notifications]) -> None:
        self._parts = parts

    async def run(self) -> None:
        running = [asyncio.ensure_future(part.run()) for part in self._parts]
        try:
            await asyncio.gather(*running)
        finally:
            await end(running)

    async def close(self) -> None:
        for part in self._parts:
            await part.close()


class RedisCounts:
    """Needs a client of its own, because all users of a client share its watched key."""

    def __init__(self, client: RedisClient, namespace: str) -> None:
        self._client, self._key = client, f"{namespace}:{NAME}"

    async def open(self) -> Counted | None:
        (found,) = await self._client.watch(self._key, ("GET", self._key))
        if found is None:
            return None
        position, _, orders = found.partition(b" ")
        return Counted(position_of(position.decode()), _decode(orders))

    async def write(self, counted: Counted) -> bool:
        text = token_of(counted.position).encode() + b" " + msgspec.json.encode(counted.orders)
        return await self._client.write(("SET", self._key, text))

    async def close(self) -> None:
        await self._client.close()
