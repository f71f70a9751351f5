"""How the truth changes in PostgreSQL: the statements of every command, shared by every rung that keeps state.

Each command locks the thing it is about before it writes anything, and products in the order of their ids, so
that no two commands wait for each other in a circle. The rules decide; these functions load and save.
"""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from contract import rules
from contract.errors import Refusal
from contract.messages import (
    AddProduct,
    CancelOrder,
    Command,
    CustomerRegistered,
    DeliverStock,
    Event,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
    PayOrder,
    PlaceOrder,
    ProductAdded,
    Receipt,
    RegisterCustomer,
    RenameCustomer,
    RepriceProduct,
    ShipOrder,
    StockDelivered,
    Transition,
    Wanted,
)
from contract.text import words


class Effect(NamedTuple):
    """What a command did: `event` is None when it was a repeat."""

    receipt: Receipt
    event: Event | None

    @property
    def created(self) -> bool:
        return isinstance(self.event, CustomerRegistered | ProductAdded | StockDelivered | OrderPlaced)


async def carry_out(connection: AsyncConnection, command: Command, now: datetime) -> Effect:
    """Carry out one command inside the caller's transaction; raises the contract's refusals."""
    match command:
        case RegisterCustomer():
            return await _register(connection, command)
        case RenameCustomer():
            return await _rename(connection, command)
        case AddProduct():
            return await _add_product(connection, command)
        case RepriceProduct():
            return await _reprice(connection, command)
        case DeliverStock():
            return await _deliver(connection, command)
        case PlaceOrder():
            return await _place(connection, command, now)
        case PayOrder() | ShipOrder() | CancelOrder():
            return await _advance(connection, command, now)


async def _one(connection: AsyncConnection, sql: str, **params: Any) -> Any:
    return (await connection.exec_driver_sql(sql, params)).first()


async def _run(connection: AsyncConnection, sql: str, **params: Any) -> None:
    await connection.exec_driver_sql(sql, params)


# Customers

INSERT_CUSTOMER = """
INSERT INTO customers (id, version, name, words, registered_name)
VALUES (%(id)s, 1, %(name)s, %(words)s, %(name)s) ON CONFLICT (id) DO NOTHING RETURNING id"""
LOCK_CUSTOMER = "SELECT version, name, registered_name FROM customers WHERE id = %(id)s FOR NO KEY UPDATE"
RENAME_CUSTOMER = "UPDATE customers SET version = %(version)s, name = %(name)s, words = %(words)s WHERE id = %(id)s"


async def _customer(connection: AsyncConnection, customer_id: str) -> rules.Customer | None:
    row = await _one(connection, LOCK_CUSTOMER, id=customer_id)
    return row and rules.Customer(customer_id, *row)


async def _register(connection: AsyncConnection, command: RegisterCustomer) -> Effect:
    # Insert first: of two that register one id at once, the second waits here and then sees the first.
    event = rules.register(None, command)
    name_words = list(words(command.name))
    if await _one(connection, INSERT_CUSTOMER, id=command.id, name=command.name, words=name_words):
        return Effect(Receipt(command.id, 1), event)
    customer = await _customer(connection, command.id)
    assert customer is not None, "what stood in the way of the insert is there"
    rules.register(customer, command)
    return Effect(Receipt(command.id, customer.version), None)


async def _rename(connection: AsyncConnection, command: RenameCustomer) -> Effect:
    customer = await _customer(connection, command.id)
    event = rules.rename(customer, command)
    if event is None:
        assert customer is not None
        return Effect(Receipt(command.id, customer.version), None)
    await _run(
        connection,
        RENAME_CUSTOMER,
        id=command.id,
        version=event.version,
        name=event.name,
        words=list(words(event.name)),
    )
    return Effect(Receipt(command.id, event.version), event)


# Products

