"""The table of what a command makes stale names what the fold changes, and nothing else."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from typing import Any

from contract import messages as m
from cqrs_impl.documents.memory import MemoryDocuments
from cqrs_impl.fold import KINDS, fold
from crud_impl.cache.stale import STALE, Related, stale_tags, tags_of
from tests.story import T0, events, line

COMMANDS: dict[type[m.Event], Callable[[Any], m.Command]] = {
    m.CustomerRegistered: lambda e: m.RegisterCustomer(e.id, e.name),
    m.CustomerRenamed: lambda e: m.RenameCustomer(e.id, e.name),
    m.ProductAdded: lambda e: m.AddProduct(e.id, e.name, e.price_cents, e.stock),
    m.ProductRepriced: lambda e: m.RepriceProduct(e.id, e.price_cents),
    m.StockDelivered: lambda e: m.DeliverStock(e.id, e.delivery_id, e.quantity),
    m.OrderPlaced: lambda e: m.PlaceOrder(
        e.id, e.customer_id, tuple(m.Wanted(one.product_id, one.quantity) for one in e.lines)
    ),
    m.OrderPaid: lambda e: m.PayOrder(e.id),
    m.OrderShipped: lambda e: m.ShipOrder(e.id),
    m.OrderCancelled: lambda e: m.CancelOrder(e.id),
}
SHOWN_BY: dict[str, Callable[[str], m.Query | None]] = {
    "customer": m.GetCustomer,
    "product": m.GetProduct,
    "order": m.GetOrder,
    "history": m.GetHistory,
    "item": lambda _: m.SearchOrders(("tea",), 10),
    "word": lambda _: m.SearchOrders(("tea",), 10),
    "sales": lambda _: m.TopProducts(10),
    "top": lambda _: m.TopProducts(10),
    "day": lambda _: m.DailySales(30),
    "days": lambda _: m.DailySales(30),
    "orders-of": lambda id: m.ListOrders(id, 10),
    "active-of": lambda _: None,  # no query shows it
}


class Watched(MemoryDocuments):
    """Documents that remember what was changed: (kind, id)."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = set[tuple[str, str]]()

    def put(self, id: str, document: Any) -> None:
        self.changed.add((KINDS[type(document)], id))
        super().put(id, document)

    def list(self, name: str, entry: str) -> None:
        self.changed.add((name.partition(":")[0], name.partition(":")[2]))
        super().list(name, entry)

    def drop(self, name: str, entry: str) -> None:
        self.changed.add((name.partition(":")[0], name.partition(":")[2]))
        super().drop(name, entry)


def whole_story(seed: int) -> Iterator[m.Event]:
    """A random one, and the kinds of events that it lacks."""
    yield from (story := [*islice(events(Random(seed)), 60)])
    customer, product = (next(e.id for e in story if isinstance(e, kind)) for kind in (m.OfCustomer, m.OfProduct))
    yield m.OrderPlaced("last", 1, T0, customer, (line(product, "Green Tea", 1),), 100)
    yield m.OrderPaid("last", 2, T0)
    yield m.OrderShipped("last", 3, T0)
    yield m.ProductRepriced(product, 9, 7)


def test_the_table_names_what_the_fold_changes_and_nothing_else() -> None:
    needed: dict[type, set[str]] = {kind: set() for kind in STALE}

    async def check(seed: int) -> None:
        documents, placed = Watched(), dict[str, Related]()
        for event in whole_story(seed):
            documents.changed.clear()
            await fold(event, documents)
            if isinstance(event, m.OrderPlaced):
                placed[event.id] = Related(event.customer_id, tuple(one.product_id for one in event.lines))
            command = COMMANDS[type(event)](event)
            stale = stale_tags(command, placed.get(event.id, Related()))
            for kind, id in documents.changed:
                if query := SHOWN_BY[kind](id):
                    reached = stale.intersection(tags_of(query, placed.get(id, Related()).customer_id))
                    assert reached, f"{type(event).__name__} changes {kind} {id}"
                    needed[type(command)] |= {tag.partition(":")[0] for tag in reached}

    for seed in range(20):
        asyncio.run(check(seed))
    assert {kind: set(tags) for kind, tags in STALE.items()} == needed
