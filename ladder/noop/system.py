"""The whole contract in one process's memory: the rules decide, the fold builds the views.

No method suspends, so the event loop runs one command after the other: commands are isolated.
"""

from datetime import datetime

from msgspec.structs import replace

from contract import messages as m
from contract import rules
from contract.ports import Clock, recorded_at
from contract.position import Position
from cqrs_impl.documents.memory import MemoryDocuments
from cqrs_impl.fold import fold
from cqrs_impl.queries import DocumentQueries


class MemoryOrders:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._customers: dict[str, rules.Customer] = {}
        self._products: dict[str, rules.Product] = {}
        self._orders: dict[str, rules.Order] = {}
        self._deliveries: dict[tuple[str, str], int] = {}
        self._events = 0
        self._documents = MemoryDocuments()
        self._queries = DocumentQueries(self._documents)

    async def execute(self, command: m.Command) -> m.CommandResult:
        event = self._decide(command, recorded_at(self._clock, command))
        if event is not None:
            self._events += 1
            self._evolve(event)
            await fold(event, self._documents)
        created = isinstance(event, m.CustomerRegistered | m.ProductAdded | m.StockDelivered | m.OrderPlaced)
        return m.CommandResult(m.Receipt(command.id, self._version(command)), created, Position(((0, self._events),)))

    async def answer(self, query: m.Query) -> m.QueryResult:
        return await self._queries.answer(query)

    async def readiness(self) -> m.Readiness:
        return await self._queries.readiness()

    def pool_use(self) -> tuple[int, int]:
        return 0, 0

    async def close(self) -> None:
        pass

    def _decide(self, command: m.Command, now: datetime) -> m.Event | None:
        match command:
            case m.RegisterCustomer():
                return rules.register(self._customers.get(command.id), command)
            case m.RenameCustomer():
                return rules.rename(self._customers.get(command.id), command)
            case m.AddProduct():
                return rules.add_product(self._products.get(command.id), command)
            case m.RepriceProduct():
                return rules.reprice(self._products.get(command.id), command)
            case m.DeliverStock():
                delivered = self._deliveries.get((command.id, command.delivery_id))
                return rules.deliver(self._products.get(command.id), delivered, command)
            case m.PlaceOrder():
                customer_known = command.customer_id in self._customers
                return rules.place(self._orders.get(command.id), customer_known, self._products, command, now)
            case _:
                return rules.advance(self._orders.get(command.id), command, now)

    def _evolve(self, event: m.Event) -> None:
        match event:
            case m.CustomerRegistered() | m.CustomerRenamed():
                self._customers[event.id] = rules.evolve_customer(self._customers.get(event.id), event)
            case m.ProductAdded() | m.ProductRepriced() | m.StockDelivered():
                self._products[event.id] = rules.evolve_product(self._products.get(event.id), event)
                if isinstance(event, m.StockDelivered):
                    self._deliveries[event.id, event.delivery_id] = event.quantity
            case _:
                order = self._orders[event.id] = rules.evolve_order(self._orders.get(event.id), event)
                if isinstance(event, m.OrderPlaced):
                    self._take(order.lines, +1)
                elif isinstance(event, m.OrderCancelled):
                    self._take(order.lines, -1)

    def _take(self, lines: tuple[m.Wanted, ...], sign: int) -> None:
        for line in lines:
            product = self._products[line.product_id]
            self._products[product.id] = replace(product, stock=product.stock - sign * line.quantity)

    def _version(self, command: m.Command) -> int:
        match command:
            case m.RegisterCustomer() | m.RenameCustomer():
                return self._customers[command.id].version
            case m.AddProduct() | m.RepriceProduct() | m.DeliverStock():
                return self._products[command.id].version
            case _:
                return self._orders[command.id].version
