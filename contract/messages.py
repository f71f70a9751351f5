"""Every value that crosses a boundary: commands, queries, events, views and results.

Ids are UUIDs as hyphenated lower-case text, money is an integer of cents, times are UTC `datetime`s. The HTTP layer
has validated all of them before a command or a query exists.
"""

from datetime import datetime
from typing import Any, ClassVar, Literal, NamedTuple

from msgspec import Struct

from contract.position import START, Position

# Commands are named in the imperative. `expected_version` is the client's optimistic lock, None if it sent none.


class RegisterCustomer(Struct, frozen=True):
    id: str
    name: str


class RenameCustomer(Struct, frozen=True):
    id: str
    name: str
    expected_version: int | None = None


class AddProduct(Struct, frozen=True):
    id: str
    name: str
    price_cents: int
    stock: int


class RepriceProduct(Struct, frozen=True):
    id: str
    price_cents: int
    expected_version: int | None = None


class DeliverStock(Struct, frozen=True):
    id: str  # of the product
    delivery_id: str
    quantity: int


class Wanted(Struct, frozen=True):
    """One line of an order as the client asks for it."""

    product_id: str
    quantity: int


class PlaceOrder(Struct, frozen=True):
    id: str
    customer_id: str
    lines: tuple[Wanted, ...]


class PayOrder(Struct, frozen=True):
    id: str
    expected_version: int | None = None


class ShipOrder(Struct, frozen=True):
    id: str
    expected_version: int | None = None


class CancelOrder(Struct, frozen=True):
    id: str
    expected_version: int | None = None


Transition = PayOrder | ShipOrder | CancelOrder
Command = RegisterCustomer | RenameCustomer | AddProduct | RepriceProduct | DeliverStock | PlaceOrder | Transition


# Queries: one for each GET of the contract.


class GetOrder(Struct, frozen=True):
    id: str


class GetHistory(Struct, frozen=True):
    id: str


class GetCustomer(Struct, frozen=True):
    id: str


class ListOrders(Struct, frozen=True):
    """A customer's orders, newest first; `after` is the (placed_at, id) at which the previous page ended."""

    id: str
    limit: int
    after: tuple[datetime, str] | None = None


class GetProduct(Struct, frozen=True):
    id: str


class TopProducts(Struct, frozen=True):
    limit: int


class DailySales(Struct, frozen=True):
    days: int


class SearchOrders(Struct, frozen=True):
    words: tuple[str, ...]
    limit: int


class BestOrders(Struct, frozen=True):
    """Of the capability `ranked-search`: the orders that fit words best, misspelt ones too."""

    words: tuple[str, ...]
    limit: int


class GetEvents(Struct, frozen=True):
    """Of the capability `audit`."""

    id: str  # of the order


class AsOf(Struct, frozen=True):
    """Of the capability `time-travel`: a query whose answer is wanted as it was at a version of what it asks for, or
    at a time."""

    query: GetOrder | GetCustomer | GetProduct
    moment: int | datetime


Query = GetOrder | GetHistory | GetCustomer | ListOrders | GetProduct | TopProducts | DailySales | SearchOrders


# Events are named in the past tense.


class Line(Struct, frozen=True):
    """One line of an order with the price fixed when it was placed."""

    product_id: str
    product_name: str
    quantity: int
    unit_price_cents: int
    amount_cents: int


class BaseEvent(Struct, frozen=True, tag=True):
    """The fields of every event. `version` counts the events of one stream from 1, without gaps."""

    kind: ClassVar[str]
    id: str
    version: int

    @property
    def stream(self) -> str:
        """Names the customer, product or order whose events these are; each kind has its own id space."""
        return f"{self.kind}-{self.id}"


class OfCustomer(BaseEvent, frozen=True):
    kind = "customer"


class OfProduct(BaseEvent, frozen=True):
    kind = "product"


class OfOrder(BaseEvent, frozen=True):
    kind = "order"
    at: datetime


class CustomerRegistered(OfCustomer, frozen=True):
    name: str


class CustomerRenamed(OfCustomer, frozen=True):
    name: str


class ProductAdded(OfProduct, frozen=True):
    name: str
    price_cents: int
    stock: int


