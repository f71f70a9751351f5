"""Read tables shaped like the answers, brought up to date inside the command's own transaction.

Nothing can lag, and each command pays for every view it touches: locks of counters that many orders share (a
customer's, a product's, a day's) are held until the commit. All take them in the order customer, product, day, order.
"""

from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.messages import (
    CustomerRegistered,
    CustomerRenamed,
    Event,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
    ProductAdded,
    ProductRepriced,
    StockDelivered,
)
from contract.position import START, Position
from contract.text import time_text, words

VIEW_TABLES = """
CREATE TABLE IF NOT EXISTS customer_views (
    id uuid PRIMARY KEY, version int NOT NULL, name text NOT NULL,
    orders int NOT NULL, spent_cents bigint NOT NULL, last_order_at timestamptz
) WITH (fillfactor = 70);
CREATE TABLE IF NOT EXISTS product_views (
    id uuid PRIMARY KEY, version int NOT NULL, name text NOT NULL, price_cents bigint NOT NULL,
    stock bigint NOT NULL, sold bigint NOT NULL, revenue_cents bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS product_views_by_revenue ON product_views (revenue_cents DESC, id) WHERE sold > 0;
CREATE TABLE IF NOT EXISTS day_views (
    day date PRIMARY KEY, orders int NOT NULL, revenue_cents bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS order_views (
    id uuid PRIMARY KEY, version int NOT NULL, status text NOT NULL, placed_at timestamptz NOT NULL,
    customer_id uuid NOT NULL, customer_name text NOT NULL,
    lines text NOT NULL,              -- the answer's JSON
    line_count int NOT NULL, total_cents bigint NOT NULL,
    changes text NOT NULL             -- the answer's JSON, without its last bracket
) WITH (fillfactor = 80);
CREATE INDEX IF NOT EXISTS order_views_by_customer ON order_views (customer_id, placed_at DESC, id DESC);
CREATE TABLE IF NOT EXISTS word_views (
    word text NOT NULL, placed_at timestamptz NOT NULL, order_id uuid NOT NULL,
    of_customer boolean NOT NULL,     -- else of a product, which no rename takes away
    PRIMARY KEY (word, placed_at, order_id, of_customer)
);
"""

REGISTER = "INSERT INTO customer_views VALUES (%(id)s, %(version)s, %(name)s, 0, 0, NULL)"
# The row's lock makes orders on their way finish first, so that the fan-out sees them.
OLD_NAME = "SELECT name FROM customer_views WHERE id = %(id)s FOR NO KEY UPDATE"
RENAME = "UPDATE customer_views SET version = %(version)s, name = %(name)s WHERE id = %(id)s"
RENAME_ORDERS = "UPDATE order_views SET customer_name = %(name)s WHERE customer_id = %(id)s"
FORGET_WORDS = """
DELETE FROM word_views w USING order_views o WHERE o.customer_id = %(id)s AND w.word = ANY(%(words)s::text[])
AND w.placed_at = o.placed_at AND w.order_id = o.id AND w.of_customer"""
LEARN_WORDS = """
INSERT INTO word_views SELECT word, placed_at, id, true FROM order_views, unnest(%(words)s::text[]) AS word
WHERE customer_id = %(id)s"""

ADD = """
INSERT INTO product_views VALUES (%(id)s, %(version)s, %(name)s, %(price)s, %(stock)s, 0, 0)"""
REPRICE = "UPDATE product_views SET version = %(version)s, price_cents = %(price)s WHERE id = %(id)s"
DELIVER = "UPDATE product_views SET version = %(version)s, stock = stock + %(quantity)s WHERE id = %(id)s"

COUNT_CUSTOMER = """
UPDATE customer_views SET orders = orders + 1, spent_cents = spent_cents + %(total)s,
       last_order_at = greatest(last_order_at, %(at)s) WHERE id = %(customer)s RETURNING name"""
