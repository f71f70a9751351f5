"""The transport over RabbitMQ: a partition is a key of an exchange, and each purpose has a quorum queue bound to it.

The publisher's confirmation is that of a majority of the nodes of every queue, which have written it to disk. A queue
has one active consumer, so that order holds. To acknowledge is to delete, and a message whose reader is gone is given
again.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, ChannelPreconditionFailed
from yarl import URL

from contract.errors import WorkerError
from contract.stores import gone
from cqrs_impl.feeds.transport import AWAY, Delivered

CONFIRM_S = 5.0
DELETE_S = 15.0  # it waits five seconds for a queue that is dead
HEARTBEAT_S = 2  # a reader that says nothing for twice as long has lost its partition
PREFETCH = 50
LOST = (AMQPError, OSError, RuntimeError, StopAsyncIteration)  # the last where a connection is cut while it is opened
QUEUE: dict[str, Any] = {"x-queue-type": "quorum", "x-single-active-consumer": True}


class Queue(NamedTuple):
    """Queues are numbered without a gap, so that all can be found: those of the second purpose follow the first's."""

    namespace: str
    number: int
    partition: int

    @property
    def name(self) -> str:
        return name_of(self.namespace, self.number)


def name_of(namespace: str, number: int) -> str:
    return f"{namespace}.{number}"


def queues_of(namespace: str, partitions: int, purposes: int = 1) -> list[Queue]:
    return [Queue(namespace, number, number % partitions) for number in range(purposes * partitions)]


class ForeignQueue(WorkerError):
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

    def __init__(self, url: str, queues: Sequence[Queue]) -> None:
        self._url, self._queues = url, queues
        self._connection: AbstractConnection | None = None
        self.channel: AbstractChannel | None = None

    async def opened(self) -> AbstractChannel:
        if self.channel is None or self.channel.is_closed:
            await self.close()
            async with asyncio.timeout(CONFIRM_S):
                self._connection = await self._connect()
                channel = await self._connection.channel(on_return_raises=True)
                for queue in self._queues:  # a broker that came back empty has lost them
                    await declare(channel, queue)
            self.channel = channel
        return self.channel

    async def _connect(self) -> AbstractConnection:
        return await aio_pika.connect(URL(self._url).update_query(heartbeat=HEARTBEAT_S))

    async def drop_dead(self) -> None:
        """Delete the queues that do not answer: one whose node was killed within moments of its creation is there, and
        never does again. What it held is read from the outbox."""
        async with asyncio.timeout(CONFIRM_S):
            connection = await self._connect()
        async with connection:
            for queue in self._queues:
                asked = await (await connection.channel()).get_queue(queue.name, ensure=False)
                try:
                    await asked.get(fail=False, timeout=CONFIRM_S)
                except TimeoutError:
                    await (await connection.channel()).queue_delete(queue.name, timeout=DELETE_S)
                except AMQPError:  # an answer: where one consumer is active, nobody else takes a message
                    pass

    async def close(self) -> None:
        connection, self._connection, self.channel = self._connection, None, None
        if connection is not None:
            with suppress(*LOST):
                await connection.close()


async def declare(channel: AbstractChannel, queue: Queue) -> None:
    try:
        exchange = await channel.declare_exchange(queue.namespace, durable=True)
        declared = await channel.declare_queue(queue.name, durable=True, arguments=QUEUE)
        await declared.bind(exchange, str(queue.partition))
    except ChannelPreconditionFailed as error:
        raise ForeignQueue(queue.name, str(error)) from None


async def create(url: str, queues: Sequence[Queue]) -> None:
    """Repeatable. Queues of another number of partitions, whose messages are spread in another way, are deleted."""
    session, namespace = Session(url, ()), queues[0].namespace
    try:
        there = 0
        with suppress(ChannelNotFoundEntity):
            while True:
                await (await session.opened()).declare_queue(name_of(namespace, there), passive=True)
                there += 1
        channel = await session.opened()
        for number in range(there if there != len(queues) else 0):
            await channel.queue_delete(name_of(namespace, number))
        for queue in queues:
            await declare(channel, queue)
    finally:
        await session.close()


class RabbitPublisher:
    def __init__(self, url: str, queues: Sequence[Queue]) -> None:
        self._session, self._exchange = Session(url, queues), queues[0].namespace
        self._unconfirmed = False

    async def publish(self, messages: Sequence[tuple[int, bytes]]) -> None:
        of_partition = defaultdict[int, list[bytes]](list)
        for partition, body in messages:
            of_partition[partition].append(body)
        with away():
            if self._unconfirmed:
                await self._session.drop_dead()
                self._unconfirmed = False
            exchange = await (await self._session.opened()).get_exchange(self._exchange, ensure=False)
            try:
                async with asyncio.timeout(CONFIRM_S):
                    await asyncio.gather(*(self._append(exchange, *one) for one in of_partition.items()))
            except TimeoutError:
                self._unconfirmed = True
                raise

    async def _append(self, exchange: AbstractExchange, partition: int, bodies: Sequence[bytes]) -> None:
        for body in bodies:  # one after the other is confirmed, in this order
            await exchange.publish(aio_pika.Message(body, delivery_mode=2), str(partition))

    async def close(self) -> None:
        await self._session.close()


class RabbitReader:
    def __init__(self, url: str, queue: Queue) -> None:
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
                queue = await channel.get_queue(self._queue.name, ensure=False)
                await queue.consume(self._take, timeout=CONFIRM_S)  # a dead one says nothing, until the relay drops it
                self._reading = channel
        return self._reading

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self._waiting.append(Delivered(message.delivery_tag, message.body))
        self._news.set()
