"""A usual first version: the default pool, whose ROLLBACK makes PostgreSQL plan every read again; whole entities with
all that belongs to them; sums in Python. It is right, and a lesson; no baseline."""

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from contract import messages as m
from contract.ports import Clock, recorded_at
from contract.stores import gone
from contract.text import time_text
from crud_impl.clients.idiomatic import drivers_errors, open_engine
from crud_impl.connections import AWAY, T
from crud_impl.orm import queries
from crud_impl.orm.commands import execute
from crud_impl.orm.entities import Customer, Order, OrderLine, Product
from crud_impl.session import message_of
from crud_impl.system import result_of


class NaiveOrders:
    def __init__(self, url: str, schema: str, clock: Clock) -> None:
        self._engine, self._clock = open_engine(url, schema), clock

    async def execute(self, command: m.Command) -> m.CommandResult:
        now = recorded_at(self._clock, command)
        effect = await self._in_session(lambda session: execute(session, command, now))
        return m.CommandResult(effect.receipt, effect.created)

    async def answer(self, query: m.Query) -> m.QueryResult:
        return result_of(await self._in_session(lambda session: answer(session, query)))

    async def readiness(self) -> m.Readiness:
        await self._in_session(lambda session: session.execute(select(1)))
        return m.Readiness(0, 0.0, 0)

    def pool_use(self) -> tuple[int, int]:
        pool: Any = self._engine.pool
        return pool.checkedout(), pool.size()

    async def close(self) -> None:
        await self._engine.dispose()

    async def _in_session(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        try:
            with drivers_errors():
                async with AsyncSession(self._engine) as session, session.begin():
                    return await work(session)
        except psycopg.Error as error:
            raise gone(AWAY, message_of(error)) from error


async def answer(session: AsyncSession, query: m.Query) -> Any:
    match query:
        case m.GetCustomer():
            return await customer(session, query.id)
        case m.GetProduct():
            return await product(session, query.id)
        case m.GetOrder():
            return await order(session, query.id)
        case _:
            return await queries.answer(session, query)


async def customer(session: AsyncSession, id: str) -> m.CustomerView | None:
    """Loads every order of the customer to add them up."""
    one = await session.get(Customer, id, options=[selectinload(Customer.orders)])
    if one is None:
        return None
    orders = [order for order in one.orders if order.status != "cancelled"]
    last_at = max((order.placed_at for order in orders), default=None)
    spent_cents = sum(order.total_cents for order in orders)
    return m.CustomerView(
        one.id, one.version, one.name, len(orders), spent_cents, time_text(last_at) if last_at else None
    )


async def product(session: AsyncSession, id: str) -> m.ProductView | None:
    """Loads every line that ever sold it, and the order of each."""
    one = await session.get(Product, id)
    if one is None:
        return None
    every = select(OrderLine).where(OrderLine.product_id == id).options(selectinload(OrderLine.order))
    lines = (await session.scalars(every)).all()
    sold = sum(line.quantity for line in lines if line.order.status != "cancelled")
    return m.ProductView(one.id, one.version, one.name, one.price_cents, one.stock, sold)


async def order(session: AsyncSession, id: str) -> m.OrderView | None:
    """One statement for the order, one for its customer and its lines each, and one more for every product: N + 1."""
    with_lines = [selectinload(Order.customer), selectinload(Order.lines)]
    one = await session.get(Order, id, options=with_lines)
    if one is None:
        return None
    lines = []
    for line in one.lines:
        product = await session.get_one(Product, line.product_id)
        lines.append(m.Line(product.id, product.name, line.quantity, line.unit_price_cents, queries.amount(line)))
    by = m.CustomerRef(one.customer.id, one.customer.name)
    return m.OrderView(one.id, one.version, one.status, time_text(one.placed_at), by, tuple(lines), one.total_cents)
