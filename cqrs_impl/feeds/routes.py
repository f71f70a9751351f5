"""Which partitions an event goes to: those of the owners of the documents that it changes, as in `cqrs_impl.part`."""

from collections import OrderedDict
from typing import NamedTuple

from contract.messages import OfOrder, OrderCancelled, OrderPlaced
from contract.position import Position
from contract.text import time_text
from cqrs_impl.fold import DAY_WIDTH
from cqrs_impl.part import customer_key, day_key, partition_of, product_key
from cqrs_impl.ports import EventLog, Heartbeat, RecordedEvent, Unreadable

ORDERS_MAX = 50_000
EVERYTHING = ((2**63 - 1, 2**63 - 1),)


class Route(NamedTuple):
    """The partitions that an event goes to, and the one of them in which whoever wants it once takes it."""

    to: frozenset[int]
    once: int


class OfPlaced(NamedTuple):
    """Of an order: the partition of its customer, and all that count it."""

    home: frozenset[int]
    all: frozenset[int]


class Routes:
    """An event of an order names neither customer nor products, so that the order is remembered or looked up."""

    def __init__(self, log: EventLog, parts: int) -> None:
        self._log, self._parts = log, parts
        self._everywhere = frozenset(range(parts))
        self._orders = OrderedDict[str, OfPlaced]()  # the latest, by stream

    async def of(self, recorded: RecordedEvent) -> Route:
        event = recorded.event
        if self._parts == 1 or isinstance(event, Heartbeat):
            return Route(self._everywhere, 0)
        if isinstance(event, OfOrder) or event.stream.startswith("order-"):
            if isinstance(event, OrderPlaced):
                order = self._placed(event)
            else:
                order = await self._of_order(event.stream, recorded.position)
            counted = isinstance(event, OrderPlaced | OrderCancelled | Unreadable)
            return Route(order.all if counted else order.home, min(order.home))
        own = partition_of(event.stream, self._parts)
        return Route(frozenset((own,)), own)

    async def _of_order(self, stream: str, at: Position) -> OfPlaced:
        if known := self._orders.get(stream):
            return known
        first, *_ = await self._log.stream(stream, 1, at._replace(components=EVERYTHING))
        if isinstance(first.event, OrderPlaced):
            return self._placed(first.event)
        return OfPlaced(self._everywhere, self._everywhere)  # it cannot be read: each part looks after it

    def _placed(self, order: OrderPlaced) -> OfPlaced:
        home = customer_key(order.customer_id)
        owners = [home, day_key(time_text(order.at)[:DAY_WIDTH])]
        owners += [product_key(line.product_id) for line in order.lines]
        parts = [partition_of(owner, self._parts) for owner in owners]
        self._orders[order.stream] = route = OfPlaced(frozenset(parts[:1]), frozenset(parts))
        if len(self._orders) > ORDERS_MAX:
            self._orders.popitem(last=False)
        return route
