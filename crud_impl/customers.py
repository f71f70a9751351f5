"""Customers: how they are written and read. Each command locks its customer before it decides."""

from contract import rules
from contract.messages import CustomerView, RegisterCustomer, RenameCustomer
from contract.text import time_text, words
from crud_impl.connections import Rows, Transaction
from crud_impl.effect import Effect, changed, repeated

INSERT = """
INSERT INTO customers (id, version, name, words, registered_name)
VALUES (%(id)s, 1, %(name)s, %(words)s, %(name)s) ON CONFLICT (id) DO NOTHING RETURNING id"""
LOCK = "SELECT version, name, registered_name FROM customers WHERE id = %(id)s FOR NO KEY UPDATE"


async def register(transaction: Transaction, command: RegisterCustomer) -> Effect:
    # Insert first: of two concurrent registrations of one id, the second waits here and then finds the first.
    event = rules.register(None, command)
    assert event is not None, "a new customer has an event"
    if await transaction.first(INSERT, id=command.id, name=command.name, words=list(words(command.name))):
        return changed(event)
    customer = await _locked(transaction, command.id)
    assert customer is not None, "what stood in the way of the insert is there"
    rules.register(customer, command)
    return repeated(command.id, customer.version)


RENAME = "UPDATE customers SET version = %(version)s, name = %(name)s, words = %(words)s WHERE id = %(id)s"


async def rename(transaction: Transaction, command: RenameCustomer) -> Effect:
    customer = await _locked(transaction, command.id)
    event = rules.rename(customer, command)
    if event is None:
        assert customer is not None, "a repeat has a customer"
        return repeated(command.id, customer.version)
    new_words = list(words(event.name))
    await transaction.send(RENAME, id=command.id, version=event.version, name=event.name, words=new_words)
    return changed(event)


async def _locked(transaction: Transaction, customer_id: str) -> rules.Customer | None:
    row = await transaction.first(LOCK, id=customer_id)
    return row and rules.Customer(customer_id, *row)


# customers_pkey, orders_by_customer
SHOW = """
SELECT c.id::text, c.version, c.name, count(o.id), coalesce(sum(o.total_cents), 0)::bigint, max(o.placed_at)
FROM customers c
LEFT JOIN orders o ON o.customer_id = c.id AND o.status <> 'cancelled'
WHERE c.id = %(id)s::uuid
GROUP BY c.id"""


async def show(rows: Rows, customer_id: str) -> CustomerView | None:
    for id, version, name, orders, spent_cents, last_at in await rows(SHOW, {"id": customer_id}):
        return CustomerView(id, version, name, orders, spent_cents, last_at and time_text(last_at))
    return None
