"""Products: how they are written and read. Each command locks its product before it decides."""

from contract import rules
from contract.messages import AddProduct, DeliverStock, ProductView, RepriceProduct
from contract.text import words
from crud_impl.connections import Rows, Transaction
from crud_impl.effect import Effect, changed, repeated

INSERT = """
INSERT INTO products (id, version, name, words, price_cents, stock, added_price_cents, added_stock)
VALUES (%(id)s, 1, %(name)s, %(words)s, %(price)s, %(stock)s, %(price)s, %(stock)s)
ON CONFLICT (id) DO NOTHING RETURNING id"""
LOCK = """
SELECT id::text, version, name, price_cents, stock, added_price_cents, added_stock
FROM products WHERE id = %(id)s FOR NO KEY UPDATE"""


async def add(transaction: Transaction, command: AddProduct) -> Effect:
    event = rules.add_product(None, command)
    assert event is not None, "a new product has an event"
    row = {"id": command.id, "name": command.name, "price": command.price_cents, "stock": command.stock}
    if await transaction.first(INSERT, **row, words=list(words(command.name))):
        return changed(event)
    product = await _locked(transaction, command.id)
    assert product is not None, "what stood in the way of the insert is there"
    rules.add_product(product, command)
    return repeated(command.id, product.version)


REPRICE = "UPDATE products SET version = %(version)s, price_cents = %(price)s WHERE id = %(id)s"


async def reprice(transaction: Transaction, command: RepriceProduct) -> Effect:
    product = await _locked(transaction, command.id)
    event = rules.reprice(product, command)
    if event is None:
        assert product is not None, "a repeat has a product"
        return repeated(command.id, product.version)
    await transaction.send(REPRICE, id=command.id, version=event.version, price=event.price_cents)
    return changed(event)


FIND_DELIVERY = "SELECT quantity FROM deliveries WHERE product_id = %(id)s AND delivery_id = %(delivery)s"
INSERT_DELIVERY = """
INSERT INTO deliveries (product_id, delivery_id, quantity) VALUES (%(id)s, %(delivery)s, %(quantity)s)"""
ADD_STOCK = "UPDATE products SET version = %(version)s, stock = stock + %(quantity)s WHERE id = %(id)s"


async def deliver(transaction: Transaction, command: DeliverStock) -> Effect:
    product = await _locked(transaction, command.id)  # the lock serialises two equal deliveries
    before = await transaction.first(FIND_DELIVERY, id=command.id, delivery=command.delivery_id)
    event = rules.deliver(product, before and before[0], command)
    if event is None:
        assert product is not None, "a repeat has a product"
        return repeated(command.id, product.version)
    quantity = event.quantity
    await transaction.send(INSERT_DELIVERY, id=command.id, delivery=command.delivery_id, quantity=quantity)
    await transaction.send(ADD_STOCK, id=command.id, version=event.version, quantity=quantity)
    return changed(event)


async def _locked(transaction: Transaction, product_id: str) -> rules.Product | None:
    row = await transaction.first(LOCK, id=product_id)
    return row and rules.Product(*row)


# products_pkey, order_lines_by_product, orders_pkey
SHOW = """
SELECT p.id::text, p.version, p.name, p.price_cents, p.stock, (
    SELECT coalesce(sum(l.quantity), 0)::bigint
    FROM order_lines l
    JOIN orders o ON o.id = l.order_id
    WHERE l.product_id = p.id AND o.status <> 'cancelled')
FROM products p
WHERE p.id = %(id)s::uuid"""


async def show(rows: Rows, product_id: str) -> ProductView | None:
    for row in await rows(SHOW, {"id": product_id}):
        return ProductView(*row)
    return None
