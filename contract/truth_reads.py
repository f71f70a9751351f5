"""The contract's queries over the tables of the truth: one round trip each, the index each relies on beside it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from contract.messages import (
    Change,
    CustomerRef,
    CustomerView,
    DailySales,
    DailySalesView,
    DaySales,
    FoundOrders,
    GetCustomer,
    GetHistory,
    GetOrder,
    GetProduct,
    HistoryView,
    Line,
    ListOrders,
    OrderItem,
    OrderPage,
    OrderView,
    ProductView,
    Query,
    QueryResult,
    SearchOrders,
    Status,
    TopProduct,
    TopProducts,
    TopProductsView,
)
from contract.text import cursor_text, time_text

Rows = Callable[[str, dict[str, object]], Awaitable[Sequence[Any]]]

_encode = msgspec.json.Encoder().encode
_CHANGES: tuple[Status, ...] = ("placed", "paid", "shipped", "cancelled")  # the columns of _HISTORY, in order of time

# A sort names its columns with their table: a bare `id` would be the text that is shown, which no index holds.

# the primary keys of all four tables
_ORDER = """
SELECT o.id::text, o.version, o.status, o.placed_at, o.total_cents, c.id::text, c.name,
       p.id::text, p.name, l.quantity, l.unit_price_cents, l.quantity * l.unit_price_cents
