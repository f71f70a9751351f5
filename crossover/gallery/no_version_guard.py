"""Applying events in the order they arrive, without looking at their versions.

No feed from an outbox is in the order of each thing's versions. Three transactions show it: the first opens and takes
its number, the second pays the order and commits, then the first ships it. By number, "shipped" comes before "paid",
and a view that believes the order of arrival shows a shipped order as paid. Random faults practically never hit this.

The remedy compares versions: an old one is a repeat and changes nothing, one too new waits for what is missing.
"""

import msgspec

from contract.messages import OrderView, PayOrder, ShipOrder
from contract.ports import utc_now
from cqrs_impl.batch import Apply, apply
from cqrs_impl.feeds.outbox.recorder import Outbox
from cqrs_impl.fold import fold
from crossover.gallery.environment import DemoEnvironment, Evidence
from crud_impl.clients.idiomatic import SqlAlchemyTransaction
from crud_impl.system import execute

ORDERS = 20


WRONG, RIGHT = fold, apply


async def show(env: DemoEnvironment, apply: Apply) -> Evidence:
    customer, product = await env.customer(), await env.product()
    orders = [await env.place(customer, product, by=env.execute) for _ in range(ORDERS)]
    await env.project()
    outbox = Outbox(env.namespace)
    for order in orders:
        async with env.engine.begin() as connection:
            early = SqlAlchemyTransaction(connection)
            await early.first("SELECT pg_current_xact_id()")  # numbered now …
            await env.execute(PayOrder(order))
            effect = await execute(early, ShipOrder(order), utc_now())
            assert effect.event is not None, "a paid order ships"
            await outbox.record(early, effect.event)  # … and committed after the payment
    await env.project(apply=apply)
    shown = [msgspec.json.decode(await env.redis.get(env.keys.document(OrderView, order))) for order in orders]
    return Evidence(sum(view["status"] != "shipped" for view in shown), ORDERS, "shipped orders that are shown as paid")
