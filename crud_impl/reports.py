"""Reports and search over all orders. Nothing is precomputed: each query reads the rows it aggregates."""

from functools import lru_cache

from contract.messages import DailySalesView, DaySales, FoundOrders, SearchOrders, TopProduct, TopProductsView
from crud_impl.connections import Rows
from crud_impl.orders import items

# No index helps: it reads every order line. products_pkey finds the few products that are shown.
TOP_PRODUCTS = """
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
ORDER BY s.revenue_cents DESC, p.id"""


async def top_products(rows: Rows, limit: int) -> TopProductsView:
    return TopProductsView(tuple(TopProduct(*row) for row in await rows(TOP_PRODUCTS, {"limit": limit})))


# orders_by_day, read backwards until there are enough days
DAILY_SALES = """
SELECT (placed_at AT TIME ZONE 'UTC')::date, count(*), sum(total_cents)::bigint
FROM orders
WHERE status <> 'cancelled'
GROUP BY (placed_at AT TIME ZONE 'UTC')::date
ORDER BY (placed_at AT TIME ZONE 'UTC')::date DESC
LIMIT %(days)s"""


async def daily_sales(rows: Rows, days: int) -> DailySalesView:
    found = await rows(DAILY_SALES, {"days": days})
    return DailySalesView(tuple(DaySales(day.isoformat(), orders, revenue) for day, orders, revenue in found))


# customers_by_word, orders_by_customer; products_by_word, order_lines_by_product; then orders_pkey. It reads and
# sorts all matching orders: for a very common word, nearly all there are.
SEARCH = """
SELECT o.id::text, o.version, o.status, o.placed_at, o.line_count, o.total_cents
FROM orders o
WHERE {every_word}
ORDER BY o.placed_at DESC, o.id DESC
LIMIT %(limit)s"""
WITH_WORD = """o.id IN (
    SELECT c.id FROM orders c
    WHERE c.customer_id IN (SELECT id FROM customers WHERE words @> ARRAY[%(w{n})s::text])
    UNION
    SELECT l.order_id FROM order_lines l
    WHERE l.product_id IN (SELECT id FROM products WHERE words @> ARRAY[%(w{n})s::text]))"""


async def search(rows: Rows, query: SearchOrders) -> FoundOrders:
    params = {f"w{n}": word for n, word in enumerate(query.words)}
    return FoundOrders(items(await rows(_search_sql(len(query.words)), params | {"limit": query.limit})))


@lru_cache
def _search_sql(words: int) -> str:
    return SEARCH.format(every_word="\nAND ".join(WITH_WORD.format(n=n) for n in range(words)))
