"""RabbitMQ and Kafka carry what every transport must, and what became of them in tortures."""

import asyncio
from contextlib import suppress
from typing import Any

import aio_pika
import pytest

from contract.errors import StoreGone
from cqrs_impl.feeds.rabbitmq import RabbitPublisher, RabbitReader, create, queues_of
from cqrs_impl.feeds.transport import Publisher, Reader
from cqrs_impl.part import Part
from servers.kafka import KAFKA
from servers.rabbitmq import RABBITMQ
from servers.server import Unusable
from servers.supervisor import Processes
from tests.partitions import PARTS
from tests.test_transports import TransportSuite


class TestRabbitMQ(TransportSuite):
    @pytest.fixture(autouse=True)
    def broker(self, rabbitmq_url: str) -> None:
        self.url_of_broker = rabbitmq_url

    def publisher(self, name: str) -> Publisher:
        return RabbitPublisher(self.url_of_broker, queues_of(name, PARTS))

    def reader(self, name: str, part: Part) -> Reader:
        return RabbitReader(self.url_of_broker, queues_of(name, PARTS)[part.number])

    async def empty(self, name: str) -> None:
        await self.disconnect()
        await asyncio.to_thread(RABBITMQ.drop, self.url_of_broker, name)


@pytest.mark.parametrize(
    "met", [StopAsyncIteration, aio_pika.exceptions.ChannelInvalidStateError, ConnectionResetError]
)
def test_a_rabbitmq_that_is_cut_off_while_it_is_connected_to_is_away(
    met: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torture met them: aiormq raises what its reading of the connection raises."""

    async def connect(_: Any) -> None:
        raise met

    monkeypatch.setattr(aio_pika, "connect", connect)
    with pytest.raises(StoreGone):
        asyncio.run(RabbitPublisher("amqp://nowhere/", queues_of("crossover_test", PARTS)).publish([(0, b"{}")]))


@pytest.mark.long
def test_a_queue_that_died_within_moments_of_its_creation_is_made_anew() -> None:
    """RabbitMQ writes down at its leisure where the log of a new queue lies."""
    queues, body = queues_of("crossover_test", 1), b"[]"

    async def published(url: str) -> list[bytes]:
        publisher, reader = RabbitPublisher(url, queues), RabbitReader(url, queues[0])
        found: list[bytes] = []
        async with asyncio.timeout(180):
            while not found:
                for used in (publisher.publish([(0, body)]), reader.wait(1.0)):
                    with suppress(StoreGone):
                        await used
                with suppress(StoreGone):
                    found += [one.body for one in await reader.read(1)]
                if not found:
                    await publisher.close()
                    await reader.close()
        await publisher.close()
        await reader.close()
        return found

    with Processes() as processes:
        try:
            url = RABBITMQ.start(processes)
        except Unusable as reason:
            pytest.skip(str(reason))
        asyncio.run(create(url, queues_of("crossover_other", 1)))  # so that the file is there
        (names,) = RABBITMQ.data_folder(processes).glob("data/*/quorum/*/names.dets")
        before = names.read_bytes()
        assert asyncio.run(published(url)) == [body]
        processes.stop(RABBITMQ.name)  # by SIGKILL
        names.write_bytes(before)
        RABBITMQ.restart(processes)
        assert asyncio.run(published(url)) == [body]


class TestKafka(TransportSuite):
    @pytest.fixture(autouse=True)
    def broker(self, kafka_url: str) -> None:
        self.url_of_broker, self.settings = kafka_url, KAFKA.client_settings(kafka_url)

    def publisher(self, name: str) -> Publisher:
        from cqrs_impl.feeds.kafka import KafkaPublisher, topic_of

        return KafkaPublisher(self.settings, topic_of(name, PARTS), PARTS)

    def reader(self, name: str, part: Part) -> Reader:
        from cqrs_impl.documents.offsets import RedisOffsets
        from cqrs_impl.feeds.kafka import KafkaReader, topic_of

        return KafkaReader(
            self.settings, topic_of(name, PARTS), part.number, RedisOffsets(self.client(), name, part, "")
        )

    async def empty(self, name: str) -> None:
        await self.disconnect()
        await asyncio.to_thread(KAFKA.drop, self.url_of_broker, name)
