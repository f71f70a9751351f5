"""redis-py as its documentation shows it: a connection pool, pipelines, and a separate pipeline for WATCH.

Its automatic retries are off: a transaction that is resent after a timeout could be applied twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, OutOfMemoryError, ReadOnlyError, ResponseError, TimeoutError, WatchError
from redis.maint_notifications import MaintNotificationsConfig

from contract.errors import StoreGone
from cqrs_impl.documents.redis_client import AWAY, GONE, Command


class RedisPy:
    def __init__(self, url: str, *, connections: int, timeout_s: float) -> None:
        # Not the blocking pool: its lock and its timer cost 60 µs of CPU a command, as much as the command.
        pool = ConnectionPool.from_url(
            url,
            max_connections=connections,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            # With notifications, which only some servers send, it does not notice that an idle connection was closed.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        self._redis: Any = Redis(connection_pool=pool)  # its execute_command has no types
        self._watching: Any = None  # the pipeline that holds the watched key

    async def ask(self, *commands: Command) -> list[Any]:
        with gone():
            if len(commands) == 1:
                return [await self._redis.execute_command(*commands[0])]
            pipeline = self._redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute())

    async def watch(self, key: str, *commands: Command) -> list[Any]:
        with gone():
            if self._watching is None:
                self._watching = self._redis.pipeline()
            await self._watching.reset()
            await self._watching.watch(key)
            return [await self._watching.execute_command(*command) for command in commands]

    async def write(self, *commands: Command) -> bool:
        pipeline, self._watching = self._watching, None
        assert pipeline is not None, "only what is watched is written"
        with gone():
            pipeline.multi()
            for command in commands:
                pipeline.execute_command(*command)
            try:
                await pipeline.execute()
            except WatchError as error:
                if error.__context__ is not None:  # redis-py raises it for a lost connection too
                    raise StoreGone(AWAY) from error
                return False
            return True

    async def close(self) -> None:
        if self._watching is not None:
            await self._watching.reset()
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


@contextmanager
def gone() -> Iterator[None]:
    try:
        yield
    except (ConnectionError, TimeoutError, OutOfMemoryError, ReadOnlyError, WatchError, OSError) as error:
        raise StoreGone(AWAY) from error  # WatchError outside of `write`: the connection that watches was lost
    except ResponseError as error:
        if any(word in str(error) for word in GONE):  # a pipeline puts its own words before the store's
            raise StoreGone(AWAY) from error
        raise
    except RuntimeError as error:
        if "handler is closed" not in str(error):  # uvloop's word for a connection that was lost while idle
            raise
        raise StoreGone(AWAY) from error