INSERT_PRODUCT = """
INSERT INTO products (id, version, name, words, price_cents, stock, added_price_cents, added_stock)
VALUES (%(id)s, 1, %(name)s, %(words)s, %(price)s, %(stock)s, %(price)s, %(stock)s)
ON CONFLICT (id) DO NOTHING RETURNING id"""
LOCK_PRODUCT = """
SELECT id::text, version, name, price_cents, stock, added_price_cents, added_stock
FROM products WHERE id = %(id)s FOR NO KEY UPDATE"""
REPRICE_PRODUCT = "UPDATE products SET version = %(version)s, price_cents = %(price)s WHERE id = %(id)s"
FIND_DELIVERY = "SELECT quantity FROM deliveries WHERE product_id = %(id)s AND delivery_id = %(delivery)s"
INSERT_DELIVERY = """
INSERT INTO deliveries (product_id, delivery_id, quantity) VALUES (%(id)s, %(delivery)s, %(quantity)s)"""
ADD_STOCK = "UPDATE products SET version = %(version)s, stock = stock + %(quantity)s WHERE id = %(id)s"


async def _product(connection: AsyncConnection, product_id: str) -> rules.Product | None:
    row = await _one(connection, LOCK_PRODUCT, id=product_id)
    return row and rules.Product(*row)


async def _add_product(connection: AsyncConnection, command: AddProduct) -> Effect:
    event = rules.add_product(None, command)
    added = await _one(
        connection,
        INSERT_PRODUCT,
        id=command.id,
        name=command.name,
        words=list(words(command.name)),
        price=command.price_cents,
        stock=command.stock,
    )
    if added:
        return Effect(Receipt(command.id, 1), event)
    product = await _product(connection, command.id)
    assert product is not None, "what stood in the way of the insert is there"
    rules.add_product(product, command)
    return Effect(Receipt(command.id, product.version), None)


async def _reprice(connection: AsyncConnection, command: RepriceProduct) -> Effect:
    product = await _product(connection, command.id)
    event = rules.reprice(product, command)
    if event is None:
        assert product is not None
        return Effect(Receipt(command.id, product.version), None)
    await _run(connection, REPRICE_PRODUCT, id=command.id, version=event.version, price=event.price_cents)
    return Effect(Receipt(command.id, event.version), event)


async def _deliver(connection: AsyncConnection, command: DeliverStock) -> Effect:
    product = await _product(connection, command.id)  # its lock keeps two equal deliveries apart
    before = await _one(connection, FIND_DELIVERY, id=command.id, delivery=command.delivery_id)
    event = rules.deliver(product, before and before[0], command)
    if event is None:
        assert product is not None
        return Effect(Receipt(command.id, product.version), None)
    quantity = event.quantity
    await _run(connection, INSERT_DELIVERY, id=command.id, delivery=command.delivery_id, quantity=quantity)
    await _run(connection, ADD_STOCK, id=command.id, version=event.version, quantity=quantity)
    return Effect(Receipt(command.id, event.version), event)


# Orders

# The customer's row is only looked at; the foreign key of the insert holds it.
LOCK_PRODUCTS = """
SELECT id::text, version, name, price_cents, stock, added_price_cents, added_stock,
       EXISTS (SELECT FROM customers WHERE id = %(customer)s)
FROM products WHERE id = ANY(%(products)s::uuid[]) ORDER BY id FOR NO KEY UPDATE"""
INSERT_ORDER = """
INSERT INTO orders (id, version, status, customer_id, placed_at, line_count, total_cents)
VALUES (%(id)s, 1, 'placed', %(customer)s, %(at)s, %(count)s, %(total)s) ON CONFLICT (id) DO NOTHING RETURNING id"""
# One statement for the lines and the stock they take.
INSERT_LINES = """
WITH line AS (
    INSERT INTO order_lines (order_id, position, product_id, quantity, unit_price_cents)
    SELECT %(id)s::uuid, l.position, l.product_id, l.quantity, l.price
    FROM unnest(%(products)s::uuid[], %(quantities)s::int[], %(prices)s::bigint[])
         WITH ORDINALITY AS l (product_id, quantity, price, position)
    RETURNING product_id, quantity)
UPDATE products SET stock = stock - line.quantity FROM line WHERE id = line.product_id"""
FIND_ORDER = """
SELECT o.version, o.status, o.paid_at IS NOT NULL, o.customer_id::text,
       array_agg(l.product_id::text ORDER BY l.position), array_agg(l.quantity ORDER BY l.position)
FROM orders o JOIN order_lines l ON l.order_id = o.id WHERE o.id = %(id)s GROUP BY o.id"""
LOCK_ORDER = """
SELECT version, status, paid_at IS NOT NULL, customer_id::text FROM orders WHERE id = %(id)s FOR NO KEY UPDATE"""
LOCK_ORDERED = """
SELECT p.id FROM products p WHERE p.id IN (SELECT product_id FROM order_lines WHERE order_id = %(id)s)
ORDER BY p.id FOR NO KEY UPDATE"""
RETURN_STOCK = """
UPDATE products p SET stock = p.stock + l.quantity FROM order_lines l
WHERE l.order_id = %(id)s AND p.id = l.product_id"""
PAY = "UPDATE orders SET version = %(version)s, status = 'paid', paid_at = %(at)s WHERE id = %(id)s"
SHIP = "UPDATE orders SET version = %(version)s, status = 'shipped', shipped_at = %(at)s WHERE id = %(id)s"
CANCEL = "UPDATE orders SET version = %(version)s, status = 'cancelled', cancelled_at = %(at)s WHERE id = %(id)s"


