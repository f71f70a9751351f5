"""The transports of the rung `broker`, by the value of `--transport`: each is one server and one adapter."""

from collections.abc import Callable
from typing import NamedTuple

from cqrs_impl.feeds.redis_streams import StreamsPublisher, StreamsReader, stream_of
from cqrs_impl.feeds.transport import Publisher, Reader
from cqrs_impl.part import Part
from ladder.connections import redis_client
from ladder.environment import Environment
from servers.redis import STREAMS
from servers.server import Server


def nothing(env: Environment, partitions: int) -> None:
    """Streams begin with their first entry."""


class Transport(NamedTuple):
    server: Server
    publisher: Callable[[Environment, int], Publisher]  # for so many partitions
    reader: Callable[[Environment, Part], Reader]
    prepare: Callable[[Environment, int], None] = nothing  # create the partitions, or refuse those that are there


TRANSPORTS = {
    "redis-streams": Transport(
        STREAMS,
        lambda env, partitions: StreamsPublisher(redis_client(env, STREAMS), env.namespace, partitions),
        lambda env, part: StreamsReader(redis_client(env, STREAMS), stream_of(env.namespace, *part)),
    )
}
