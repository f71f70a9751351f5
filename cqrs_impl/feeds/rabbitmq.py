"""The transport over RabbitMQ: a partition is a quorum queue.

The publisher's confirmation is that of a majority of the queue's nodes, which have written it to disk. A queue has one
active consumer, so that order holds. To acknowledge is to delete, and a message whose reader is gone is given again.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, ChannelPreconditionFailed
from yarl import URL

from contract.errors import WorkerError
from contract.stores import gone
from cqrs_impl.feeds.transport import AWAY, Delivered

CONFIRM_S = 5.0
HEARTBEAT_S = 2  # a reader that says nothing for twice as long has lost its partition
PREFETCH = 50
LOST = (AMQPError, OSError, RuntimeError, StopAsyncIteration)  # the last where a connection is cut while it is opened
QUEUE: dict[str, Any] = {"x-queue-type": "quorum", "x-single-active-consumer": True}


def queue_of(namespace: str, partition: int) -> str:
    return f"{namespace}.{partition}"


class NotOurs(WorkerError):
    def __init__(self, queue: str, reason: str) -> None:
        super().__init__(f"RabbitMQ's queue {queue} is not one of ours ({reason}): delete it, or give another server.")


@contextmanager
def away() -> Iterator[None]:
    try:
        yield
    except LOST as error:
        raise gone(AWAY, str(error) or type(error).__name__) from error


class Session:
    """A connection and a channel of it, opened at first use."""

    def __init__(self, url: str, queues: Sequence[str]) -> None:
        self._url, self._queues = url, queues
        self._connection: AbstractConnection | None = None
        self.channel: AbstractChannel | None = None

    async def opened(self) -> AbstractChannel:
        if self.channel is None or self.channel.is_closed:
            await self.close()
            async with asyncio.timeout(CONFIRM_S):
                self._connection = await aio_pika.connect(URL(self._url).update_query(heartbeat=HEARTBEAT_S))
                channel = await self._connection.channel(on_return_raises=True)
                for queue in self._queues:  # a broker that came back empty has lost them
                    await declare(channel, queue)
            self.channel = channel
        return self.channel

    async def close(self) -> None:
        connection, self._connection, self.channel = self._connection, None, None
        if connection is not None:
            with suppress(*LOST):
                await connection.close()


async def declare(channel: AbstractChannel, queue: str) -> None:
    try:
        await channel.declare_queue(queue, durable=True, arguments=QUEUE)
    except ChannelPreconditionFailed as error:
        raise NotOurs(queue, str(error)) from None


async def create(url: str, namespace: str, partitions: int) -> None:
    """Repeatable. Queues of another number of partitions, whose messages are spread in another way, are deleted."""
    session = Session(url, ())
    try:
        there = 0
        with suppress(ChannelNotFoundEntity):
            while True:
                await (await session.opened()).declare_queue(queue_of(namespace, there), passive=True)
                there += 1
        channel = await session.opened()
        for number in range(there if there != partitions else 0):
            await channel.queue_delete(queue_of(namespace, number))
        for number in range(partitions):
            await declare(channel, queue_of(namespace, number))
    finally:
        await session.close()


class RabbitPublisher:
    def __init__(self, url: str, namespace: str, partitions: int) -> None:
        self._queues = [queue_of(namespace, partition) for partition in range(partitions)]
        self._session = Session(url, self._queues)

    async def publish(self, messages: Sequence[tuple[int, bytes]]) -> None:
        of_queue = defaultdict[str, list[bytes]](list)
        for partition, body in messages:
            of_queue[self._queues[partition]].append(body)
        with away():
            channel = await self._session.opened()
            async with asyncio.timeout(CONFIRM_S):
                await asyncio.gather(*(self._append(channel, queue, bodies) for queue, bodies in of_queue.items()))

    async def _append(self, channel: AbstractChannel, queue: str, bodies: Sequence[bytes]) -> None:
        for body in bodies:  # one after the other is confirmed, in this order
            await channel.default_exchange.publish(aio_pika.Message(body, delivery_mode=2), queue)

    async def close(self) -> None:
        await self._session.close()


class RabbitReader:
    def __init__(self, url: str, queue: str) -> None:
        self._queue, self._session = queue, Session(url, [queue])
        self._reading: AbstractChannel | None = None
        self._waiting = deque[Delivered]()
        self._news = asyncio.Event()

    async def read(self, limit: int) -> Sequence[Delivered]:
        await self._opened()
        return [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]

    async def wait(self, timeout_s: float) -> None:
        await self._opened()
        if not self._waiting:
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), timeout_s)

    async def acknowledge(self, offset: Any) -> None:
        channel = await self._opened()
        with away():
            await (await channel.get_underlay_channel()).basic_ack(offset, multiple=True)

    async def close(self) -> None:
        self._reading = None
        self._waiting.clear()
        await self._session.close()

    async def _opened(self) -> AbstractChannel:
        with away():
            if self._reading is not None and self._reading.is_closed:
                raise ConnectionResetError("the connection was lost")
            if self._reading is None:
                channel = await self._session.opened()
                channel.close_callbacks.add(lambda *_: self._news.set())
                await channel.set_qos(prefetch_count=PREFETCH)
                await (await channel.get_queue(self._queue, ensure=False)).consume(self._take)
                self._reading = channel
        return self._reading

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self._waiting.append(Delivered(message.delivery_tag, message.body))
        self._news.set()
