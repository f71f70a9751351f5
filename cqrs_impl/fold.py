"""How events change documents: `fold` is the one implementation, for every document store.

It applies an event that is the next of its stream; `cqrs_impl.batch` checks the versions.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from contract.messages import (
    Change,
    CustomerRef,
    CustomerRegistered,
    CustomerRenamed,
    CustomerView,
    DaySales,
    Event,
    HistoryView,
    OrderCancelled,
    OrderItem,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
    OrderView,
    ProductAdded,
    ProductRepriced,
    ProductView,
    Status,
    StockDelivered,
    TopProduct,
)
from contract.text import time_text, words
from cqrs_impl.part import WHOLE, Part, Slip, customer_key, day_key, product_key, slip_id
from cqrs_impl.ports import Documents, V

KINDS: dict[type, str] = {
    CustomerView: "customer",
    DaySales: "day",
    HistoryView: "history",
    OrderItem: "item",
    OrderView: "order",
    ProductView: "product",
    Slip: "slip",
    TopProduct: "sales",
}
TOP, DAYS = "top", "days"  # lists of totals; an entry is its sort key, then the JSON of the answer
TOTALS = (DaySales, TopProduct)
TIME_WIDTH = 27  # 2026-11-23T09:30:00.000000Z
PLACE_WIDTH = TIME_WIDTH + 36  # of an order in a list: its time and id, in the sort order of the contract
DAY_WIDTH, RANK_WIDTH = 10, 20 + 36
RANK_TOP = 10**19  # ranks count down from here, so that the highest revenue comes first

_encode = msgspec.json.Encoder().encode


class Missing(Exception):
    """The event needs earlier events of `stream` that have not been applied."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream


def orders_of(customer_id: str) -> str:
    """The list of a customer's orders. Each entry ends with the JSON of an item, so that a page is one range."""
    return f"orders-of:{customer_id}"


def active_of(customer_id: str) -> str:
    return f"active-of:{customer_id}"


def with_word(word: str) -> str:
    return f"word:{word}"


def place_of(placed_at: str, order_id: str) -> str:
    return placed_at + order_id


async def fold(event: Event, documents: Documents, part: Part = WHOLE) -> None:
    """Change the documents of a part. An event of an order is folded here by the part of its customer."""
    match event:
        case CustomerRegistered():
            documents.put(event.id, CustomerView(event.id, event.version, event.name, 0, 0, None))
        case CustomerRenamed():
            await _rename(event, documents)
        case ProductAdded():
            view = ProductView(event.id, event.version, event.name, event.price_cents, event.stock, 0)
            documents.put(event.id, view)
        case ProductRepriced():
            product = await _need(documents, ProductView, event.id)
            documents.put(event.id, replace(product, version=event.version, price_cents=event.price_cents))
        case StockDelivered():
            product = await _need(documents, ProductView, event.id)
            documents.put(event.id, replace(product, version=event.version, stock=product.stock + event.quantity))
        case OrderPlaced():
            await _place(event, documents, part)
        case OrderPaid():
            await _advance(event, "paid", documents)
        case OrderShipped():
            await _advance(event, "shipped", documents)
        case OrderCancelled():
            await _count(await _advance(event, "cancelled", documents), -1, documents, part)


async def _rename(event: CustomerRenamed, documents: Documents) -> None:
    """The one event that fans out: to every order of the customer and to the words that find those orders."""
    customer = await _need(documents, CustomerView, event.id)
    for entry in await documents.entries(orders_of(event.id)):
        place = entry[:PLACE_WIDTH]
        order = await _need(documents, OrderView, place[TIME_WIDTH:])
        in_products = {word for line in order.lines for word in words(line.product_name)}
        for word in words(customer.name):
            if word not in in_products:
                documents.drop(with_word(word), place)
        for word in words(event.name):
            documents.list(with_word(word), place)
        documents.put(order.id, replace(order, customer=CustomerRef(event.id, event.name)))
    documents.put(event.id, replace(customer, version=event.version, name=event.name))


async def _place(event: OrderPlaced, documents: Documents, part: Part) -> None:
    customer = await _need(documents, CustomerView, event.customer_id)
    at = time_text(event.at)
    ref = CustomerRef(customer.id, customer.name)
    order = OrderView(event.id, event.version, "placed", at, ref, event.lines, event.total_cents)
    place = place_of(at, event.id)
    for word in {*words(customer.name), *(word for line in event.lines for word in words(line.product_name))}:
        documents.list(with_word(word), place)
    await _count(order, 1, documents, part)
    _show(order, HistoryView((Change(1, "placed", at),)), documents)


