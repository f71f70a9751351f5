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
from crossover.gallery.stage import Evidence, Stage, crowd

STOPS, BEFORE, AT_ONCE = 30, 8, 4


def write_twice(stage: Stage) -> Callable[[Command], Awaitable[CommandResult]]:
    commands = stage.commands(NoRecorder())

    async def execute(command: Command) -> CommandResult:
        done = await commands.execute(command)
        await stage.redis.set(stage.keys.document(OrderView, done.receipt.id), b"placed")
        return done

    return execute


def write_with_outbox(stage: Stage) -> Callable[[Command], Awaitable[CommandResult]]:
    return stage.execute


WRONG, RIGHT = write_twice, write_with_outbox


async def show(stage: Stage, part: Callable[[Stage], Callable[[Command], Awaitable[CommandResult]]]) -> Evidence:
    execute, rng = part(stage), Random(1)
    placed = asyncio.Semaphore(0)
    customer, product = await stage.customer(), await stage.product()

    async def place(_: int) -> None:
        await stage.place(customer, product, by=execute)
        placed.release()

    for _ in range(STOPS):
        work = asyncio.ensure_future(crowd(AT_ONCE, 1000, place))
        for _ in range(BEFORE):
            await placed.acquire()
        await asyncio.sleep(rng.uniform(0, 0.004))
        work.cancel()  # the process stops wherever it is
        with contextlib.suppress(asyncio.CancelledError):
            await work
    await stage.project()
    orders = [id for (id,) in await stage.rows("SELECT id::text FROM orders")]
    shown = await stage.redis.mget([stage.keys.document(OrderView, id) for id in orders])
    return Evidence(shown.count(None), len(orders), "orders that exist and are never shown")
