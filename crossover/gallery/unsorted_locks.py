"""Locking rows in the order in which the client happened to name them.

One order wants tea and a pot, another a pot and tea. Each locks its first row and waits for the other's: a deadlock.
PostgreSQL finds it after a second of waiting, in which both stand still and others queue behind them, and undoes one.

The remedy sorts: who locks in the order of ids can wait in a line, but never in a circle.
"""

from random import Random
from unittest.mock import patch

from sqlalchemy.exc import DBAPIError

from contract.messages import PlaceOrder, Wanted
from contract.ports import utc_now
from crossover.gallery.environment import DemoEnvironment, Evidence, crowd, fresh_id
from crud_impl import orders
from crud_impl.clients.idiomatic import SqlAlchemyTransaction
from crud_impl.connections import DEADLOCK
from crud_impl.system import execute

PRODUCTS, LINES, ORDERS = 10, 5, 80

WRONG = orders.LOCK_PRODUCTS.replace("ORDER BY p.id", "ORDER BY array_position(%(products)s::uuid[], p.id)")
RIGHT = orders.LOCK_PRODUCTS


async def show(env: DemoEnvironment, lock_products: str) -> Evidence:
    customer, products = await env.customer(), await env.products(PRODUCTS)
    rng, deadlocks = Random(1), 0

    async def place(number: int) -> None:
        nonlocal deadlocks
        lines = tuple(Wanted(product, 1) for product in rng.sample(products, LINES))
        try:
            async with env.engine.begin() as connection:
                await connection.exec_driver_sql("SET LOCAL deadlock_timeout = '10ms'")  # else this takes minutes
                await execute(SqlAlchemyTransaction(connection), PlaceOrder(fresh_id(), customer, lines), utc_now())
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != DEADLOCK:
                raise
            deadlocks += 1

    with patch.object(orders, "LOCK_PRODUCTS", lock_products):
        await crowd(4, ORDERS // 4, place)
    return Evidence(deadlocks, ORDERS, "orders undone by a deadlock")
