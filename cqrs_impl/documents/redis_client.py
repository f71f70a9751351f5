"""The interface of the documents to Redis. The clients that implement it are in `cqrs_impl.documents.clients`.

No client resends a command: one without a reply may have been executed. Every error is `StoreGone`: no command of ours
is refused by a store that is well.
"""

from collections.abc import Callable
from typing import Any, Protocol

import redis
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

Command = tuple[str | bytes | int, ...]
AWAY = "The read store cannot be asked right now."
TEXT = {"decode_responses": False, "encoding": "utf-8", "encoding_errors": "strict"}  # whatever the address asks for


class RedisClient(Protocol):
    async def ask(self, *commands: Command) -> list[Any]:
        """Send commands together and return their replies: bytes, integers, None, or lists of them."""

    def on_open(self, command: Command, told: Callable[[Any], None]) -> None:
        """Send this first on each new connection, which may lead to another server, and tell its reply."""

    async def watch(self, key: str, *commands: Command) -> list[Any]:
        """Watch this key and no other, then ask, on the connection that the next `write` uses."""

    async def write(self, *commands: Command) -> bool:
        """Run all in one transaction. False if the watched key was written meanwhile: nothing was changed then."""

    async def close(self) -> None: ...


def pool_of(url: str, *, connections: int, timeout_s: float) -> ConnectionPool:
    """redis-py's pool of an address, which it alone parses; its connections tell every client how to connect.

    Not the blocking pool: its lock and its timer cost 60 µs of CPU a command, as much as the command.
    """
    pool: ConnectionPool = ConnectionPool.from_url(
        url,
        max_connections=connections,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        # With notifications, which only some servers send, it does not notice that an idle connection was closed.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    pool.connection_kwargs |= TEXT | {"retry": Retry(NoBackoff(), 0), "retry_on_error": []}
    return pool


def step_client(url: str) -> redis.Redis:
    """A client for a step."""
    client = redis.Redis.from_url(url)
    client.connection_pool.connection_kwargs |= TEXT
    return client
