"""Events that the contract's rules allow, of few things so that they meet often, and their totals added up by hand."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

import redis

from contract.messages import (
    CustomerRegistered,
    CustomerRenamed,
    CustomerView,
    DaySales,
    Event,
    Line,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    ProductAdded,
    ProductView,
    StockDelivered,
)
from contract.position import Position, covers
from cqrs_impl.batch import Apply, apply
from cqrs_impl.checkpoint import AnotherHistory, Checkpoint
from cqrs_impl.documents.redis import Keys
from cqrs_impl.documents.redis_parts import PartKeys, layout
from cqrs_impl.feeds.partition import LogPart
from cqrs_impl.part import Part
from cqrs_impl.ports import Batch, DocumentStore, RecordedEvent, Unreadable
from cqrs_impl.projector import Projector

KINDS = ("place", "place", "rename", "deliver", "advance", "advance")


def events(rng: Random, things: int = 2, kinds: tuple[str, ...] = KINDS) -> Iterator[Event]:
    """Without end: registrations first, then what `kinds` names, as often as it names it."""
    customers, products = ([str(UUID(int=kind + n)) for n in range(things)] for kind in (10, 20))
    for customer, product in zip(customers, products, strict=True):
        yield CustomerRegistered(customer, 1, "Ann Lee")
        yield ProductAdded(product, 1, "Green Tea", 100, 1000)
    versions, open = Counter[str](customers + products), list[str]()
    for n in count(1):
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=rng.randrange(72))
        customer, product, kind = rng.choice(customers), rng.choice(products), rng.choice(kinds)
        if kind == "rename":
            versions[customer] += 1
            yield CustomerRenamed(customer, versions[customer], f"Bea {n}")
        elif kind == "deliver":
            versions[product] += 1
            yield StockDelivered(product, versions[product], str(UUID(int=n)), n)
        elif kind == "place" or not open:
            open.append(str(UUID(int=1000 + n)))
            lines = tuple(Line(id, "Green Tea", n, 100, 100 * n) for id in rng.sample(products, rng.randint(1, 2)))
            yield OrderPlaced(open[-1], 1, at, customer, lines, 100 * n * len(lines))
        else:
            order = open.pop(rng.randrange(len(open)))
            versions[order] += 1
            if versions[order] == 2 or rng.random() < 0.5:
                yield OrderCancelled(order, versions[order] + 1, at)
            else:
                open.append(order)
                yield OrderPaid(order, versions[order] + 1, at)


def totals(happened: Iterable[Event], keys: Keys) -> dict[str, dict[str, int]]:
    """What the documents of customers, products and days must show."""
    cancelled = {event.id for event in happened if isinstance(event, OrderCancelled)}
    shown: dict[str, Counter[str]] = {}
    for event in happened:
        match event:
            case CustomerRegistered():
                shown[keys.document(CustomerView, event.id)] = Counter(orders=0, spent_cents=0)
            case ProductAdded():
                shown[keys.document(ProductView, event.id)] = Counter(stock=event.stock, sold=0)
            case StockDelivered():
                shown[keys.document(ProductView, event.id)]["stock"] += event.quantity
            case OrderPlaced() if event.id not in cancelled:
                shown[keys.document(CustomerView, event.customer_id)].update(orders=1, spent_cents=event.total_cents)
                day = shown.setdefault(keys.document(DaySales, str(event.at.date())), Counter())
                day.update(orders=1, revenue_cents=event.total_cents)
                for line in event.lines:
                    shown[keys.document(ProductView, line.product_id)].update(sold=line.quantity, stock=-line.quantity)
    return {key: dict(total) for key, total in shown.items()}


# One short story by heart: two orders of one customer, a rename after them, one of them cancelled.

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CUSTOMER, TEA, POT = (str(UUID(int=n)) for n in (1, 2, 3))
FIRST, SECOND = (str(UUID(int=n)) for n in (11, 12))


def line(product: str, name: str, quantity: int) -> Line:
    return Line(product, name, quantity, 100, 100 * quantity)


STORY: tuple[Event, ...] = (
    CustomerRegistered(CUSTOMER, 1, "Ann Lee"),
    ProductAdded(TEA, 1, "Green Tea", 100, 50),
    ProductAdded(POT, 1, "Tea Pot", 100, 50),
    OrderPlaced(FIRST, 1, T0, CUSTOMER, (line(TEA, "Green Tea", 2), line(POT, "Tea Pot", 1)), 300),
    OrderPaid(FIRST, 2, T0 + timedelta(seconds=1)),
    OrderPlaced(SECOND, 1, T0 + timedelta(days=1), CUSTOMER, (line(TEA, "Green Tea", 5),), 500),
    StockDelivered(TEA, 2, str(UUID(int=99)), 7),
    CustomerRenamed(CUSTOMER, 2, "Bea Lee"),
    OrderCancelled(SECOND, 2, T0 + timedelta(days=2)),
)


def place(number: int, history: str = "") -> Position:
    return Position(((1, number),), history)


class ListFeed:
    """A feed, and a log, over a list; the bodies of some of its events cannot be read."""

    def __init__(self, events: Iterable[Event], poison: Iterable[int] = (), history: str = "") -> None:
        self.events, self.poison, self.named = list(events), set(poison), history

    def recorded(self) -> list[RecordedEvent]:
        read = [
            Unreadable(event.stream, event.version, "poison") if n in self.poison else event
            for n, event in enumerate(self.events)
        ]
        return [RecordedEvent(place(n, self.named), event) for n, event in enumerate(read, start=1)]

    async def read(self, after: Position, limit: int) -> Batch:
        await self.history(after)
        return Batch([one for one in self.recorded() if not covers(after, one.position)][:limit], more_soon=False)

    async def wait(self, timeout_s: float) -> None:
        raise AssertionError("nobody waits here")

    async def close(self) -> None:
        pass

    async def present(self) -> str:
        return self.named

    async def history(self, position: Position, counted: int | None = None) -> str:
        if position.history != self.named:
            raise AnotherHistory
        return self.named

    async def count(self, upto: Position | None = None) -> int:
        return sum(upto is None or covers(upto, one.position) for one in self.recorded())

    async def reserve(self) -> None:
        """Nobody else knows this log."""

    async def stream(self, stream: str, version: int, upto: Position) -> list[RecordedEvent]:
        mine = [one for one in self.recorded() if one.event.stream == stream and covers(upto, one.position)]
        return sorted((one for one in mine if one.event.version >= version), key=lambda one: one.event.version)


async def followed(
    documents: DocumentStore, feed: ListFeed, *, apply: Apply = apply, batch_max: int = 500
) -> Projector:
    """A projector that has read the whole feed."""
    return await to_the_end(Projector(feed, feed, documents, apply=apply, batch_max=batch_max), feed)


async def in_parts(
    documents: Callable[[Part], DocumentStore], feed: ListFeed, parts: int, *, batch_max: int = 500
) -> list[Projector]:
    """The projectors of all parts, one of which after the other has read the whole feed."""
    numbered = [Part(number, parts) for number in range(parts)]
    built = [Projector(LogPart(feed, part), feed, documents(part), part=part, batch_max=batch_max) for part in numbered]
    return [await to_the_end(projector, feed) for projector in built]


async def to_the_end(projector: Projector, feed: ListFeed) -> Projector:
    async with asyncio.timeout(60):
        await projector.step()
        while not covers(await projector.position(), place(len(feed.events))):
            await projector.step()
    return projector


def views(redis_url: str, namespace: str, parts: int) -> dict[str, object]:
    """As `contents`, of all parts together, without what they keep for themselves."""
    keys = PartKeys(namespace, Part(0, parts))
    own = (*keys.joined, *keys.every_parked, *keys.every_applied, f"{keys.namespace}projectors")
    kept = {name.removeprefix(keys.prefix) for name in own}
    found = contents(redis_url, layout(namespace, parts))
    beginnings = "slip:", f"{keys.namespace}offset:"
    return {name: shown for name, shown in found.items() if name not in kept and not name.startswith(beginnings)}


def contents(redis_url: str, namespace: str) -> dict[str, object]:
    """All documents and lists, but not how they came about; those of other versions by their whole names."""
    keys = Keys(namespace)
    with redis.Redis.from_url(redis_url) as client, client.pipeline(transaction=False) as asked:
        checkpoint: Any = client.get(keys.checkpoint)
        keys = keys.of(Checkpoint.of(checkpoint or b"").version)
        own = {name.encode() for name in (keys.checkpoint, keys.applied, keys.parked)}
        found = [key for key in client.keys(f"{namespace}:*") if key not in own]
        for key in found:
            asked.type(key)
        for key, kind in zip(found, asked.execute(), strict=True):
            asked.get(key) if kind == b"string" else asked.zrange(key, 0, -1)
        values = dict(zip(found, asked.execute(), strict=True))
    return {key.decode().removeprefix(keys.prefix): value for key, value in values.items()}
