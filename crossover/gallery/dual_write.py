"""Writing to the database and then to the read store, with nothing between them.

No transaction spans two servers. A process that is stopped after the one write and before the other (a crash, a
deployment, a request that timed out) leaves an order that exists and that no list will ever show. Trying again later
does not help: nobody remembers what was to be tried.

The remedy is the outbox: the event is a row written in the order's own transaction, so there are both or neither, and
a projector carries it over, again if it must.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from random import Random

from contract.messages import Command, CommandResult, OrderView
from cqrs_impl.commands import NoRecorder
from crossover.gallery.environment import DemoEnvironment, Evidence, crowd

STOPS, BEFORE, AT_ONCE = 30, 8, 4
Execute = Callable[[Command], Awaitable[CommandResult]]


def write_twice(env: DemoEnvironment) -> Execute:
    commands = env.commands(NoRecorder())

    async def execute(command: Command) -> CommandResult:
        done = await commands.execute(command)
        await env.redis.set(env.keys.document(OrderView, done.receipt.id), b"placed")
        return done

    return execute


def write_with_outbox(env: DemoEnvironment) -> Execute:
    return env.execute


WRONG, RIGHT = write_twice, write_with_outbox


async def show(env: DemoEnvironment, part: Callable[[DemoEnvironment], Execute]) -> Evidence:
    execute, rng = part(env), Random(1)
    placed = asyncio.Semaphore(0)
    customer, product = await env.customer(), await env.product()

    async def place(_: int) -> None:
        await env.place(customer, product, by=execute)
        placed.release()

    for _ in range(STOPS):
        work = asyncio.ensure_future(crowd(AT_ONCE, 1000, place))
        for _ in range(BEFORE):
            await placed.acquire()
        await asyncio.sleep(rng.uniform(0, 0.004))
        work.cancel()  # the process stops wherever it is
        with contextlib.suppress(asyncio.CancelledError):
            await work
    await env.project()
    orders = [id for (id,) in await env.rows("SELECT id::text FROM orders")]
    missing = await env.missing(OrderView, orders)
    return Evidence(missing, len(orders), "orders that exist and are never shown")