async def _place(connection: AsyncConnection, command: PlaceOrder, now: datetime) -> Effect:
    """Three statements where nothing stands in the way; what does is looked into afterwards."""
    product_ids = [line.product_id for line in command.lines]
    locked = await connection.exec_driver_sql(LOCK_PRODUCTS, {"customer": command.customer_id, "products": product_ids})
    rows: list[Any] = [tuple(row) for row in locked]
    products = {row[0]: rules.Product(*row[:7]) for row in rows}
    customer_known = bool(rows and rows[0][7]) or (not rows and await _known(connection, command.customer_id))
    try:
        event = rules.place(None, customer_known, products, command, now)
    except Refusal:
        if (order := await find_order(connection, command.id)) is not None:
            return _repeat(order, command, now)
        raise
    assert event is not None, "a new order has an event"
    placed = await _one(
        connection,
        INSERT_ORDER,
        id=command.id,
        customer=command.customer_id,
        at=now,
        count=len(event.lines),
        total=event.total_cents,
    )
    if not placed:
        order = await find_order(connection, command.id)
        assert order is not None, "what stood in the way of the insert is there"
        return _repeat(order, command, now)
    await _run(
        connection,
        INSERT_LINES,
        id=command.id,
        products=product_ids,
        quantities=[line.quantity for line in event.lines],
        prices=[line.unit_price_cents for line in event.lines],
    )
    return Effect(Receipt(command.id, 1), event)


async def _known(connection: AsyncConnection, customer_id: str) -> bool:
    return await _one(connection, "SELECT FROM customers WHERE id = %(id)s", id=customer_id) is not None


def _repeat(order: rules.Order, command: PlaceOrder, now: datetime) -> Effect:
    rules.place(order, True, {}, command, now)
    return Effect(Receipt(order.id, order.version), None)


async def find_order(connection: AsyncConnection, order_id: str) -> rules.Order | None:
    row = await _one(connection, FIND_ORDER, id=order_id)
    if row is None:
        return None
    version, status, paid, customer_id, product_ids, quantities = row
    wanted = tuple(map(Wanted, product_ids, quantities))
    return rules.Order(order_id, version, status, paid, customer_id, wanted)


async def _advance(connection: AsyncConnection, command: Transition, now: datetime) -> Effect:
    row = await _one(connection, LOCK_ORDER, id=command.id)
    order = row and rules.Order(command.id, row[0], row[1], row[2], row[3], ())
    event = rules.advance(order, command, now)
    if event is None:
        return Effect(Receipt(command.id, order.version), None)
    match event:
        case OrderPaid():
            await _run(connection, PAY, id=command.id, version=event.version, at=now)
        case OrderShipped():
            await _run(connection, SHIP, id=command.id, version=event.version, at=now)
        case OrderCancelled():
            await _run(connection, CANCEL, id=command.id, version=event.version, at=now)
            await _run(connection, LOCK_ORDERED, id=command.id)
            await _run(connection, RETURN_STOCK, id=command.id)
    return Effect(Receipt(command.id, event.version), event)
