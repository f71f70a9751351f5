"""Random histories in an event store in memory: at every version its fold is what the model said then."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import msgspec

from contract import messages as m
from contract import rules
from contract.errors import Refusal
from contract.ports import utc_now
from contract.position import START, Position
from cqrs_impl.event_store.commands import EventCommands
from cqrs_impl.event_store.events import decode, encode
from cqrs_impl.event_store.history import state_of
from cqrs_impl.event_store.store import Stream, folded
from tests.model import Model

HISTORIES = int(os.environ.get("HISTORIES", "300"))


class MemoryStore:
    """The streams of an `EventStore`, by their bodies."""

    def __init__(self) -> None:
        self.bodies = defaultdict[str, list[str]](list)

    async def load(self, _: Any, streams: list[str], *, locked: list[str]) -> dict[str, Stream]:
        return {stream: folded(stream, None, self.bodies[stream]) for stream in streams}

    async def delivered(self, _: Any, product: str, delivery_id: str) -> int | None:
        events = map(decode, self.bodies[product])
        return next((e.quantity for e in events if getattr(e, "delivery_id", "") == delivery_id), None)

    async def append(self, _: Any, streams: dict[str, Stream], events: list[Any]) -> Callable[[], Position]:
        for event in events:
            assert event.stream in streams and event.version == len(self.bodies[event.stream]) + 1
            self.bodies[event.stream].append(encode(event))
        return lambda: START

    async def latest(self, _: Any) -> Callable[[], Position]:
        return lambda: START


def chosen(rng: Random, model: Model) -> tuple[m.Command, Any]:
    """A command, which may be a repeat or be refused, and what the model says of it."""
    customer, product, order = (str(UUID(int=kind + rng.randrange(3))) for kind in (10, 20, 30))
    name, number, expected = rng.choice("ABC"), rng.randint(1, 4), rng.choice((None, None, 1, 2))
    match rng.randrange(10):
        case 0:
            return m.RegisterCustomer(customer, name), model.register(customer, name)
        case 1:
            return m.AddProduct(product, name, number, number), model.add(product, name, number, number)
        case 2:
            return m.RenameCustomer(customer, name, expected), model.rename(customer, name, expected)
        case 3:
            return m.RepriceProduct(product, number, expected), model.reprice(product, number, expected)
        case 4:
            delivery = str(UUID(int=rng.randrange(6)))
            return m.DeliverStock(product, delivery, number), model.deliver(product, delivery, number)
        case 5 | 6 | 7:
            wanted = [(str(UUID(int=20 + n)), number) for n in rng.sample(range(3), rng.randint(1, 2))]
            lines = tuple(m.Wanted(*line) for line in wanted)
            return m.PlaceOrder(order, customer, lines), model.place(order, customer, wanted)
        case _:
            what, kind = rng.choice((("pay", m.PayOrder), ("ship", m.ShipOrder), ("cancel", m.CancelOrder)))
            return kind(order, expected), model.advance(order, what, expected)


def in_model(model: Model, stream: str) -> tuple[Any, ...]:
    kind, _, id = stream.partition("-")
    if kind == "order":
        order = model.orders[id]
        return order.version, order.happened[-1], "paid" in order.happened, *order.first
    if kind == "customer":
        customer = model.customers[id]
        return customer.version, customer.value, *customer.first
    product = model.products[id]
    there = product.first[2] + sum(product.deliveries.values())
    return (there - product.stock,) if kind == "stock" else (product.version, product.value, *product.first, there)


def in_state(state: Any) -> tuple[Any, ...]:
    match state:
        case rules.Order():
            wanted = [(line.product_id, line.quantity) for line in state.lines]
            return state.version, state.status, state.paid, state.customer_id, wanted
        case rules.Customer():
            return state.version, state.name, state.registered_name
        case rules.Product():
            added = (state.name, state.added_price_cents, state.added_stock)
            return state.version, state.price_cents, *added, state.stock
    return (state.taken,)


async def check_history(seed: int) -> list[str]:
    """Every answer is that of the model, which folds nothing; each version of a stream folds to what it said then.
    Returns the kinds of the events."""
    rng, model, store = Random(seed), Model(), MemoryStore()
    commands, then = EventCommands(None, store, utc_now), dict[tuple[str, int], tuple[Any, ...]]()
    for _ in range(100):
        command, expected = chosen(rng, model)
        lengths = {stream: len(bodies) for stream, bodies in store.bodies.items()}
        try:
            effect, _position = await commands.write(None, command, datetime.now(UTC))
            answer: Any = (201 if effect.created else 200, effect.receipt.version)
        except Refusal as refusal:
            answer = refusal.status, refusal.code
        assert answer == expected, f"seed {seed}: {command}"
        for stream, bodies in store.bodies.items():
            if len(bodies) > lengths.get(stream, 0):
                then[stream, len(bodies)] = in_model(model, stream)
    for (stream, version), was in then.items():
        bodies = store.bodies[stream][:version]
        before = rng.randrange(version)
        snapshot = msgspec.json.encode(state_of(map(decode, bodies[:before]))).decode() if before else None
        for state in (state_of(map(decode, bodies)), folded(stream, snapshot, bodies[before:]).state):
            assert in_state(state) == was, f"seed {seed}: {stream} at version {version}"
    return [stream.partition("-")[0] for stream, _ in then]


def test_at_every_version_of_random_histories_the_fold_is_the_state_recorded_then() -> None:
    async def check() -> list[list[str]]:
        return [await check_history(seed) for seed in range(HISTORIES)]

    histories = asyncio.run(check())
    assert sum(map(len, histories)) > 20 * HISTORIES
    assert sum({"order", "stock"} <= set(streams) for streams in histories) > HISTORIES * 3 / 4, "most place an order"
