"""The transports of the rung `broker`, by the value of `--transport`: each is one server and one adapter, whose client
library is loaded where it is used."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from cqrs_impl.feeds.transport import Publisher, Reader
from cqrs_impl.part import Part
from ladder.connections import redis_client
from ladder.environment import Environment
from servers.kafka import KAFKA
from servers.rabbitmq import RABBITMQ
from servers.redis import STREAMS
from servers.server import Server

if TYPE_CHECKING:
    from cqrs_impl.feeds.rabbitmq import Queue


PROJECTORS = "projectors"  # the first purpose


class Carried(NamedTuple):
    """How many partitions there are, and what they are read for: whoever reads for one purpose shares them."""

    partitions: int
    purposes: tuple[str, ...] = (PROJECTORS,)


class Transport(NamedTuple):
    server: Server
    prepare: Callable[[Environment, Carried], None]  # create the partitions, or refuse those that are there
    publisher: Callable[[Environment, Carried], Publisher]
    reader: Callable[[Environment, Carried, int, str], Reader]  # of one partition, for one purpose


def streams_prepare(env: Environment, carried: Carried) -> None:
    """Streams begin with their first entry."""


def streams_publisher(env: Environment, carried: Carried) -> Publisher:
    from cqrs_impl.feeds.redis_streams import StreamsPublisher

    return StreamsPublisher(redis_client(env, STREAMS), env.namespace, carried.partitions)


def streams_reader(env: Environment, carried: Carried, partition: int, purpose: str) -> Reader:
    from cqrs_impl.feeds.redis_streams import StreamsReader, stream_of

    stream = stream_of(env.namespace, partition, carried.partitions)
    return StreamsReader(redis_client(env, STREAMS), stream, purpose, carried.purposes)


def rabbitmq_queues(env: Environment, carried: Carried) -> "list[Queue]":
    from cqrs_impl.feeds.rabbitmq import queues_of

    return queues_of(env.namespace, carried.partitions, len(carried.purposes))


def rabbitmq_prepare(env: Environment, carried: Carried) -> None:
    from cqrs_impl.feeds.rabbitmq import create

    asyncio.run(create(env.url(RABBITMQ), rabbitmq_queues(env, carried)))


def rabbitmq_publisher(env: Environment, carried: Carried) -> Publisher:
    from cqrs_impl.feeds.rabbitmq import RabbitPublisher

    return RabbitPublisher(env.url(RABBITMQ), rabbitmq_queues(env, carried))


def rabbitmq_reader(env: Environment, carried: Carried, partition: int, purpose: str) -> Reader:
    from cqrs_impl.feeds.rabbitmq import RabbitReader

    number = carried.purposes.index(purpose) * carried.partitions + partition
    return RabbitReader(env.url(RABBITMQ), rabbitmq_queues(env, carried)[number])


def kafka_prepare(env: Environment, carried: Carried) -> None:
    from cqrs_impl.feeds.kafka import create, topic_of

    topic = topic_of(env.namespace, carried.partitions)
    create(KAFKA.client_settings(env.url(KAFKA)), topic, carried.partitions)


def kafka_publisher(env: Environment, carried: Carried) -> Publisher:
    from cqrs_impl.feeds.kafka import KafkaPublisher, topic_of

    topic = topic_of(env.namespace, carried.partitions)
    return KafkaPublisher(KAFKA.client_settings(env.url(KAFKA)), topic, carried.partitions)


def kafka_reader(env: Environment, carried: Carried, partition: int, purpose: str) -> Reader:
    from cqrs_impl.documents.offsets import RedisOffsets
    from cqrs_impl.feeds.kafka import KafkaReader, topic_of

    settings, topic = KAFKA.client_settings(env.url(KAFKA)), topic_of(env.namespace, carried.partitions)
    offsets = RedisOffsets(redis_client(env), env.namespace, Part(partition, carried.partitions), purpose)
    return KafkaReader(settings, topic, partition, offsets)


TRANSPORTS = {
    "redis-streams": Transport(STREAMS, streams_prepare, streams_publisher, streams_reader),
    "rabbitmq": Transport(RABBITMQ, rabbitmq_prepare, rabbitmq_publisher, rabbitmq_reader),
    "kafka": Transport(KAFKA, kafka_prepare, kafka_publisher, kafka_reader),
}
