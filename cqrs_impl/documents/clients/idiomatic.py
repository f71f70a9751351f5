"""redis-py as its documentation shows it: a connection pool, pipelines, and a separate pipeline for WATCH.

Its automatic retries are off: a transaction that is resent after a timeout could be applied twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, OutOfMemoryError, TimeoutError, WatchError

from contract.errors import StoreGone
from cqrs_impl.documents.redis_client import AWAY, Command


class RedisPy:
    def __init__(self, url: str, *, connections: int, timeout_s: float) -> None:
        # Not the blocking pool: its lock and its timer cost 60 µs of CPU a command, as much as the command.
        pool = ConnectionPool.from_url(
            url,
            max_connections=connections,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
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
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


@contextmanager
def gone() -> Iterator[None]:
    try:
        yield
    except (ConnectionError, TimeoutError, OutOfMemoryError, OSError) as error:
        raise StoreGone(AWAY) from error
