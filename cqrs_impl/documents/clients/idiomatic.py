"""redis-py as its documentation shows it: a connection pool, pipelines, and a separate pipeline for WATCH.

Its automatic retries are off: a transaction that is resent after a timeout could be applied twice.
"""

from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, WatchError

from contract.errors import StoreGone
from contract.stores import gone
from cqrs_impl.documents.redis_client import AWAY, Command, pool_of

# Whatever Redis says or does means that it is away: there is no list of what that may be. A RuntimeError is uvloop's,
# for a connection that was lost while idle; an AttributeError is redis-py's, for one that was lost while it was opened.
ERRORS = (RedisError, OSError, RuntimeError, ValueError, AttributeError)


class RedisPy:
    def __init__(self, url: str, *, connections: int, timeout_s: float) -> None:
        self._pool = pool_of(url, connections=connections, timeout_s=timeout_s)
        self._redis: Any = Redis(connection_pool=self._pool)  # its execute_command has no types
        self._watching: Any = None  # the pipeline that holds the watched key

    async def ask(self, *commands: Command) -> list[Any]:
        try:
            if len(commands) == 1:
                return [await self._redis.execute_command(*commands[0])]
            pipeline = self._redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute())
        except ERRORS as error:
            raise await self._gone(error) from error

    def on_open(self, command: Command, told: Callable[[Any], None]) -> None:
        async def opened(connection: Any) -> None:
            await connection.on_connect()
            await connection.send_command(*command)
            told(await connection.read_response())

        self._pool.connection_kwargs["redis_connect_func"] = opened

    async def watch(self, key: str, *commands: Command) -> list[Any]:
        try:
            if self._watching is None:
                self._watching = self._redis.pipeline()
            await self._watching.reset()
            await self._watching.watch(key)
            return [await self._watching.execute_command(*command) for command in commands]
        except ERRORS as error:
            raise await self._gone(error) from error

    async def write(self, *commands: Command) -> bool:
        pipeline, self._watching = self._watching, None
        assert pipeline is not None, "only what is watched is written"
        pipeline.multi()
        for command in commands:
            pipeline.execute_command(*command)
        try:
            await pipeline.execute()
        except ERRORS as error:
            # redis-py raises it for a lost connection too
            if isinstance(error, WatchError) and error.__context__ is None:
                return False
            raise await self._gone(error) from error
        return True

    async def close(self) -> None:
        await self._forget_watched()
        await self._redis.aclose()
        await self._pool.disconnect()

    async def _gone(self, error: Exception) -> StoreGone:
        """Connections are opened again after an error, as they may lead to another server by now."""
        await self._forget_watched()
        await self._pool.disconnect(inuse_connections=False)
        return gone(AWAY, str(error) or type(error).__name__)

    async def _forget_watched(self) -> None:
        pipeline, self._watching = self._watching, None
        if pipeline is not None:
            await pipeline.reset()
