"""How events change what is searched: orders with the names on them, and customers for the names of orders to come.

A store of these does not write a batch in one step, so that a document can be ahead of the checkpoint when events are
applied again, or another process that applies them be ahead. What is ahead stays: a version that is there is a repeat,
and a rename that is repeated goes to the orders once more, with the name that the customer has by now. An order has the
version of that name, since a process that comes late finds orders which show a name it does not know yet.
"""

from collections.abc import MutableMapping

from msgspec.structs import replace

from contract.messages import (
    CustomerEvent,
    CustomerRef,
    CustomerRegistered,
    CustomerView,
    Event,
    OrderCancelled,
    OrderEvent,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
    ProductAdded,
    ProductRepriced,
    Status,
    StockDelivered,
)
from contract.text import time_text
from cqrs_impl.fold import PLACE_WIDTH, TIME_WIDTH, Missing, key_of, orders_of, place_of
from cqrs_impl.ports import Documents
from cqrs_impl.search.layout import IndexedOrder

Never = MutableMapping[str, str]
STATUSES: dict[type, Status] = {OrderPaid: "paid", OrderShipped: "shipped", OrderCancelled: "cancelled"}


async def index(event: Event, documents: Documents, never: Never) -> None:
    """`never`: documents that the store could not write, and why. The event that changes one takes it from there, and
    fails."""
    match event:
        case OrderPlaced() | OrderPaid() | OrderShipped() | OrderCancelled():
            await _order(event, documents, never)
        case ProductAdded() | ProductRepriced() | StockDelivered():
            return  # an order has the names of its products from its own event
        case _:
            await _customer(event, documents, never)


async def _order(event: OrderEvent, documents: Documents, never: Never) -> None:
    order = await documents.get(IndexedOrder, event.id)
    if not _is_next(event, order):
        return
    if isinstance(event, OrderPlaced):
        if (customer := await documents.get(CustomerView, event.customer_id)) is None:
            raise Missing(f"customer-{event.customer_id}")
        ref, at = CustomerRef(customer.id, customer.name), time_text(event.at)
        order = IndexedOrder(
            event.id, event.version, "placed", at, ref, event.lines, event.total_cents, named=customer.version
        )
        documents.list(orders_of(customer.id), place_of(at, order.id))
    else:
        assert order is not None, "the next of a placed one"
        order = replace(order, version=event.version, status=STATUSES[type(event)])
    _put(order, documents, never)


async def _customer(event: CustomerEvent, documents: Documents, never: Never) -> None:
    customer = await documents.get(CustomerView, event.id)
    if _is_next(event, customer):
        customer = CustomerView(event.id, event.version, event.name, 0, 0, None)
        _put(customer, documents, never)
    assert customer is not None, "a repeat is of one that is there"
    if isinstance(event, CustomerRegistered):
        return
    for entry in await documents.entries(orders_of(event.id)):
        order = await documents.get(IndexedOrder, entry[TIME_WIDTH:PLACE_WIDTH])
        if order is not None and order.named < customer.version:
            ref = CustomerRef(customer.id, customer.name)
            _put(replace(order, customer=ref, named=customer.version), documents, never)


def _put(document: IndexedOrder | CustomerView, documents: Documents, never: Never) -> None:
    if reason := never.pop(key_of(type(document), document.id), None):
        raise ValueError(reason)
    documents.put(document.id, document)


def _is_next(event: Event, shown: IndexedOrder | CustomerView | None) -> bool:
    version = shown.version if shown else 0
    if event.version > version + 1:
        raise Missing(event.stream)
    return event.version > version
