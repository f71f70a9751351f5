"""Filling a cache with what was read, whatever was written since.

Cache-aside reads the row on a miss and sets it; a write updates the row and deletes the key. A reader that read the old
row, was overtaken by the write and its delete, and sets the old value last leaves it there for good: no later
write comes to delete it. An expiry only bounds how long the lie lasts.

The remedy gives the value its version and lets no older one replace a newer one; the writer sets, too.
"""

import asyncio
from random import Random

from contract.messages import RenameCustomer
from crossover.gallery.environment import DemoEnvironment, Evidence

CUSTOMERS, READERS = 100, 4
READ = "SELECT version, name FROM customers WHERE id = %(id)s"
SET_IF_NEWER = """
if ARGV[1] + 0 > tonumber(redis.call('HGET', KEYS[1], 'version') or 0) then
  redis.call('HSET', KEYS[1], 'version', ARGV[1], 'name', ARGV[2])
end"""


class SetAndDelete:
    def __init__(self, env: DemoEnvironment) -> None:
        self._redis, self._prefix = env.redis, env.keys.prefix

    async def fill(self, id: str, version: int, name: str) -> None:
        await self._redis.hset(self._prefix + id, "name", name)

    async def written(self, id: str, version: int, name: str) -> None:
        await self._redis.delete(self._prefix + id)


class SetIfNewer(SetAndDelete):
    async def fill(self, id: str, version: int, name: str) -> None:
        await self._redis.eval(SET_IF_NEWER, 1, self._prefix + id, version, name)

    written = fill


WRONG, RIGHT = SetAndDelete, SetIfNewer


async def show(env: DemoEnvironment, part: type[SetAndDelete]) -> Evidence:
    cache, reader = part(env), env.writing
    rng = Random(1)

    async def read(id: str) -> None:
        for version, name in await reader.rows(READ, {"id": id}):
            await asyncio.sleep(rng.uniform(0, 0.01))  # the reader is busy, or its network is
            await cache.fill(id, version, name)

    async def rename(id: str) -> None:
        done = await env.execute(RenameCustomer(id, "Bea"))
        await cache.written(id, done.receipt.version, "Bea")

    customers = await env.customers(CUSTOMERS)
    for id in customers:
        await asyncio.gather(rename(id), *(read(id) for _ in range(READERS)))
    held = [await env.redis.hget(env.keys.prefix + id, "name") for id in customers]
    return Evidence(held.count(b"Ann"), CUSTOMERS, "cached names that stay old for good")