COUNT_PRODUCTS = """
UPDATE product_views p SET stock = p.stock - l.quantity, sold = p.sold + l.quantity,
       revenue_cents = p.revenue_cents + l.amount
FROM unnest(%(products)s::uuid[], %(quantities)s::int[], %(amounts)s::bigint[]) AS l (id, quantity, amount)
WHERE p.id = l.id"""
COUNT_DAY = """
INSERT INTO day_views VALUES ((%(at)s::timestamptz AT TIME ZONE 'UTC')::date, 1, %(total)s)
ON CONFLICT (day) DO UPDATE SET orders = day_views.orders + 1,
    revenue_cents = day_views.revenue_cents + excluded.revenue_cents"""
SHOW_ORDER = """
WITH shown AS (
    INSERT INTO order_views VALUES (%(id)s, 1, 'placed', %(at)s, %(customer)s, %(name)s, %(lines)s, %(count)s,
                                    %(total)s, %(changes)s))
INSERT INTO word_views
SELECT word, %(at)s, %(id)s, true FROM unnest(%(name_words)s::text[]) AS word
UNION ALL SELECT word, %(at)s, %(id)s, false FROM unnest(%(product_words)s::text[]) AS word"""
ADVANCE = """
UPDATE order_views SET version = %(version)s, status = %(status)s, changes = changes || %(change)s WHERE id = %(id)s"""
UNCOUNT_CUSTOMER = """
UPDATE customer_views c SET orders = c.orders - 1, spent_cents = c.spent_cents - o.total_cents, last_order_at = (
    SELECT max(placed_at) FROM order_views WHERE customer_id = c.id AND status <> 'cancelled' AND id <> %(id)s)
FROM orders o WHERE o.id = %(id)s AND c.id = o.customer_id"""
# The customer's row is locked before its orders are looked at again, or an order just placed would be missed.
HOLD_CUSTOMER = """
SELECT FROM customer_views WHERE id = (SELECT customer_id FROM orders WHERE id = %(id)s) FOR NO KEY UPDATE"""
UNCOUNT_PRODUCTS = """
UPDATE product_views p SET stock = p.stock + l.quantity, sold = p.sold - l.quantity,
       revenue_cents = p.revenue_cents - l.quantity * l.unit_price_cents
FROM order_lines l WHERE l.order_id = %(id)s AND p.id = l.product_id"""
UNCOUNT_DAY = """
UPDATE day_views d SET orders = d.orders - 1, revenue_cents = d.revenue_cents - o.total_cents
FROM orders o WHERE o.id = %(id)s AND d.day = (o.placed_at AT TIME ZONE 'UTC')::date"""

# Everything anew from the truth, in one transaction: what a filled or a mended truth needs.
REBUILD = """
TRUNCATE customer_views, product_views, day_views, order_views, word_views;
INSERT INTO customer_views
SELECT c.id, c.version, c.name, count(o.id), coalesce(sum(o.total_cents), 0), max(o.placed_at)
FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.status <> 'cancelled' GROUP BY c.id;
INSERT INTO product_views
SELECT p.id, p.version, p.name, p.price_cents, p.stock, coalesce(sum(l.quantity), 0),
       coalesce(sum(l.quantity * l.unit_price_cents), 0)
FROM products p LEFT JOIN (
    order_lines l JOIN orders o ON o.id = l.order_id AND o.status <> 'cancelled') ON l.product_id = p.id GROUP BY p.id;
INSERT INTO day_views
SELECT (placed_at AT TIME ZONE 'UTC')::date, count(*), sum(total_cents) FROM orders WHERE status <> 'cancelled'
GROUP BY 1;
INSERT INTO order_views
SELECT o.id, o.version, o.status, o.placed_at, c.id, c.name,
       (SELECT '[' || string_agg('{"product_id":"' || p.id || '","product_name":' || to_json(p.name)
               || ',"quantity":' || l.quantity || ',"unit_price_cents":' || l.unit_price_cents
               || ',"amount_cents":' || l.quantity * l.unit_price_cents || '}', ',' ORDER BY l.position) || ']'
        FROM order_lines l JOIN products p ON p.id = l.product_id WHERE l.order_id = o.id),
       o.line_count, o.total_cents,
       (SELECT '[' || string_agg('{"version":' || version || ',"what":"' || what || '","at":"'
               || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '"}', ',' ORDER BY version)
        FROM (SELECT row_number() OVER (ORDER BY step) AS version, what, at FROM (VALUES
                (1, 'placed', o.placed_at), (2, 'paid', o.paid_at), (3, 'shipped', o.shipped_at),
                (4, 'cancelled', o.cancelled_at)) AS steps (step, what, at) WHERE at IS NOT NULL) AS change)
FROM orders o JOIN customers c ON c.id = o.customer_id;
INSERT INTO word_views
SELECT word, o.placed_at, o.id, true FROM orders o JOIN customers c ON c.id = o.customer_id, unnest(c.words) AS word
UNION SELECT word, o.placed_at, o.id, false FROM orders o JOIN order_lines l ON l.order_id = o.id
JOIN products p ON p.id = l.product_id, unnest(p.words) AS word;
ANALYZE customer_views, product_views, day_views, order_views, word_views;
"""

