"""Orders: how they are written and read.

Products are always locked in the order of their ids, so that two commands cannot deadlock on them.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from contract import rules
from contract.errors import Refusal
from contract.messages import (
    Change,
    CustomerRef,
    HistoryView,
    Line,
    ListOrders,
    OrderCancelled,
    OrderItem,
    OrderPage,
    OrderPaid,
    OrderShipped,
    OrderView,
    PlaceOrder,
    Status,
    Transition,
    Wanted,
)
from contract.text import cursor_text, time_text
from crud_impl.connections import Rows, Transaction
from crud_impl.effect import Effect, changed, repeated

# The customer is read without a lock here; the foreign key of the insert locks the row.
LOCK_PRODUCTS = """
SELECT id::text, version, name, price_cents, stock, added_price_cents, added_stock,
       EXISTS (SELECT FROM customers WHERE id = %(customer)s), EXISTS (SELECT FROM orders WHERE id = %(order)s)
FROM products p WHERE id = ANY(%(products)s::uuid[]) ORDER BY p.id FOR NO KEY UPDATE"""
KNOWN_CUSTOMER = "SELECT FROM customers WHERE id = %(id)s"
# One statement for the order, its lines and the stock they take.
INSERT = """
WITH placed AS (
    INSERT INTO orders (id, version, status, customer_id, placed_at, line_count, total_cents)
    VALUES (%(id)s, 1, 'placed', %(customer)s, %(at)s, %(count)s, %(total)s)
), line AS (
    INSERT INTO order_lines (order_id, position, product_id, quantity, unit_price_cents)
    SELECT %(id)s::uuid, l.position, l.product_id, l.quantity, l.price
    FROM unnest(%(products)s::uuid[], %(quantities)s::int[], %(prices)s::bigint[])
         WITH ORDINALITY AS l (product_id, quantity, price, position)
    RETURNING product_id, quantity)
UPDATE products SET stock = stock - line.quantity FROM line WHERE id = line.product_id"""


async def place(transaction: Transaction, command: PlaceOrder, now: datetime) -> Effect:
    """Place an order, usually in two statements. Of two concurrent placements of one order, the insert of the second
    fails; its transaction is then run again and finds the order."""
    product_ids = [line.product_id for line in command.lines]
    ids = {"order": command.id, "customer": command.customer_id, "products": product_ids}
    rows = await transaction.rows(LOCK_PRODUCTS, **ids)
    products = {row[0]: rules.Product(*row[:7]) for row in rows}
    customer_known, placed_before = rows[0][7:] if rows else (await _known(transaction, command.customer_id), True)
    order = await find(transaction, command.id) if placed_before else None
    try:
        event = rules.place(order, customer_known, products, command, now)
    except Refusal:
        # A concurrent placement of this same order may have taken the stock while this one waited for the locks.
        if order is not None or (order := await find(transaction, command.id)) is None:
            raise
        event = rules.place(order, customer_known, products, command, now)
    if event is None:
        assert order is not None, "a repeat has an order"
        return repeated(order.id, order.version)
    await transaction.send(
        INSERT,
        id=event.id,
        customer=event.customer_id,
        at=event.at,
        count=len(event.lines),
        total=event.total_cents,
        products=product_ids,
        quantities=[line.quantity for line in event.lines],
        prices=[line.unit_price_cents for line in event.lines],
    )
    return changed(event)


async def _known(transaction: Transaction, customer_id: str) -> bool:
    return await transaction.first(KNOWN_CUSTOMER, id=customer_id) is not None


FIND = """
SELECT o.version, o.status, o.paid_at IS NOT NULL, o.customer_id::text,
       array_agg(l.product_id::text ORDER BY l.position), array_agg(l.quantity ORDER BY l.position)
