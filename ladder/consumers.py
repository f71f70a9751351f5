"""A second consumer of the events of a rung, in its variant `notifications`: the price of one more reader."""

from collections.abc import Mapping
from typing import Any

from cqrs_impl.feeds.outbox.feed import OutboxFeed
from cqrs_impl.notifications import Notifications, RedisCounts
from ladder.connections import connect, redis_client
from ladder.environment import Environment
from ladder.rung import CONSUMER, Rung


def consumers(one: Rung, env: Environment) -> Mapping[str, Any]:
    """Who reads the outbox itself, as the projector does: every consumer asks the database on its own."""
    if not one.consumed:
        return {}
    log = OutboxFeed(connect(env), env.namespace)
    return {CONSUMER: Notifications(log, log, RedisCounts(redis_client(env), env.namespace))}
