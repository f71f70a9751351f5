"""Queries over read tables in the same database: an answer is one row, one index range, or one lookup per word."""

from collections.abc import Sequence
from typing import Any

import msgspec

from contract.messages import (
    CustomerView,
    DailySales,
    DaySales,
    GetCustomer,
    GetHistory,
    GetOrder,
    GetProduct,
    ListOrders,
    OrderItem,
    OrderPage,
    ProductView,
    Query,
    QueryResult,
    Readiness,
    SearchOrders,
    TopProduct,
    TopProducts,
)
from contract.text import cursor_text, time_text
from crud_impl.connections import Rows

ORDER = """
SELECT version, status, placed_at, customer_id::text, customer_name, lines, total_cents
FROM order_views WHERE id = %(id)s"""
HISTORY = "SELECT changes FROM order_views WHERE id = %(id)s"
CUSTOMER = "SELECT id::text, version, name, orders, spent_cents, last_order_at FROM customer_views WHERE id = %(id)s"
PRODUCT = "SELECT id::text, version, name, price_cents, stock, sold FROM product_views WHERE id = %(id)s"
# A customer without orders gives one row of nulls, an unknown customer gives none. Index: order_views_by_customer.
PAGE = """
SELECT o.id::text, o.version, o.status, o.placed_at, o.line_count, o.total_cents
FROM customer_views c LEFT JOIN LATERAL (
    SELECT * FROM order_views v WHERE v.customer_id = c.id {after}
    ORDER BY v.placed_at DESC, v.id DESC LIMIT %(limit)s) AS o ON true
WHERE c.id = %(id)s ORDER BY o.placed_at DESC, o.id DESC"""
FIRST_PAGE = PAGE.format(after="")
NEXT_PAGE = PAGE.format(after="AND (v.placed_at, v.id) < (%(at)s, %(after)s::uuid)")
TOP = """
SELECT id::text, name, sold, revenue_cents FROM product_views p WHERE sold > 0
ORDER BY p.revenue_cents DESC, p.id LIMIT %(limit)s"""  # product_views_by_revenue
DAYS = "SELECT day::text, orders, revenue_cents FROM day_views d WHERE orders > 0 ORDER BY d.day DESC LIMIT %(limit)s"
# The primary key of word_views finds the orders of a word; each word is one lookup.
FOUND = """
SELECT o.id::text, o.version, o.status, o.placed_at, o.line_count, o.total_cents FROM order_views o
WHERE {words} ORDER BY o.placed_at DESC, o.id DESC LIMIT %(limit)s"""

_encode = msgspec.json.Encoder().encode


class TableQueries:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def answer(self, query: Query) -> QueryResult:
        rows = self._rows
        match query:
            case GetOrder():
                for version, status, at, customer_id, name, lines, total in await rows(ORDER, {"id": query.id}):
                    order = {
                        "id": query.id,
                        "version": version,
                        "status": status,
                        "placed_at": time_text(at),
                        "customer": {"id": customer_id, "name": name},
                        "lines": msgspec.Raw(lines.encode()),
                        "total_cents": total,
                    }
                    return QueryResult(_encode(order))
            case GetHistory():
                for (changes,) in await rows(HISTORY, {"id": query.id}):
                    return QueryResult(b'{"changes":%s]}' % changes.encode())
            case GetCustomer():
                for row in await rows(CUSTOMER, {"id": query.id}):
                    last = row[5] and time_text(row[5])
                    return QueryResult(_encode(CustomerView(row[0], row[1], row[2], row[3], row[4], last)))
            case GetProduct():
                for row in await rows(PRODUCT, {"id": query.id}):
                    return QueryResult(_encode(ProductView(*row)))
            case ListOrders():
                return await self._page(query)
            case TopProducts():
                top = await rows(TOP, {"limit": query.limit})
                return QueryResult(_encode({"products": [TopProduct(*row) for row in top]}))
            case DailySales():
                days = await rows(DAYS, {"limit": query.days})
                return QueryResult(_encode({"days": [DaySales(*row) for row in days]}))
            case SearchOrders():
                params = {f"w{n}": word for n, word in enumerate(query.words)}
                every = " AND ".join(
                    f"o.id IN (SELECT order_id FROM word_views WHERE word = %({name})s)" for name in params
                )
                found = await rows(FOUND.format(words=every), params | {"limit": query.limit})
                return QueryResult(_encode({"orders": _items(found)}))
        return QueryResult(None)

    async def _page(self, query: ListOrders) -> QueryResult:
        params: dict[str, Any] = {"id": query.id, "limit": query.limit + 1}
        if query.after is None:
            rows = await self._rows(FIRST_PAGE, params)
        else:
            at, after = query.after
            rows = await self._rows(NEXT_PAGE, params | {"at": at, "after": after})
        if not rows:
            return QueryResult(None)
        items = _items([row for row in rows if row[0] is not None])
        shown = items[: query.limit]
        more = cursor_text(shown[-1].placed_at, shown[-1].id) if len(items) > query.limit else None
        return QueryResult(_encode(OrderPage(tuple(shown), more)))

    async def readiness(self) -> Readiness:
        await self._rows("SELECT 1", {})
        return Readiness(0, 0.0, 0)


def _items(rows: Sequence[Any]) -> list[OrderItem]:
    return [OrderItem(id, version, status, time_text(at), n, total) for id, version, status, at, n, total in rows]