FROM orders o JOIN order_lines l ON l.order_id = o.id WHERE o.id = %(id)s GROUP BY o.id"""


async def find(transaction: Transaction, order_id: str) -> rules.Order | None:
    row = await transaction.first(FIND, id=order_id)
    if row is None:
        return None
    version, status, paid, customer_id, product_ids, quantities = row
    return rules.Order(order_id, version, status, paid, customer_id, tuple(map(Wanted, product_ids, quantities)))


LOCK = """
SELECT version, status, paid_at IS NOT NULL, customer_id::text FROM orders WHERE id = %(id)s FOR NO KEY UPDATE"""
PAY = "UPDATE orders SET version = %(version)s, status = 'paid', paid_at = %(at)s WHERE id = %(id)s"
SHIP = "UPDATE orders SET version = %(version)s, status = 'shipped', shipped_at = %(at)s WHERE id = %(id)s"
CANCEL = "UPDATE orders SET version = %(version)s, status = 'cancelled', cancelled_at = %(at)s WHERE id = %(id)s"
LOCK_ORDERED = """
SELECT p.id FROM products p WHERE p.id IN (SELECT product_id FROM order_lines WHERE order_id = %(id)s)
ORDER BY p.id FOR NO KEY UPDATE"""
RETURN_STOCK = """
UPDATE products p SET stock = p.stock + l.quantity FROM order_lines l
WHERE l.order_id = %(id)s AND p.id = l.product_id"""


async def advance(transaction: Transaction, command: Transition, now: datetime) -> Effect:
    """Pay, ship or cancel."""
    row = await transaction.first(LOCK, id=command.id)
    order = row and rules.Order(command.id, row[0], row[1], row[2], row[3], ())
    event = rules.advance(order, command, now)
    match event:
        case None:
            return repeated(command.id, order.version)
        case OrderPaid():
            await transaction.send(PAY, id=command.id, version=event.version, at=now)
        case OrderShipped():
            await transaction.send(SHIP, id=command.id, version=event.version, at=now)
        case OrderCancelled():
            await transaction.send(CANCEL, id=command.id, version=event.version, at=now)
            await transaction.send(LOCK_ORDERED, id=command.id)
            await transaction.send(RETURN_STOCK, id=command.id)
    return changed(event)


# The primary keys of all four tables.
SHOW = """
SELECT o.id::text, o.version, o.status, o.placed_at, o.total_cents, c.id::text, c.name,
       p.id::text, p.name, l.quantity, l.unit_price_cents, l.quantity * l.unit_price_cents
FROM orders o
JOIN customers c ON c.id = o.customer_id
JOIN order_lines l ON l.order_id = o.id
JOIN products p ON p.id = l.product_id
WHERE o.id = %(id)s::uuid
ORDER BY l.position"""


async def show(rows: Rows, order_id: str) -> OrderView | None:
    found = await rows(SHOW, {"id": order_id})
    if not found:
        return None
    id, version, status, placed_at, total_cents, customer_id, customer_name = found[0][:7]
    lines = tuple(Line(*row[7:]) for row in found)
    customer = CustomerRef(customer_id, customer_name)
    return OrderView(id, version, status, time_text(placed_at), customer, lines, total_cents)


# orders_pkey
HISTORY = "SELECT placed_at, paid_at, shipped_at, cancelled_at FROM orders WHERE id = %(id)s::uuid"
STEPS: tuple[Status, ...] = ("placed", "paid", "shipped", "cancelled")  # the columns of HISTORY, in chronological order


async def history(rows: Rows, order_id: str) -> HistoryView | None:
    for times in await rows(HISTORY, {"id": order_id}):
        return changes(times)
    return None


def changes(times: Iterable[datetime | None]) -> HistoryView:
    """From the times of STEPS, in that order."""
    taken = [(what, at) for what, at in zip(STEPS, times, strict=True) if at is not None]
    return HistoryView(tuple(Change(version, what, time_text(at)) for version, (what, at) in enumerate(taken, 1)))


# customers_pkey; orders_by_customer, read from the start of the page. A customer without orders gives a row of nulls.
# ORDER BY qualifies its columns: a bare `id` would be the output column (the id as text), which has no index.
PAGE = """
SELECT o.id::text, o.version, o.status, o.placed_at, o.line_count, o.total_cents
FROM customers c
LEFT JOIN LATERAL (
    SELECT * FROM orders
    WHERE customer_id = c.id {after}
    ORDER BY placed_at DESC, id DESC
    LIMIT %(limit)s
) o ON true
WHERE c.id = %(id)s::uuid
ORDER BY o.placed_at DESC, o.id DESC"""
FIRST_PAGE = PAGE.format(after="")
NEXT_PAGE = PAGE.format(after="AND (placed_at, id) < (%(placed_at)s::timestamptz, %(after_id)s::uuid)")


async def page(rows: Rows, query: ListOrders) -> OrderPage | None:
    params: dict[str, Any] = {"id": query.id, "limit": query.limit + 1}  # one extra row: is there a next page?
    if query.after is None:
        found = await rows(FIRST_PAGE, params)
    else:
        params["placed_at"], params["after_id"] = query.after
        found = await rows(NEXT_PAGE, params)
    return page_of([row for row in found if row[0] is not None], query.limit) if found else None


def page_of(rows: Sequence[Any], limit: int) -> OrderPage:
    """Of rows as `items` takes them, one more than the limit if there is a next page."""
    shown = items(rows[:limit])
    return OrderPage(shown, cursor_text(shown[-1].placed_at, shown[-1].id) if len(rows) > limit else None)


def items(rows: Iterable[Any]) -> tuple[OrderItem, ...]:
    return tuple(
        OrderItem(id, version, status, time_text(placed_at), lines, total_cents)
        for id, version, status, placed_at, lines, total_cents in rows
    )
