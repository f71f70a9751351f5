"""The business rules of customers, products and orders. Pure: no clock, no database, no HTTP.

A rule takes the current state and a command. It returns the event to record, returns None if the command took effect
before (a repeat), or raises the refusal. The `evolve` functions apply an event to a state.
"""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from contract import messages as m
from contract.errors import IdReused, InsufficientStock, NotFound, UnknownReference, VersionMismatch, WrongState


class Customer(Struct, frozen=True):
    id: str
    version: int
    name: str
    registered_name: str  # a repeat of RegisterCustomer is compared with it


class Product(Struct, frozen=True):
    """`stock` is what can be sold now. A repeat of AddProduct is compared with the `added_` fields."""

    id: str
    version: int
    name: str
    price_cents: int
    stock: int
    added_price_cents: int
    added_stock: int


class Order(Struct, frozen=True):
    """`paid` stays true after later changes: it tells a repeated payment from a forbidden one."""

    id: str
    version: int
    status: m.Status
    paid: bool
    customer_id: str
    lines: tuple[m.Wanted, ...]


def register(customer: Customer | None, command: m.RegisterCustomer) -> m.CustomerRegistered | None:
    if customer is None:
        return m.CustomerRegistered(command.id, 1, command.name)
    if customer.registered_name != command.name:
        raise IdReused("This customer id was registered with another name.")
    return None


def rename(customer: Customer | None, command: m.RenameCustomer) -> m.CustomerRenamed | None:
    if customer is None:
        raise NotFound("No such customer.")
    if customer.name == command.name:
        return None
    _expect(customer.version, command.expected_version)
    return m.CustomerRenamed(command.id, customer.version + 1, command.name)


def add_product(product: Product | None, command: m.AddProduct) -> m.ProductAdded | None:
    if product is None:
        return m.ProductAdded(command.id, 1, command.name, command.price_cents, command.stock)
    if (product.name, product.added_price_cents, product.added_stock) != (
        command.name,
        command.price_cents,
        command.stock,
    ):
        raise IdReused("This product id was added with other content.")
    return None


def reprice(product: Product | None, command: m.RepriceProduct) -> m.ProductRepriced | None:
    if product is None:
        raise NotFound("No such product.")
    if product.price_cents == command.price_cents:
        return None
    _expect(product.version, command.expected_version)
    return m.ProductRepriced(command.id, product.version + 1, command.price_cents)


def deliver(product: Product | None, delivered: int | None, command: m.DeliverStock) -> m.StockDelivered | None:
    """`delivered` is the quantity recorded under this delivery id, None if the id is new."""
    if product is None:
        raise NotFound("No such product.")
    if delivered is None:
        return m.StockDelivered(command.id, product.version + 1, command.delivery_id, command.quantity)
    if delivered != command.quantity:
        raise IdReused("This delivery id was used with another quantity.")
    return None


def place(
    order: Order | None, customer_known: bool, products: Mapping[str, Product], command: m.PlaceOrder, now: datetime
) -> m.OrderPlaced | None:
    if order is not None:
        if (order.customer_id, order.lines) != (command.customer_id, command.lines):
            raise IdReused("This order id was placed with other content.")
        return None
    if not customer_known:
        raise UnknownReference("No such customer.")
    if any(line.product_id not in products for line in command.lines):
        raise UnknownReference("No such product.")
    for line in command.lines:
        if products[line.product_id].stock < line.quantity:
            raise InsufficientStock("Not enough pieces in stock.", product_id=line.product_id)
    lines = tuple(
        m.Line(p.id, p.name, line.quantity, p.price_cents, line.quantity * p.price_cents)
        for line in command.lines
        for p in (products[line.product_id],)
    )
    return m.OrderPlaced(command.id, 1, now, command.customer_id, lines, sum(line.amount_cents for line in lines))


def advance(order: Order | None, command: m.Transition, now: datetime) -> m.OrderEvent | None:
    """Pay, ship or cancel."""
    if order is None:
        raise NotFound("No such order.")
    version = order.version + 1
    event: m.OrderEvent
    match command:
        case m.PayOrder():
            done, allowed, event = order.paid, order.status == "placed", m.OrderPaid(order.id, version, now)
        case m.ShipOrder():
            done = order.status == "shipped"
            allowed, event = order.status == "paid", m.OrderShipped(order.id, version, now)
        case m.CancelOrder():
            done = order.status == "cancelled"
            allowed, event = order.status in ("placed", "paid"), m.OrderCancelled(order.id, version, now)
    if done:
        return None
    _expect(order.version, command.expected_version)
    if not allowed:
        raise WrongState(f"The order is {order.status}.")
    return event


def _expect(version: int, expected_version: int | None) -> None:
    if expected_version is not None and version != expected_version:
        raise VersionMismatch("The resource is at another version.")


def evolve_customer(customer: Customer | None, event: m.CustomerEvent) -> Customer:
    match event:
        case m.CustomerRegistered():
            return Customer(event.id, event.version, event.name, event.name)
        case m.CustomerRenamed():
            assert customer is not None, "a renamed customer was registered first"
            return replace(customer, version=event.version, name=event.name)


def evolve_product(product: Product | None, event: m.ProductEvent) -> Product:
    match event:
        case m.ProductAdded():
            price_cents, stock = event.price_cents, event.stock
            return Product(event.id, event.version, event.name, price_cents, stock, price_cents, stock)
        case m.ProductRepriced():
            assert product is not None, "a repriced product was added first"
            return replace(product, version=event.version, price_cents=event.price_cents)
        case m.StockDelivered():
            assert product is not None, "stock is delivered of a product that was added first"
            return replace(product, version=event.version, stock=product.stock + event.quantity)


def evolve_order(order: Order | None, event: m.OrderEvent) -> Order:
    if isinstance(event, m.OrderPlaced):
        wanted = tuple(m.Wanted(line.product_id, line.quantity) for line in event.lines)
        return Order(event.id, event.version, "placed", False, event.customer_id, wanted)
    assert order is not None, "an order is placed before anything else happens to it"
    match event:
        case m.OrderPaid():
            return replace(order, version=event.version, status="paid", paid=True)
        case m.OrderShipped():
            return replace(order, version=event.version, status="shipped")
        case m.OrderCancelled():
            return replace(order, version=event.version, status="cancelled")
