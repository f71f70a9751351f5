"""CRUD: one model in one database for reads and writes; a write is visible as soon as it is acknowledged."""

from datetime import datetime

import msgspec

from contract.messages import (
    AddProduct,
    CancelOrder,
    Command,
    CommandResult,
    DailySales,
    DeliverStock,
    GetCustomer,
    GetHistory,
    GetOrder,
    GetProduct,
    ListOrders,
    PayOrder,
    PlaceOrder,
    Query,
    QueryResult,
    Readiness,
    RegisterCustomer,
    RenameCustomer,
    RepriceProduct,
    SearchOrders,
    ShipOrder,
    TopProducts,
)
from contract.ports import Clock, recorded_at
from crud_impl import customers, orders, products, reports
from crud_impl.connections import Database, Rows, Transaction
from crud_impl.effect import Effect

_encode = msgspec.json.Encoder().encode


async def execute(transaction: Transaction, command: Command, now: datetime) -> Effect:
    """Execute one command inside the caller's transaction; raises the contract's refusals."""
    match command:
        case RegisterCustomer():
            return await customers.register(transaction, command)
        case RenameCustomer():
            return await customers.rename(transaction, command)
        case AddProduct():
            return await products.add(transaction, command)
        case RepriceProduct():
            return await products.reprice(transaction, command)
        case DeliverStock():
            return await products.deliver(transaction, command)
        case PlaceOrder():
            return await orders.place(transaction, command, now)
        case PayOrder() | ShipOrder() | CancelOrder():
            return await orders.advance(transaction, command, now)


async def answer(rows: Rows, query: Query) -> QueryResult:
    """Answer one query, in one statement."""
    view: msgspec.Struct | None
    match query:
        case GetCustomer():
            view = await customers.show(rows, query.id)
        case GetProduct():
            view = await products.show(rows, query.id)
        case GetOrder():
            view = await orders.show(rows, query.id)
        case GetHistory():
            view = await orders.history(rows, query.id)
        case ListOrders():
            view = await orders.page(rows, query)
        case TopProducts():
            view = await reports.top_products(rows, query.limit)
        case DailySales():
            view = await reports.daily_sales(rows, query.days)
        case SearchOrders():
            view = await reports.search(rows, query)
    return result_of(view)


def result_of(view: msgspec.Struct | None) -> QueryResult:
    return QueryResult(None if view is None else _encode(view))


class CrudOrders:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def execute(self, command: Command) -> CommandResult:
        now = recorded_at(self._clock, command)
        effect = await self._database.transact(lambda transaction: execute(transaction, command, now))
        return CommandResult(effect.receipt, effect.created)

    async def answer(self, query: Query) -> QueryResult:
        return await answer(self._database.rows, query)

    async def readiness(self) -> Readiness:
        await self._database.rows("SELECT 1", {})
        return Readiness(0, 0.0, 0)

    def pool_use(self) -> tuple[int, int]:
        return self._database.in_use()

    async def close(self) -> None:
        await self._database.close()
