"""What may happen to a customer, a product and an order. Pure: no clock, no database, no HTTP.

`decide` functions take what is there and a command and give the event to record, None for a repeat of
what has taken effect before, or raise the refusal; `evolve` folds an event into what is there.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from contract.errors import IdReused, InsufficientStock, NotFound, UnknownReference, VersionMismatch, WrongState
from contract.messages import (
    AddProduct,
    CancelOrder,
    CustomerEvent,
    CustomerRegistered,
    CustomerRenamed,
    DeliverStock,
    Line,
    OrderCancelled,
    OrderEvent,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
    PayOrder,
    PlaceOrder,
    ProductAdded,
    ProductEvent,
    ProductRepriced,
    RegisterCustomer,
    RenameCustomer,
    RepriceProduct,
    ShipOrder,
    Status,
    StockDelivered,
    Transition,
    Wanted,
)


class Customer(Struct, frozen=True):
    id: str
    version: int
    name: str
    registered_name: str  # what a repeat of the registration is compared with


class Product(Struct, frozen=True):
    """`stock` is what can be sold now; the `added_` fields are what a repeat is compared with."""

    id: str
    version: int
    name: str
    price_cents: int
    stock: int
    added_price_cents: int
    added_stock: int


class Order(Struct, frozen=True):
    """`paid` stays true whatever came after: it tells a repeated payment from a forbidden one."""

    id: str
    version: int
    status: Status
    paid: bool
    customer_id: str
    lines: tuple[Wanted, ...]


def register(customer: Customer | None, command: RegisterCustomer) -> CustomerRegistered | None:
    if customer is None:
        return CustomerRegistered(command.id, 1, command.name)
    if customer.registered_name != command.name:
        raise IdReused("This customer id was registered with another name.")
    return None


def rename(customer: Customer | None, command: RenameCustomer) -> CustomerRenamed | None:
    if customer is None:
        raise NotFound("No such customer.")
    if customer.name == command.name:
        return None
    _expect(customer.version, command.expected_version)
    return CustomerRenamed(command.id, customer.version + 1, command.name)


def add_product(product: Product | None, command: AddProduct) -> ProductAdded | None:
    if product is None:
        return ProductAdded(command.id, 1, command.name, command.price_cents, command.stock)
    if (product.name, product.added_price_cents, product.added_stock) != (
        command.name,
        command.price_cents,
        command.stock,
    ):
        raise IdReused("This product id was added with other content.")
    return None


def reprice(product: Product | None, command: RepriceProduct) -> ProductRepriced | None:
    if product is None:
        raise NotFound("No such product.")
    if product.price_cents == command.price_cents:
        return None
    _expect(product.version, command.expected_version)
    return ProductRepriced(command.id, product.version + 1, command.price_cents)


def deliver(product: Product | None, delivered: int | None, command: DeliverStock) -> StockDelivered | None:
    """`delivered` is the quantity under this delivery id so far, None when it is new."""
    if product is None:
        raise NotFound("No such product.")
    if delivered is None:
        return StockDelivered(command.id, product.version + 1, command.delivery_id, command.quantity)
    if delivered != command.quantity:
        raise IdReused("This delivery id was used with another quantity.")
    return None


def place(
    order: Order | None, customer_known: bool, products: Mapping[str, Product], command: PlaceOrder, now: datetime
) -> OrderPlaced | None:
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
        Line(p.id, p.name, line.quantity, p.price_cents, line.quantity * p.price_cents)
        for line in command.lines
        for p in (products[line.product_id],)
    )
    return OrderPlaced(command.id, 1, now, command.customer_id, lines, sum(line.amount_cents for line in lines))


def advance(order: Order | None, command: Transition, now: datetime) -> OrderEvent | None:
    """Pay, ship or cancel."""
    if order is None:
        raise NotFound("No such order.")
    version = order.version + 1
    event: OrderEvent
    match command:
        case PayOrder():
            done, allowed, event = order.paid, order.status == "placed", OrderPaid(order.id, version, now)
        case ShipOrder():
            done = order.status == "shipped"
            allowed, event = order.status == "paid", OrderShipped(order.id, version, now)
        case CancelOrder():
            done = order.status == "cancelled"
            allowed, event = order.status in ("placed", "paid"), OrderCancelled(order.id, version, now)
    if done:
        return None
    _expect(order.version, command.expected_version)
    if not allowed:
        raise WrongState(f"The order is {order.status}.")
    return event


def _expect(version: int, expected_version: int | None) -> None:
    if expected_version is not None and version != expected_version:
        raise VersionMismatch("The thing is at another version.")


def evolve_customer(customer: Customer | None, event: CustomerEvent) -> Customer:
    match event:
        case CustomerRegistered():
            return Customer(event.id, event.version, event.name, event.name)
        case CustomerRenamed():
            assert customer is not None, "a renamed customer was registered first"
            return replace(customer, version=event.version, name=event.name)


def evolve_product(product: Product | None, event: ProductEvent) -> Product:
    match event:
        case ProductAdded():
            price_cents, stock = event.price_cents, event.stock
            return Product(event.id, event.version, event.name, price_cents, stock, price_cents, stock)
        case ProductRepriced():
            assert product is not None, "a repriced product was added first"
            return replace(product, version=event.version, price_cents=event.price_cents)
        case StockDelivered():
            assert product is not None, "stock is delivered of a product that was added first"
            return replace(product, version=event.version, stock=product.stock + event.quantity)


def evolve_order(order: Order | None, event: OrderEvent) -> Order:
    if isinstance(event, OrderPlaced):
        wanted = tuple(Wanted(line.product_id, line.quantity) for line in event.lines)
        return Order(event.id, event.version, "placed", False, event.customer_id, wanted)
    assert order is not None, "an order is placed before anything else happens to it"
    match event:
        case OrderPaid():
            return replace(order, version=event.version, status="paid", paid=True)
        case OrderShipped():
            return replace(order, version=event.version, status="shipped")
        case OrderCancelled():
            return replace(order, version=event.version, status="cancelled")


def replay(events: Iterable[OrderEvent]) -> Order | None:
    """The state of one order after its events, in the order of their versions."""
    order: Order | None = None
    for event in events:
        order = evolve_order(order, event)
    return order
