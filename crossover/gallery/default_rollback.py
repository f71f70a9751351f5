"""Reading through SQLAlchemy's default pool, which ends every use of a connection with a ROLLBACK.

Nothing is lost here but time. psycopg prepares a statement once and reuses its plan, but forgets all of them at a
ROLLBACK, and handing a connection back to the pool is one. Each read is then parsed and planned anew, on every rung
that reads from PostgreSQL: a comparison that misses this counts the loss of one side as a gain of the other.

The remedy reads in autocommit on connections that are not rolled back.
"""

import time
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from crossover.gallery.environment import DemoEnvironment, Evidence
from crud_impl.orders import SHOW

READS = 400
PLANS = (
    "SELECT coalesce(sum(generic_plans + custom_plans), 0)::int FROM pg_prepared_statements WHERE statement LIKE %(s)s"
)

WRONG: dict[str, Any] = {}
RIGHT: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}


async def show(env: DemoEnvironment, settings: dict[str, Any]) -> Evidence:
    customer, products = await env.customer(), await env.products(3)
    order = {"id": await env.place(customer, *products, by=env.execute)}
    engine = env.open_engine(**settings)
    await read(engine, order)
    start = time.perf_counter()
    for _ in range(READS):
        await read(engine, order)
    read_us = (time.perf_counter() - start) * 1e6 / READS
    async with engine.connect() as connection:
        reused = (await connection.exec_driver_sql(PLANS, {"s": "%JOIN order_lines%"})).scalar_one()
    await engine.dispose()
    bad = max(0, READS - int(reused))
    return Evidence(bad, READS, "reads planned anew", read_us)


async def read(engine: AsyncEngine, order: dict[str, str]) -> None:
    async with engine.connect() as connection:
        (await connection.exec_driver_sql(SHOW, order)).fetchall()
