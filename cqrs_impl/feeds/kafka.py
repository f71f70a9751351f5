"""The transport over Kafka: a topic for so many partitions, and a message a record of one.

A confirmation is that of all replicas in sync, and retries neither reorder nor repeat. Nobody joins a group: a reader
is assigned its partition. Where it goes on reading is kept in the read store beside the data, so that a store that was
emptied reads from the beginning; what Kafka has deleted meanwhile is read from the outbox.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from contract.errors import StoreGone, WorkerError
from contract.stores import gone
from cqrs_impl.feeds.transport import AWAY, Delivered

CONFIRM_S = 5.0
SLICE_S = 0.1  # a thread that waits ends with its process only after this
WAIT_S_MAX = 0.5  # the same of a reader
NOTE_S = 1.0
ASK_S_MAX = 5.0
DAY_MS = 24 * 3600 * 1000
SILENT = logging.getLogger("cqrs_impl.feeds.kafka.client")  # what it meets is told in one sentence instead
SILENT.addHandler(logging.NullHandler())
# A connection over which nothing comes back is given up soon.
PATIENCE = {
    "socket.timeout.ms": 3000,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "retry.backoff.ms": 50,
}
PUBLISHER = PATIENCE | {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 0,  # an event alone does not wait for others
    "delivery.timeout.ms": int(CONFIRM_S * 1000),
}
READER = PATIENCE | {
    "group.id": "crossover",  # must have a name, though nobody joins it
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",  # where what follows was deleted, or the topic is another by now
    "queued.max.messages.kbytes": 16384,
    "fetch.queue.backoff.ms": 10,
    "fetch.error.backoff.ms": 50,
}


def topic_of(namespace: str, partitions: int) -> str:
    return f"{namespace}.events-{partitions}"


class OtherTopic(WorkerError):
    def __init__(self, topic: str, found: int, wanted: int) -> None:
        super().__init__(
            f"Kafka's topic {topic} has {found} partitions where {wanted} were made: delete it, and what it held is"
            " read from the outbox."
        )


def create(settings: Mapping[str, Any], topic: str, partitions: int) -> None:
    """Repeatable. Partitions can be added to a topic, which would spread keys anew, and never be taken away."""
    told: list[KafkaError] = []
    telling: dict[str, Any] = {"error_cb": told.append, "logger": SILENT}
    admin = AdminClient({**settings, **PATIENCE, **telling})
    wanted = NewTopic(topic, partitions, config={"retention.ms": str(DAY_MS)})
    try:
        (made,) = admin.create_topics([wanted], request_timeout=ASK_S_MAX, operation_timeout=ASK_S_MAX).values()
        made.result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise KafkaException(told[0] if told else error.args[0]) from None
        found = len(admin.list_topics(topic, timeout=ASK_S_MAX).topics[topic].partitions)
        if found != partitions:
            raise OtherTopic(topic, found, partitions) from None


class KafkaPublisher:
    def __init__(self, settings: Mapping[str, Any], topic: str, partitions: int) -> None:
        self._settings, self._topic, self._partitions = settings, topic, partitions
        self._producer: Producer | None = None
        self._told: list[KafkaError] = []

    async def publish(self, messages: Sequence[tuple[int, bytes]]) -> None:
        results: list[KafkaError | None] = []
        self._told.clear()
        try:
            producer = self._producer or await self._open()
            for partition, body in messages:
                producer.produce(self._topic, body, partition=partition, on_delivery=lambda e, _: results.append(e))
            while len(results) < len(messages) and not any(map(_is_down, self._told)):
                await asyncio.to_thread(producer.flush, SLICE_S)  # each is confirmed or given up in time
        except (KafkaException, BufferError) as error:
            raise self._gone(error.args[0]) from error
        if refused := [error for error in results if error is not None] or self._told[: len(messages) - len(results)]:
            raise self._gone(refused[0])

    async def _open(self) -> Producer:
        await asyncio.to_thread(create, self._settings, self._topic, self._partitions)
        told: Any = {"error_cb": self._told.append, "logger": SILENT}
        self._producer = Producer({**self._settings, **PUBLISHER, **told})
        return self._producer

    def _gone(self, error: Any) -> StoreGone:
        """That no broker could be connected to says more than that a message has waited too long."""
        first = next((one for one in self._told if not _is_down(one)), error)
        return gone(AWAY, first.str() if isinstance(first, KafkaError) else str(first))

    async def close(self) -> None:
        """What is not confirmed is published again, by the next."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            await asyncio.to_thread(producer.close)


def _is_down(told: KafkaError) -> bool:
    return told.code() == KafkaError._ALL_BROKERS_DOWN


class Offsets(Protocol):
    """Where to go on reading a partition. An old one is as good as a new one, but for the work."""

    async def read(self) -> int | None: ...
    async def write(self, offset: int) -> None: ...
    async def close(self) -> None: ...


class KafkaReader:
    """librdkafka reads ahead, and connects again, in threads of its own."""

    def __init__(self, settings: Mapping[str, Any], topic: str, partition: int, offsets: Offsets) -> None:
        self._settings, self._topic, self._partition, self._offsets = settings, topic, partition, offsets
        self._consumer: Consumer | None = None
        self._polling: asyncio.Future[None] | None = None
        self._waiting: list[Delivered] = []
        self._note_s = 0.0

    async def read(self, limit: int) -> Sequence[Delivered]:
        consumer = await self._opened()
        if not self._waiting and not self._polling:
            self._take(consumer.consume(limit, 0))
        some, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return some

    async def wait(self, timeout_s: float) -> None:
        consumer = await self._opened()
        if not self._waiting:
            self._polling = self._polling or asyncio.ensure_future(self._poll(consumer, min(timeout_s, WAIT_S_MAX)))
            await asyncio.shield(self._polling)

    async def _poll(self, consumer: Consumer, timeout_s: float) -> None:
        try:
            if message := await asyncio.to_thread(consumer.poll, timeout_s):
                self._take([message])
        finally:
            self._polling = None

    def _take(self, messages: Sequence[Any]) -> None:
        for message in messages:
            if (error := message.error()) is not None:
                raise gone(AWAY, error.str())
            self._waiting.append(Delivered(message.offset(), message.value()))

    async def acknowledge(self, offset: Any) -> None:
        if monotonic() >= self._note_s:
            self._note_s = monotonic() + NOTE_S
            await self._offsets.write(offset + 1)

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if self._polling:  # a consumer must not be closed under it
            await asyncio.wait([self._polling])
        if consumer is not None:
            await asyncio.to_thread(consumer.close)
        self._waiting = []
        await self._offsets.close()

    async def _opened(self) -> Consumer:
        if self._consumer is None:
            first = await self._offsets.read()
            told: Any = {"error_cb": lambda error: None, "logger": SILENT}  # that it is away, the relay tells
            self._consumer = Consumer({**self._settings, **READER, **told})
            self._consumer.assign([TopicPartition(self._topic, self._partition, first or 0)])
        return self._consumer
