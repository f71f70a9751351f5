"""The transports of the rung `broker`, by the value of `--transport`: each is one server and one adapter, whose client
library is loaded where it is used."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from cqrs_impl.feeds.transport import Publisher, Reader
from cqrs_impl.part import Part
from ladder.connections import redis_client
from ladder.environment import Environment
from servers.kafka import KAFKA
from servers.rabbitmq import RABBITMQ
from servers.redis import STREAMS
from servers.server import Server


class Transport(NamedTuple):
    server: Server
    prepare: Callable[[Environment, int], None]  # create so many partitions, or refuse those that are there
    publisher: Callable[[Environment, int], Publisher]  # to so many
    reader: Callable[[Environment, Part, int], Reader]  # of one, and how many there are


def streams_prepare(env: Environment, partitions: int) -> None:
    """Streams begin with their first entry."""


def streams_publisher(env: Environment, partitions: int) -> Publisher:
    from cqrs_impl.feeds.redis_streams import StreamsPublisher

    return StreamsPublisher(redis_client(env, STREAMS), env.namespace, partitions)


def streams_reader(env: Environment, part: Part, partitions: int) -> Reader:
    from cqrs_impl.feeds.redis_streams import StreamsReader, stream_of

    return StreamsReader(redis_client(env, STREAMS), stream_of(env.namespace, part.number, partitions))


def rabbitmq_prepare(env: Environment, partitions: int) -> None:
    from cqrs_impl.feeds.rabbitmq import create

    asyncio.run(create(env.url(RABBITMQ), env.namespace, partitions))


def rabbitmq_publisher(env: Environment, partitions: int) -> Publisher:
    from cqrs_impl.feeds.rabbitmq import RabbitPublisher

    return RabbitPublisher(env.url(RABBITMQ), env.namespace, partitions)


def rabbitmq_reader(env: Environment, part: Part, partitions: int) -> Reader:
    from cqrs_impl.feeds.rabbitmq import RabbitReader, queue_of

    return RabbitReader(env.url(RABBITMQ), queue_of(env.namespace, part.number))


def kafka_prepare(env: Environment, partitions: int) -> None:
    from cqrs_impl.feeds.kafka import create, topic_of

    create(KAFKA.client_settings(env.url(KAFKA)), topic_of(env.namespace, partitions), partitions)


def kafka_publisher(env: Environment, partitions: int) -> Publisher:
    from cqrs_impl.feeds.kafka import KafkaPublisher, topic_of

    return KafkaPublisher(KAFKA.client_settings(env.url(KAFKA)), topic_of(env.namespace, partitions), partitions)


def kafka_reader(env: Environment, part: Part, partitions: int) -> Reader:
    from cqrs_impl.documents.offsets import RedisOffsets
    from cqrs_impl.feeds.kafka import KafkaReader, topic_of

    settings, topic = KAFKA.client_settings(env.url(KAFKA)), topic_of(env.namespace, partitions)
    return KafkaReader(settings, topic, part.number, RedisOffsets(redis_client(env), env.namespace, part))


TRANSPORTS = {
    "redis-streams": Transport(STREAMS, streams_prepare, streams_publisher, streams_reader),
    "rabbitmq": Transport(RABBITMQ, rabbitmq_prepare, rabbitmq_publisher, rabbitmq_reader),
    "kafka": Transport(KAFKA, kafka_prepare, kafka_publisher, kafka_reader),
}