_json = msgspec.json.Encoder().encode


class ViewTables:
    """A journal whose entries are the views themselves."""

    async def latest(self, connection: AsyncConnection) -> Position:
        return START

    async def record(self, connection: AsyncConnection, event: Event) -> Position:
        async def run(sql: str, **params: Any) -> Any:
            return await connection.exec_driver_sql(sql, params)

        match event:
            case CustomerRegistered():
                await run(REGISTER, id=event.id, version=1, name=event.name)
            case CustomerRenamed():
                old = (await run(OLD_NAME, id=event.id)).scalar_one()
                await run(RENAME, id=event.id, version=event.version, name=event.name)
                await run(RENAME_ORDERS, id=event.id, name=event.name)
                await run(FORGET_WORDS, id=event.id, words=list(words(old)))
                await run(LEARN_WORDS, id=event.id, words=list(words(event.name)))
            case ProductAdded():
                await run(ADD, id=event.id, version=1, name=event.name, price=event.price_cents, stock=event.stock)
            case ProductRepriced():
                await run(REPRICE, id=event.id, version=event.version, price=event.price_cents)
            case StockDelivered():
                await run(DELIVER, id=event.id, version=event.version, quantity=event.quantity)
            case OrderPlaced():
                total, at = event.total_cents, event.at
                name = (await run(COUNT_CUSTOMER, customer=event.customer_id, total=total, at=at)).scalar_one()
                await run(
                    COUNT_PRODUCTS,
                    products=[line.product_id for line in event.lines],
                    quantities=[line.quantity for line in event.lines],
                    amounts=[line.amount_cents for line in event.lines],
                )
                await run(COUNT_DAY, at=at, total=total)
                await run(
                    SHOW_ORDER,
                    id=event.id,
                    at=at,
                    customer=event.customer_id,
                    name=name,
                    lines=_json(event.lines).decode(),
                    count=len(event.lines),
                    total=total,
                    changes="[" + _change(1, "placed", event),
                    name_words=list(words(name)),
                    product_words=list({word for line in event.lines for word in words(line.product_name)}),
                )
            case OrderPaid():
                await self._advance(run, event, "paid")
            case OrderShipped():
                await self._advance(run, event, "shipped")
            case OrderCancelled():
                await run(HOLD_CUSTOMER, id=event.id)
                await run(UNCOUNT_CUSTOMER, id=event.id)
                await run(UNCOUNT_PRODUCTS, id=event.id)
                await run(UNCOUNT_DAY, id=event.id)
                await self._advance(run, event, "cancelled")
        return START

    async def _advance(self, run: Any, event: OrderPaid | OrderShipped | OrderCancelled, status: str) -> None:
        change = "," + _change(event.version, status, event)
        await run(ADVANCE, id=event.id, version=event.version, status=status, change=change)


def _change(version: int, what: str, event: OrderPlaced | OrderPaid | OrderShipped | OrderCancelled) -> str:
    return _json({"version": version, "what": what, "at": time_text(event.at)}).decode()
