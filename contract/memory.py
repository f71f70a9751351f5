"""The whole contract over dictionaries in one process: no store, no lag, nothing kept.

Nothing here awaits, so one event loop carries out one command after the other: that is its isolation.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from heapq import nlargest, nsmallest

import msgspec

from contract import rules
from contract.messages import (
    AddProduct,
    Change,
    Command,
    CommandResult,
    CustomerEvent,
    CustomerRef,
    CustomerView,
    DailySales,
    DailySalesView,
    DaySales,
    DeliverStock,
    FoundOrders,
    GetCustomer,
    GetHistory,
    GetOrder,
    GetProduct,
    HistoryView,
    Line,
    ListOrders,
    OrderCancelled,
    OrderEvent,
    OrderItem,
    OrderPage,
    OrderPlaced,
    OrderView,
    PlaceOrder,
    ProductEvent,
    ProductView,
    Query,
    QueryResult,
    Readiness,
    Receipt,
    RegisterCustomer,
    RenameCustomer,
    RepriceProduct,
    SearchOrders,
    Status,
    TopProduct,
    TopProducts,
    TopProductsView,
    Transition,
)
from contract.ports import Clock
from contract.text import cursor_text, time_text, words

_encode = msgspec.json.Encoder().encode
_WHAT: dict[str, Status] = {
    "OrderPlaced": "placed",
    "OrderPaid": "paid",
    "OrderShipped": "shipped",
    "OrderCancelled": "cancelled",
}


class _Order(msgspec.Struct):
    """An order with what its views show; `place` is where lists sort it."""

    state: rules.Order
    lines: tuple[Line, ...]
    total_cents: int
    place: tuple[datetime, str]
    changes: list[Change]

    def item(self) -> OrderItem:
        placed_at = self.changes[0].at
        return OrderItem(
            self.state.id, self.state.version, self.state.status, placed_at, len(self.lines), self.total_cents
        )


class _Sums(msgspec.Struct):
    """What was sold in orders not cancelled: of a product, or on a day (`count` is pieces, or orders)."""

    count: int = 0
    revenue_cents: int = 0


class MemoryOrders:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._customers: dict[str, rules.Customer] = {}
        self._products: dict[str, rules.Product] = {}
        self._deliveries: dict[tuple[str, str], int] = {}
        self._orders: dict[str, _Order] = {}
        self._orders_of: dict[str, list[tuple[datetime, str]]] = defaultdict(list)  # by customer, oldest first
        self._orders_with: dict[str, set[str]] = defaultdict(set)  # by product
        self._customers_called: dict[str, set[str]] = defaultdict(set)  # by word of the name
        self._products_called: dict[str, set[str]] = defaultdict(set)
        self._sold: dict[str, _Sums] = defaultdict(_Sums)
        self._days: dict[str, _Sums] = defaultdict(_Sums)
        self._events = 0

    async def execute(self, command: Command) -> CommandResult:
        match command:
            case RegisterCustomer() | RenameCustomer():
                return self._change_customer(command)
            case AddProduct() | RepriceProduct() | DeliverStock():
                return self._change_product(command)
            case PlaceOrder():
                return self._place(command)
            case _:
                return self._advance(command)

    async def answer(self, query: Query) -> QueryResult:
        view = self._view(query)
        return QueryResult(None if view is None else _encode(view))

    async def readiness(self) -> Readiness:
        return Readiness(0, 0.0, 0)

    def pool_use(self) -> tuple[int, int]:
        return 0, 0

    async def close(self) -> None:
        pass

    # Commands

    def _done(
        self, thing: rules.Customer | rules.Product | rules.Order, event: object, creates: bool = False
    ) -> CommandResult:
        self._events += event is not None
        return CommandResult(Receipt(thing.id, thing.version), creates and event is not None, ((0, self._events),))

    def _change_customer(self, command: RegisterCustomer | RenameCustomer) -> CommandResult:
        customer = self._customers.get(command.id)
        event: CustomerEvent | None
        if isinstance(command, RegisterCustomer):
            event = rules.register(customer, command)
        else:
            event = rules.rename(customer, command)
        if event is not None:
            for word in words(customer.name) if customer else ():
                self._customers_called[word].discard(command.id)
            for word in words(event.name):
                self._customers_called[word].add(command.id)
            customer = self._customers[command.id] = rules.evolve_customer(customer, event)
        assert customer is not None, "a repeat has a customer"
        return self._done(customer, event, isinstance(command, RegisterCustomer))

    def _change_product(self, command: AddProduct | RepriceProduct | DeliverStock) -> CommandResult:
        product = self._products.get(command.id)
        event: ProductEvent | None
        match command:
            case AddProduct():
                event = rules.add_product(product, command)
            case RepriceProduct():
                event = rules.reprice(product, command)
            case DeliverStock():
                event = rules.deliver(product, self._deliveries.get((command.id, command.delivery_id)), command)
        if event is not None:
            product = self._products[command.id] = rules.evolve_product(product, event)
            if isinstance(command, DeliverStock):
                self._deliveries[command.id, command.delivery_id] = command.quantity
            elif isinstance(command, AddProduct):
                for word in words(command.name):
                    self._products_called[word].add(command.id)
        assert product is not None, "a repeat has a product"
        return self._done(product, event, not isinstance(command, RepriceProduct))

    def _place(self, command: PlaceOrder) -> CommandResult:
        order = self._orders.get(command.id)
        known = command.customer_id in self._customers
        event = rules.place(order.state if order else None, known, self._products, command, self._clock())
        if event is not None:
            order = self._placed(event)
        assert order is not None, "a repeat has an order"
        return self._done(order.state, event, creates=True)

    def _advance(self, command: Transition) -> CommandResult:
        order = self._orders.get(command.id)
        event = rules.advance(order.state if order else None, command, self._clock())
        assert order is not None, "only an order that exists has advanced"
        if event is not None:
            order.state = rules.evolve_order(order.state, event)
            order.changes.append(_change(event))
            if isinstance(event, OrderCancelled):
                self._count(order, -1)
        return self._done(order.state, event)

    def _placed(self, event: OrderPlaced) -> _Order:
        state = rules.evolve_order(None, event)
        order = _Order(state, event.lines, event.total_cents, (event.at, event.id), [_change(event)])
        self._orders[event.id] = order
        insort(self._orders_of[event.customer_id], order.place)
        for line in event.lines:
            self._orders_with[line.product_id].add(event.id)
        self._count(order, +1)
        return order

    def _count(self, order: _Order, sign: int) -> None:
        """Take an order into stock and sums, or out again."""
        for line in order.lines:
            product = self._products[line.product_id]
            self._products[line.product_id] = msgspec.structs.replace(
                product, stock=product.stock - sign * line.quantity
            )
            sold = self._sold[line.product_id]
            sold.count += sign * line.quantity
            sold.revenue_cents += sign * line.amount_cents
        day = self._days[order.changes[0].at[:10]]
        day.count += sign
        day.revenue_cents += sign * order.total_cents

    # Queries

    def _view(self, query: Query) -> msgspec.Struct | None:
        match query:
            case GetOrder():
                return self._order(query)
            case GetHistory():
                order = self._orders.get(query.id)
                return HistoryView(tuple(order.changes)) if order else None
            case GetCustomer():
                return self._customer(query)
            case ListOrders():
                return self._page(query)
            case GetProduct():
                return self._product(query)
            case TopProducts():
                return self._top_products(query)
            case DailySales():
                days = sorted((day for day, sums in self._days.items() if sums.count), reverse=True)[: query.days]
                return DailySalesView(
                    tuple(DaySales(day, self._days[day].count, self._days[day].revenue_cents) for day in days)
                )
            case SearchOrders():
                found = nlargest(query.limit, (self._orders[order_id].place for order_id in self._matching(query)))
                return FoundOrders(tuple(self._orders[order_id].item() for _, order_id in found))

    def _order(self, query: GetOrder) -> OrderView | None:
        order = self._orders.get(query.id)
        if order is None:
            return None
        state = order.state
        customer = CustomerRef(state.customer_id, self._customers[state.customer_id].name)
        return OrderView(
            state.id, state.version, state.status, order.changes[0].at, customer, order.lines, order.total_cents
        )

    def _customer(self, query: GetCustomer) -> CustomerView | None:
        customer = self._customers.get(query.id)
        if customer is None:
            return None
        orders = [self._orders[order_id] for _, order_id in self._orders_of[query.id]]
        active = [order for order in orders if order.state.status != "cancelled"]
        last_order_at = active[-1].changes[0].at if active else None
        spent_cents = sum(order.total_cents for order in active)
        return CustomerView(customer.id, customer.version, customer.name, len(active), spent_cents, last_order_at)

    def _page(self, query: ListOrders) -> OrderPage | None:
        if query.id not in self._customers:
            return None
        places = self._orders_of[query.id]
        end = len(places) if query.after is None else bisect_left(places, query.after)
        start = max(0, end - query.limit)
        items = tuple(self._orders[order_id].item() for _, order_id in reversed(places[start:end]))
        return OrderPage(items, cursor_text(items[-1].placed_at, items[-1].id) if start else None)

    def _product(self, query: GetProduct) -> ProductView | None:
        product = self._products.get(query.id)
        if product is None:
            return None
        sold = self._sold[query.id].count
        return ProductView(product.id, product.version, product.name, product.price_cents, product.stock, sold)

    def _top_products(self, query: TopProducts) -> TopProductsView:
        ranked = nsmallest(
            query.limit, ((-sums.revenue_cents, product_id) for product_id, sums in self._sold.items() if sums.count)
        )
        return TopProductsView(
            tuple(
                TopProduct(product_id, self._products[product_id].name, self._sold[product_id].count, -revenue)
                for revenue, product_id in ranked
            )
        )

    def _matching(self, query: SearchOrders) -> set[str]:
        return set.intersection(*(set(self._orders_of_word(word)) for word in query.words))

    def _orders_of_word(self, word: str) -> Iterator[str]:
        for customer_id in self._customers_called.get(word, ()):
            yield from (order_id for _, order_id in self._orders_of.get(customer_id, ()))
        for product_id in self._products_called.get(word, ()):
            yield from self._orders_with.get(product_id, ())


def _change(event: OrderEvent) -> Change:
    return Change(event.version, _WHAT[type(event).__name__], time_text(event.at))
