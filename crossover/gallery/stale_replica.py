"""Reading one's own write from a replica that has not replayed it yet.

The database says that the customer is registered, and the next page says that there is no such customer. On one quiet
machine the replica is behind for less than a millisecond, and nobody sees it. Here its replay stands still for a
moment, as it does behind a long report, a slow disk or a busy network.

The remedy is the token: the position in the log that the write was flushed at. The read waits until the replica has
replayed that much, or asks the primary.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg

from contract.messages import CommandResult, GetCustomer, Query, QueryResult, RegisterCustomer
from contract.position import covers
from crossover.gallery.environment import DemoEnvironment, Evidence, fresh_id
from crud_impl.replicated import ReplicatedOrders
from ladder.environment import NAMESPACE, Environment
from ladder.rung import rung
from servers.replica import REPLICA

TIMES, STANDS_STILL_S = 10, 0.2
Read = Callable[[ReplicatedOrders, Query, CommandResult], Coroutine[Any, Any, QueryResult]]


async def read_at_once(system: ReplicatedOrders, query: Query, written: CommandResult) -> QueryResult:
    return await system.answer(query)


async def read_with_token(system: ReplicatedOrders, query: Query, written: CommandResult) -> QueryResult:
    while True:
        found = await system.answer_at(query, written.position)
        if found.position and covers(found.position, written.position):
            return found
        await asyncio.sleep(0.005)


WRONG, RIGHT = read_at_once, read_with_token


async def show(env: DemoEnvironment, read: Read) -> Evidence:
    variables = dict(env.ladder.variables) | {REPLICA.variable: env.urls[REPLICA.name], NAMESPACE: env.namespace}
    system = rung("replica").system(Environment(variables))
    assert isinstance(system, ReplicatedOrders)
    missing = 0
    async with await psycopg.AsyncConnection.connect(env.urls[REPLICA.name], autocommit=True) as replica:
        while (await system.readiness()).reason:
            await asyncio.sleep(0.005)
        for _ in range(TIMES):
            await replica.execute("SELECT pg_wal_replay_pause()")
            written = await system.execute(RegisterCustomer(fresh_id(), "Ann"))
            reading = asyncio.create_task(read(system, GetCustomer(written.receipt.id), written))
            await asyncio.sleep(STANDS_STILL_S)
            await replica.execute("SELECT pg_wal_replay_resume()")
            missing += (await reading).body is None
    await system.close()
    return Evidence(missing, TIMES, "customers missing right after they were registered")