FROM orders o
JOIN customers c ON c.id = o.customer_id
JOIN order_lines l ON l.order_id = o.id
JOIN products p ON p.id = l.product_id
WHERE o.id = %(id)s::uuid
ORDER BY l.position
"""

# orders_pkey
_HISTORY = "SELECT placed_at, paid_at, shipped_at, cancelled_at FROM orders WHERE id = %(id)s::uuid"

# customers_pkey, orders_by_customer
_CUSTOMER = """
SELECT c.id::text, c.version, c.name, count(o.id), coalesce(sum(o.total_cents), 0)::bigint, max(o.placed_at)
FROM customers c
LEFT JOIN orders o ON o.customer_id = c.id AND o.status <> 'cancelled'
WHERE c.id = %(id)s::uuid
GROUP BY c.id
"""

# customers_pkey, orders_by_customer read from where the page starts; a customer without orders is one row of nulls
_PAGE = """
SELECT o.id::text, o.version, o.status, o.placed_at, o.line_count, o.total_cents
FROM customers c
LEFT JOIN LATERAL (
    SELECT * FROM orders
    WHERE customer_id = c.id {after}
    ORDER BY placed_at DESC, id DESC
    LIMIT %(limit)s
) o ON true
WHERE c.id = %(id)s::uuid
ORDER BY o.placed_at DESC, o.id DESC
"""
_FIRST_PAGE = _PAGE.format(after="")
_NEXT_PAGE = _PAGE.format(after="AND (placed_at, id) < (%(placed_at)s::timestamptz, %(after_id)s::uuid)")

# products_pkey, order_lines_by_product, orders_pkey
_PRODUCT = """
SELECT p.id::text, p.version, p.name, p.price_cents, p.stock, (
    SELECT coalesce(sum(l.quantity), 0)::bigint
    FROM order_lines l
    JOIN orders o ON o.id = l.order_id
    WHERE l.product_id = p.id AND o.status <> 'cancelled'
)
FROM products p
WHERE p.id = %(id)s::uuid
"""

# none: it reads every line that was ever sold; products_pkey for the few that are shown
_TOP_PRODUCTS = """
SELECT p.id::text, p.name, s.sold, s.revenue_cents
FROM (
    SELECT l.product_id, sum(l.quantity)::bigint AS sold, sum(l.quantity * l.unit_price_cents)::bigint AS revenue_cents
    FROM order_lines l
    JOIN orders o ON o.id = l.order_id
    WHERE o.status <> 'cancelled'
    GROUP BY l.product_id
    ORDER BY revenue_cents DESC, l.product_id
    LIMIT %(limit)s
) s
JOIN products p ON p.id = s.product_id
ORDER BY s.revenue_cents DESC, p.id
"""

# orders_by_day read backwards until there are days enough
_DAILY_SALES = """
SELECT (placed_at AT TIME ZONE 'UTC')::date, count(*), sum(total_cents)::bigint
FROM orders
WHERE status <> 'cancelled'
GROUP BY (placed_at AT TIME ZONE 'UTC')::date
ORDER BY (placed_at AT TIME ZONE 'UTC')::date DESC
LIMIT %(days)s
"""

# customers_by_word, orders_by_customer; products_by_word, order_lines_by_product; then orders_pkey. It reads and
# sorts all that match: with a very common word, all orders
_SEARCH = """
SELECT o.id::text, o.version, o.status, o.placed_at, o.line_count, o.total_cents
FROM orders o
WHERE {every_word}
ORDER BY o.placed_at DESC, o.id DESC
LIMIT %(limit)s
"""
_WITH_WORD = """o.id IN (
    SELECT c.id FROM orders c
    WHERE c.customer_id IN (SELECT id FROM customers WHERE words @> ARRAY[%(w{n})s::text])
    UNION
    SELECT l.order_id FROM order_lines l
    WHERE l.product_id IN (SELECT id FROM products WHERE words @> ARRAY[%(w{n})s::text])
)"""


@lru_cache
def _search_sql(words: int) -> str:
    return _SEARCH.format(every_word="\nAND ".join(_WITH_WORD.format(n=n) for n in range(words)))


class TruthReads:
    """Answers every query from the truth; `rows` runs one statement by itself and gives all its rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._views: dict[type, Callable[[Any], Awaitable[msgspec.Struct | None]]] = {
            GetOrder: self._order,
            GetHistory: self._history,
            GetCustomer: self._customer,
            ListOrders: self._page,
            GetProduct: self._product,
            TopProducts: self._top_products,
            DailySales: self._daily_sales,
            SearchOrders: self._found_orders,
        }

    async def answer(self, query: Query) -> QueryResult:
        view = await self._views[type(query)](query)
        return QueryResult(None if view is None else _encode(view))

    async def _order(self, query: GetOrder) -> OrderView | None:
        rows = await self._rows(_ORDER, {"id": query.id})
        if not rows:
            return None
        order_id, version, status, placed_at, total_cents, customer_id, customer_name = rows[0][:7]
        lines = tuple(Line(*row[7:]) for row in rows)
        customer = CustomerRef(customer_id, customer_name)
        return OrderView(order_id, version, status, time_text(placed_at), customer, lines, total_cents)

    async def _history(self, query: GetHistory) -> HistoryView | None:
        rows = await self._rows(_HISTORY, {"id": query.id})
        if not rows:
            return None
        happened = [(what, at) for what, at in zip(_CHANGES, rows[0], strict=True) if at is not None]
        return HistoryView(
            tuple(Change(version, what, time_text(at)) for version, (what, at) in enumerate(happened, 1))
        )

    async def _customer(self, query: GetCustomer) -> CustomerView | None:
        rows = await self._rows(_CUSTOMER, {"id": query.id})
        if not rows:
            return None
        customer_id, version, name, orders, spent_cents, last_at = rows[0]
        last_order_at = None if last_at is None else time_text(last_at)
        return CustomerView(customer_id, version, name, orders, spent_cents, last_order_at)

    async def _page(self, query: ListOrders) -> OrderPage | None:
        params: dict[str, object] = {"id": query.id, "limit": query.limit + 1}  # one more tells whether there is more
        if query.after is None:
            rows = await self._rows(_FIRST_PAGE, params)
        else:
            params["placed_at"], params["after_id"] = query.after
            rows = await self._rows(_NEXT_PAGE, params)
        if not rows:
            return None
        items = _items(row for row in rows[: query.limit] if row[0] is not None)
        more = len(rows) > query.limit
        return OrderPage(items, cursor_text(items[-1].placed_at, items[-1].id) if more else None)

    async def _product(self, query: GetProduct) -> ProductView | None:
        rows = await self._rows(_PRODUCT, {"id": query.id})
        return ProductView(*rows[0]) if rows else None

    async def _top_products(self, query: TopProducts) -> TopProductsView:
        rows = await self._rows(_TOP_PRODUCTS, {"limit": query.limit})
        return TopProductsView(tuple(TopProduct(*row) for row in rows))

    async def _daily_sales(self, query: DailySales) -> DailySalesView:
        rows = await self._rows(_DAILY_SALES, {"days": query.days})
        return DailySalesView(
            tuple(DaySales(day.isoformat(), orders, revenue_cents) for day, orders, revenue_cents in rows)
        )

    async def _found_orders(self, query: SearchOrders) -> FoundOrders:
        params: dict[str, object] = {f"w{n}": word for n, word in enumerate(query.words)}
        rows = await self._rows(_search_sql(len(query.words)), params | {"limit": query.limit})
        return FoundOrders(_items(rows))


def _items(rows: Iterable[Any]) -> tuple[OrderItem, ...]:
    return tuple(
        OrderItem(order_id, version, status, time_text(placed_at), lines, total_cents)
        for order_id, version, status, placed_at, lines, total_cents in rows
    )
