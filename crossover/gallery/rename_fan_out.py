"""Renaming in the copies first, and in the customer's own row last.

Views repeat the customer's name in each order, so a rename fans out. An order that is being placed at that moment has
read the old name, but its row is not visible yet: a fan-out that runs now misses it, and nothing looks again. The order
keeps the old name forever: a lost update, made of two statements that are both right.

The remedy locks the customer's row first. Orders on their way hold that lock until they commit, so the
fan-out comes after them and sees them; orders that come later read the new name.
"""

import asyncio
from typing import Any
from unittest.mock import patch

from contract.messages import RenameCustomer
from cqrs_impl.read_tables import recorder
from cqrs_impl.read_tables.recorder import ReadTables
from crossover.gallery.environment import DemoEnvironment, Evidence

CUSTOMERS, ORDERS = 40, 2

WRONG: dict[str, Any] = {
    "OLD_NAME": "SELECT name FROM customer_views WHERE id = %(id)s",
    "RENAME": recorder.RENAME_ORDERS,
    "RENAME_ORDERS": "UPDATE customer_views SET version = version + 1, name = %(name)s WHERE id = %(id)s",
}
RIGHT: dict[str, Any] = {name: getattr(recorder, name) for name in WRONG}


async def show(env: DemoEnvironment, statements: dict[str, Any]) -> Evidence:
    env.execute = env.commands(ReadTables()).execute
    product, customers = await env.product(), await env.customers(CUSTOMERS)
    with patch.multiple(recorder, **statements):
        for customer in customers:
            orders = (env.place(customer, product, by=env.execute) for _ in range(ORDERS))
            await asyncio.gather(*orders, env.execute(RenameCustomer(customer, "Bea")))
    ((old,),) = await env.rows("SELECT count(*) FROM order_views WHERE customer_name = 'Ann'")
    return Evidence(old, CUSTOMERS * ORDERS, "orders that keep the old name forever")