async def _advance(event: OrderPaid | OrderShipped | OrderCancelled, status: Status, documents: Documents) -> OrderView:
    before = await _need(documents, OrderView, event.id)
    history = await _need(documents, HistoryView, event.id)
    documents.drop(orders_of(before.customer.id), _entry(_item(before)))
    order = replace(before, version=event.version, status=status)
    _show(order, HistoryView((*history.changes, Change(event.version, status, time_text(event.at)))), documents)
    return order


def _show(order: OrderView, history: HistoryView, documents: Documents) -> None:
    item = _item(order)
    documents.put(order.id, order)
    documents.put(order.id, history)
    documents.put(order.id, item)
    documents.list(orders_of(order.customer.id), _entry(item))


async def _count(order: OrderView, sign: int, documents: Documents, part: Part) -> None:
    """Add a placed order to every total (+1), or subtract a cancelled one (-1)."""
    customer = await _need(documents, CustomerView, order.customer.id)
    place = place_of(order.placed_at, order.id)
    if sign > 0:
        documents.list(active_of(customer.id), place)
        last = max(customer.last_order_at or "", order.placed_at)
    else:
        documents.drop(active_of(customer.id), place)
        active = await documents.entries(active_of(customer.id))
        last = active[-1][:TIME_WIDTH] if active else ""
    orders, spent_cents = customer.orders + sign, customer.spent_cents + sign * order.total_cents
    counted = replace(customer, orders=orders, spent_cents=spent_cents, last_order_at=last or None)
    documents.put(customer.id, counted)
    await count_totals(order, sign, documents, part)


async def count_totals(order: OrderView | Slip, sign: int, documents: Documents, part: Part) -> None:
    """Of the products and the day that the part holds."""
    if part.holds(day_key, day := order.placed_at[:DAY_WIDTH]):
        sales = await documents.get(DaySales, day) or DaySales(day, 0, 0)
        documents.put(day, DaySales(day, sales.orders + sign, sales.revenue_cents + sign * order.total_cents))
    for line in order.lines:
        if not part.holds(product_key, line.product_id):
            continue
        product = await _need(documents, ProductView, line.product_id)
        pieces = sign * line.quantity
        sold = product.sold + pieces
        documents.put(product.id, replace(product, stock=product.stock - pieces, sold=sold))
        top = await documents.get(TopProduct, product.id)
        revenue_cents = (top.revenue_cents if top else 0) + sign * line.amount_cents
        documents.put(product.id, TopProduct(product.id, product.name, sold, revenue_cents))


async def _need(documents: Documents, kind: type[V], id: str) -> V:
    document = await documents.get(kind, id)
    if document is None:
        raise Missing(f"{KINDS[kind]}-{id}")
    return document


def _item(order: OrderView) -> OrderItem:
    return OrderItem(order.id, order.version, order.status, order.placed_at, len(order.lines), order.total_cents)


def _entry(item: OrderItem) -> str:
    return place_of(item.placed_at, item.id) + _encode(item).decode()


def key_of(kind: type, id: str) -> str:
    return f"{KINDS[kind]}:{id}"


def listed(document: Struct) -> tuple[str, str] | None:
    """The list of a total and its entry there; None if it is not listed. Each `put` of a total replaces its entry."""
    match document:
        case DaySales() if document.orders:
            return DAYS, document.day + _encode(document).decode()
        case TopProduct() if document.sold:
            rank = f"{RANK_TOP - document.revenue_cents:020d}{document.id}"
            return TOP, rank + _encode(document).decode()
    return None


def touched(event: Event, part: Part) -> Iterator[tuple[type, str]]:
    """Most of the documents that an event needs in a part, so that they can be fetched together."""
    match event:
        case CustomerRegistered() | CustomerRenamed():
            yield CustomerView, event.id
        case ProductAdded() | ProductRepriced() | StockDelivered():
            yield ProductView, event.id
        case OrderPlaced():
            if part.holds(customer_key, event.customer_id):
                yield OrderView, event.id
                yield CustomerView, event.customer_id
            else:
                yield Slip, slip_id(event.id, part)
            if part.holds(day_key, day := time_text(event.at)[:DAY_WIDTH]):
                yield DaySales, day
            for line in event.lines:
                if part.holds(product_key, line.product_id):
                    yield ProductView, line.product_id
                    yield TopProduct, line.product_id
        case _:
            yield OrderView, event.id
            yield HistoryView, event.id
            if part.of > 1:
                yield Slip, slip_id(event.id, part)
