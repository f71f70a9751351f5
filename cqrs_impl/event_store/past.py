"""Time travel and audit: orders, customers and products as they were, and what was recorded of an order.

The time of an order's event is the one that its answers show, from the service's clock. Other events have only the time
of their recording, from the database's clock. What precedes an event in the feed had happened before it, whatever the
clocks said: an order never comes before its customer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from contract import messages as m
from contract.position import Position, covers
from contract.text import time_text
from cqrs_impl.event_store.history import PastEvent, past, state_of
from cqrs_impl.feeds.outbox.recorder import LAST, place
from cqrs_impl.system import CqrsOrders

# Index: outbox_orders_of, whose condition it repeats.
ORDERS_OF = """
SELECT stream FROM outbox WHERE substring(body FROM '"customer_id":"([^"]+)"') = %(id)s
AND version = 1 AND stream LIKE 'order-%%'"""
ENVELOPE = ("type", "id", "version", "at")  # of an event, beside its data

Moment = int | datetime
EVER = datetime.max.replace(tzinfo=UTC)
_encode = msgspec.json.Encoder().encode


class EventOrders(CqrsOrders):
    """Asks the events alone: no view, no snapshot."""

    async def answer_as_of(self, asked: m.AsOf) -> m.QueryResult:
        position, moment = await self._latest(), asked.moment
        view: m.OrderView | m.CustomerView | m.ProductView | None
        match asked.query:
            case m.GetOrder(id):
                view = await self._order(id, moment)
            case m.GetCustomer(id):
                view = await self._customer(id, moment)
            case m.GetProduct(id):
                view = await self._product(id, moment)
        return m.QueryResult(None if view is None else _encode(view), position)

    async def events_of(self, asked: m.GetEvents) -> m.QueryResult:
        position, events = await self._latest(), await self._until(f"order-{asked.id}", EVER)
        shown = m.EventsView(tuple(event_view(one) for one in events))
        return m.QueryResult(_encode(shown) if events else None, position)

    async def _order(self, id: str, moment: Moment) -> m.OrderView | None:
        if not (own := await self._until(f"order-{id}", moment)):
            return None
        placed, order = placement(own), state(own)
        (customer,) = await self._beside([f"customer-{placed.customer_id}"], own[-1], moment)
        ref = m.CustomerRef(placed.customer_id, state(customer).name)
        return m.OrderView(id, order.version, order.status, time_text(placed.at), ref, placed.lines, placed.total_cents)

    async def _customer(self, id: str, moment: Moment) -> m.CustomerView | None:
        if not (own := await self._until(f"customer-{id}", moment)):
            return None
        streams = [stream for (stream,) in await self._database.rows(ORDERS_OF, {"id": id})]
        orders = await self._beside(streams, own[-1], moment)
        placed = [placement(one) for one in orders if not isinstance(one[-1].event, m.OrderCancelled)]
        spent = sum(one.total_cents for one in placed)
        last = max((time_text(one.at) for one in placed), default=None)
        customer = state(own)
        return m.CustomerView(id, customer.version, customer.name, len(placed), spent, last)

    async def _product(self, id: str, moment: Moment) -> m.ProductView | None:
        if not (own := await self._until(f"product-{id}", moment)):
            return None
        product, stock = state(own), await self._beside([f"stock-{id}"], own[-1], moment)
        sold = state(stock[0]).taken if stock else 0
        return m.ProductView(id, product.version, product.name, product.price_cents, product.stock - sold, sold)

    async def _latest(self) -> Position:
        """Asked before the events are, which then reflect it."""
        (found,) = await self._database.rows(LAST, {})
        return place(*found)

    async def _until(self, stream: str, moment: Moment) -> list[PastEvent]:
        """The events of a stream up to a version, or to the last one at or before a time; none if it never was."""
        events = by_version(await past(self._database.rows, [stream]))
        if isinstance(moment, int):
            return events[:moment] if moment <= len(events) else []
        return up_to(events, lambda one: time_of(one) <= moment)

    async def _beside(self, streams: Sequence[str], last: PastEvent, moment: Moment) -> list[list[PastEvent]]:
        """What had happened in other streams when the last event of a thing had, or by the time asked for."""

        def known(one: PastEvent) -> bool:
            return covers(last.position, one.position) or (isinstance(moment, datetime) and time_of(one) <= moment)

        of = defaultdict[str, list[PastEvent]](list)
        until = last.position if isinstance(moment, int) else None
        for one in by_version(await past(self._database.rows, streams, until)):
            of[one.event.stream].append(one)
        return [events for stream in streams if (events := up_to(of[stream], known))]


def by_version(events: Iterable[PastEvent]) -> list[PastEvent]:
    return sorted(events, key=lambda one: one.event.version)


def up_to(events: list[PastEvent], known: Callable[[PastEvent], bool]) -> list[PastEvent]:
    """The events of a stream up to the last that is known: clocks may go back, versions do not."""
    return events[: max((number for number, one in enumerate(events, 1) if known(one)), default=0)]


def time_of(one: PastEvent) -> datetime:
    return one.event.at if isinstance(one.event, m.OfOrder) else one.recorded_at


def state(events: Iterable[PastEvent]) -> Any:
    return state_of(one.event for one in events)


def placement(order: Sequence[PastEvent]) -> m.OrderPlaced:
    event = order[0].event
    assert isinstance(event, m.OrderPlaced), "the first event of an order"
    return event


def event_view(one: PastEvent) -> m.EventView:
    fields = msgspec.to_builtins(one.event)
    data = {name: value for name, value in fields.items() if name not in ENVELOPE}
    return m.EventView(one.event.version, fields["type"], time_text(time_of(one)), data)
