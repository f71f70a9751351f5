"""Events that the contract's rules allow, of few things so that they meet often, and their totals added up by hand."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from uuid import UUID

from contract.messages import (
    CustomerRegistered,
    CustomerRenamed,
    Event,
    Line,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    ProductAdded,
    StockDelivered,
)
from cqrs_impl.read.keys import Keys

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
                shown[keys.customer(event.id)] = Counter(orders=0, spent_cents=0)
            case ProductAdded():
                shown[keys.product(event.id)] = Counter(stock=event.stock, sold=0)
            case StockDelivered():
                shown[keys.product(event.id)]["stock"] += event.quantity
            case OrderPlaced() if event.id not in cancelled:
                shown[keys.customer(event.customer_id)].update(orders=1, spent_cents=event.total_cents)
                day = shown.setdefault(keys.day(str(event.at.date())), Counter())
                day.update(orders=1, revenue_cents=event.total_cents)
                for line in event.lines:
                    shown[keys.product(line.product_id)].update(sold=line.quantity, stock=-line.quantity)
    return {key: dict(total) for key, total in shown.items()}
