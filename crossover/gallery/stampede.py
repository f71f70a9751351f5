"""Letting everybody load what the cache has just lost.

A popular entry expires, or a write makes it stale. All who ask for it find nothing, and each of them asks the database:
for one answer it gets as many statements as there are readers, at once, and most where it is busiest. Answers get
slower, so that even more readers find nothing: a cache that empties takes the database with it.

The remedy is one loader a key: who finds nothing while the answer is being loaded waits for that load. It holds in one
process; of several, each loads once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from crossover.gallery.environment import DemoEnvironment, Evidence

ENTRIES, READERS = 10, 20
READ = "SELECT name FROM customers WHERE id = %(id)s"
Ask = Callable[[str], Awaitable[Any]]


class EachLoads:
    def __init__(self, find: Ask, load: Ask) -> None:
        self._find, self._load = find, load

    async def read(self, id: str) -> Any:
        return await self._find(id) or await self._load(id)


class OneLoads(EachLoads):
    def __init__(self, find: Ask, load: Ask) -> None:
        super().__init__(find, load)
        self._loads: dict[str, asyncio.Future[Any]] = {}

    async def read(self, id: str) -> Any:
        if found := await self._find(id):
            return found
        if id not in self._loads:
            self._loads[id] = asyncio.ensure_future(self._load(id))
            self._loads[id].add_done_callback(lambda _: self._loads.pop(id))
        return await asyncio.shield(self._loads[id])  # a reader who goes away does not take it from the others


WRONG, RIGHT = EachLoads, OneLoads


async def show(env: DemoEnvironment, part: type[EachLoads]) -> Evidence:
    asked, loads = asyncio.Barrier(READERS), 0

    async def find(id: str) -> Any:
        found = await env.redis.get(env.keys.prefix + id)
        await asked.wait()  # all ask before the first is answered: that is what makes an entry popular
        return found

    async def load(id: str) -> Any:
        nonlocal loads
        loads += 1
        ((name,),) = await env.rows(READ, id=id)
        await env.redis.set(env.keys.prefix + id, name)
        return name

    cache = part(find, load)
    for id in await env.customers(ENTRIES):
        assert {*await asyncio.gather(*(cache.read(id) for _ in range(READERS)))} == {"Ann"}
    return Evidence(loads - ENTRIES, ENTRIES * (READERS - 1), "loads of an answer that was being loaded already")