class ProductRepriced(OfProduct, frozen=True):
    price_cents: int


class StockDelivered(OfProduct, frozen=True):
    delivery_id: str
    quantity: int


class OrderPlaced(OfOrder, frozen=True):
    customer_id: str
    lines: tuple[Line, ...]
    total_cents: int


class OrderPaid(OfOrder, frozen=True):
    pass


class OrderShipped(OfOrder, frozen=True):
    pass


class OrderCancelled(OfOrder, frozen=True):
    pass


CustomerEvent = CustomerRegistered | CustomerRenamed
ProductEvent = ProductAdded | ProductRepriced | StockDelivered
OrderEvent = OrderPlaced | OrderPaid | OrderShipped | OrderCancelled
Event = CustomerEvent | ProductEvent | OrderEvent


# Views: the responses to queries, with their fields in the contract's order. Times are text here.

Status = Literal["placed", "paid", "shipped", "cancelled"]


class CustomerRef(Struct, frozen=True):
    id: str
    name: str


class OrderView(Struct, frozen=True):
    id: str
    version: int
    status: Status
    placed_at: str
    customer: CustomerRef
    lines: tuple[Line, ...]
    total_cents: int


class Change(Struct, frozen=True):
    version: int
    what: Status
    at: str


class HistoryView(Struct, frozen=True):
    changes: tuple[Change, ...]


class EventView(Struct, frozen=True):
    """An event of an order; `data` holds the fields of its type that are not named beside it."""

    version: int
    type: str
    at: str
    data: dict[str, Any]


class EventsView(Struct, frozen=True):
    events: tuple[EventView, ...]


class CustomerView(Struct, frozen=True):
    id: str
    version: int
    name: str
    orders: int
    spent_cents: int
    last_order_at: str | None


class OrderItem(Struct, frozen=True):
    """An order as lists and searches show it; `lines` is the number of lines."""

    id: str
    version: int
    status: Status
    placed_at: str
    lines: int
    total_cents: int


class OrderPage(Struct, frozen=True):
    orders: tuple[OrderItem, ...]
    next: str | None


class FoundOrders(Struct, frozen=True):
    orders: tuple[OrderItem, ...]


class RankedOrder(OrderItem, frozen=True):
    """`highlights`: the names that fit, as HTML, each word that fits in `<em>`."""

    highlights: tuple[str, ...]


class RankedOrders(Struct, frozen=True):
    orders: tuple[RankedOrder, ...]


class ProductView(Struct, frozen=True):
    id: str
    version: int
    name: str
    price_cents: int
    stock: int
    sold: int


class TopProduct(Struct, frozen=True):
    id: str
    name: str
    sold: int
    revenue_cents: int


class TopProductsView(Struct, frozen=True):
    products: tuple[TopProduct, ...]


class DaySales(Struct, frozen=True):
    day: str
    orders: int
    revenue_cents: int


class DailySalesView(Struct, frozen=True):
    days: tuple[DaySales, ...]


# Results of a system's methods.


class Receipt(Struct, frozen=True):
    """The response to a command: what a client needs to ask for its own write."""

    id: str
    version: int


class CommandResult(NamedTuple):
    """A command that took effect, now or earlier. `created` means 201; `position` covers the effect."""

    receipt: Receipt
    created: bool
    position: Position = START


class QueryResult(NamedTuple):
    """The JSON of a query's response, None if the resource does not exist, and the position that it reflects.

    A `position` of None means that it reflects every command acknowledged before the query: nothing can lag.
    """

    body: bytes | None
    position: Position | None = None


class Readiness(Struct, frozen=True, omit_defaults=True):
    """How far the views lag. `applied`, for /metrics: the events' ages when applied, as a histogram and a sum in s.
    `unwritable`: why the read store, which answers, takes no writes. The rest: how far a replica is behind, how many
    reads the primary has answered in its place, and the reason while it does. `counts`: further ones, for /metrics."""

    lag_events: int
    lag_seconds: float
    parked_events: int
    applied: tuple[list[int], float] | None = None
    unwritable: str | None = None
    lag_bytes: int | None = None
    reads_on_primary: int | None = None
    reason: str | None = None
    counts: dict[str, int] | None = None
