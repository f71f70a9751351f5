"""Logging an error of the projection, and going on.

A release cannot spell: it fails on every name that is not plain ASCII. A projection that logs the error and takes the
next event keeps its queue short and all its lights green, while its views drift away from the truth. After
the bug is fixed the checkpoint has long passed those events, and nothing brings them back.

The remedy forgets no event that was not applied: after five tries its stream is parked where all can see it, the others
go on, and the fixed release replays what waited.
"""

import contextlib
import logging
from collections.abc import Callable

from contract.messages import CustomerRegistered, Event, OrderView
from cqrs_impl.batch import Apply, EventBatch, apply
from cqrs_impl.ports import Documents
from crossover.gallery.environment import DemoEnvironment, Evidence

NAMES = ("Ann", "Zoë", "Bea", "José")
ORDERS = 40


def swallowing(apply: Apply) -> Apply:
    async def swallow(event: Event, documents: Documents) -> None:
        with contextlib.suppress(Exception):  # logged somewhere, read by nobody
            await apply(event, documents)

    return swallow


def honest(apply: Apply) -> Apply:
    return apply


WRONG, RIGHT, SHOWN = swallowing, honest, EventBatch.run


async def cannot_spell(event: Event, documents: Documents) -> None:
    if isinstance(event, CustomerRegistered):
        event.name.encode("ascii")
    await apply(event, documents)


async def show(env: DemoEnvironment, part: Callable[[Apply], Apply]) -> Evidence:
    product, customers = await env.product(), [await env.customer(name) for name in NAMES]
    orders = [await env.place(customers[n % len(NAMES)], product, by=env.execute) for n in range(ORDERS)]
    log = logging.getLogger("crossover.dead_letters")
    log.disabled = True
    try:
        await env.project(apply=part(cannot_spell))
        await env.project(apply=part(apply), replay=True)
    finally:
        log.disabled = False
    missing = await env.missing(OrderView, orders)
    return Evidence(missing, ORDERS, "orders still missing after the bug was fixed")
