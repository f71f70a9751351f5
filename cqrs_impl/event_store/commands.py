"""The command side over events alone: load the streams that a command touches, decide by the contract's rules, append.

There are no tables of customers, products and orders. An order and the stocks that it takes from are several streams,
appended to in one transaction: their events are there together or not at all, and no stock is taken twice.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from msgspec.structs import replace

from contract import rules
from contract.messages import (
    AddProduct,
    CancelOrder,
    Command,
    DeliverStock,
    Event,
    OrderCancelled,
    PayOrder,
    PlaceOrder,
    RegisterCustomer,
    RenameCustomer,
    RepriceProduct,
    ShipOrder,
    Wanted,
)
from contract.ports import Clock
from contract.position import Position
from cqrs_impl.commands import Commands
from cqrs_impl.event_store.events import StockEvent, StockReturned, StockTaken
from cqrs_impl.event_store.store import EventStore, Stream
from crud_impl.connections import Database, Transaction
from crud_impl.effect import Effect, changed, repeated

Streams = dict[str, Stream]


class EventCommands(Commands):
    def __init__(self, database: Database, store: EventStore, clock: Clock) -> None:
        self._database, self._store, self._clock = database, store, clock

    async def write(
        self, transaction: Transaction, command: Command, now: datetime
    ) -> tuple[Effect, Callable[[], Position]]:
        event: Event | None
        further: list[StockEvent] = []  # they precede the event, which has the position of the command
        match command:
            case RegisterCustomer():
                streams = await self._load(transaction, own := f"customer-{command.id}")
                event = rules.register(streams[own].state, command)
            case RenameCustomer():
                streams = await self._load(transaction, own := f"customer-{command.id}")
                event = rules.rename(streams[own].state, command)
            case AddProduct():
                streams = await self._load(transaction, own := f"product-{command.id}")
                event = rules.add_product(streams[own].state, command)
            case RepriceProduct():
                streams = await self._load(transaction, own := f"product-{command.id}")
                event = rules.reprice(streams[own].state, command)
            case DeliverStock():
                streams = await self._load(transaction, own := f"product-{command.id}")
                delivered = await self._store.delivered(transaction, own, command.delivery_id)
                event = rules.deliver(streams[own].state, delivered, command)
            case PlaceOrder():
                stocks = stocks_of(command.lines)
                others = [f"customer-{command.customer_id}", *(f"product-{line.product_id}" for line in command.lines)]
                appended = [own := f"order-{command.id}", *stocks]
                streams = await self._store.load(transaction, [*appended, *others], locked=appended)
                event = place(streams, command, now)
                further = moved(StockTaken, streams, command.id, command.lines) if event else []
            case PayOrder() | ShipOrder() | CancelOrder():
                streams = await self._load(transaction, own := f"order-{command.id}")
                order = streams[own].state
                event = rules.advance(order, command, now)
                if isinstance(event, OrderCancelled):
                    stocks = stocks_of(order.lines)
                    streams |= await self._store.load(transaction, stocks, locked=stocks)
                    further = moved(StockReturned, streams, command.id, order.lines)
        if event is None:
            return repeated(command.id, streams[own].state.version), await self._store.latest(transaction)
        return changed(event), await self._store.append(transaction, streams, [*further, event])

    async def _load(self, transaction: Transaction, own: str) -> Streams:
        return await self._store.load(transaction, [own], locked=[own])


def place(streams: Streams, command: PlaceOrder, now: datetime) -> Event | None:
    products = dict[str, rules.Product]()
    for id in (line.product_id for line in command.lines):
        product, stock = streams[f"product-{id}"].state, streams[f"stock-{id}"].state
        if product is not None:
            products[id] = replace(product, stock=product.stock - (stock.taken if stock else 0))
    customer_known = streams[f"customer-{command.customer_id}"].state is not None
    return rules.place(streams[f"order-{command.id}"].state, customer_known, products, command, now)


def stocks_of(lines: Iterable[Wanted]) -> list[str]:
    return [f"stock-{line.product_id}" for line in lines]


def moved(
    kind: type[StockTaken] | type[StockReturned], streams: Streams, order_id: str, lines: Iterable[Wanted]
) -> list[StockEvent]:
    """The events of the stocks that an order takes from, or returns to."""
    stocks = [(line, streams[f"stock-{line.product_id}"].state) for line in lines]
    return [kind(line.product_id, stock.version + 1 if stock else 1, order_id, line.quantity) for line, stock in stocks]
