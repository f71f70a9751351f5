"""Who shares the parts of the views, by the clock of the read store: one sorted set, scored by the latest beat."""

from collections.abc import Sequence

from cqrs_impl.documents.redis_client import RedisClient

BEAT = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ms - ARGV[2])
redis.call('ZADD', KEYS[1], ms, ARGV[1])
local names = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(names)
return names
"""


class RedisMembers:
    def __init__(self, client: RedisClient, namespace: str) -> None:
        self._client, self._key = client, f"{namespace}:projectors"

    async def beat(self, name: str, alive_s: float) -> Sequence[str]:
        (names,) = await self._client.ask(("EVAL", BEAT, 1, self._key, name, int(alive_s * 1000)))
        return [found.decode() for found in names]

    async def leave(self, name: str) -> None:
        await self._client.ask(("ZREM", self._key, name))

    async def close(self) -> None:
        await self._client.close()
