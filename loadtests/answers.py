"""The types of the answers to queries, and the answers expected for given orders, customers and products."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import zip_longest

import msgspec
from msgspec import Struct

from loadtests.http import HttpResponse

LIST_MAX = 100  # entries of a list that is not paged
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
STEPS: dict[tuple[str, int], tuple[str, ...]] = {  # what brought an order to a status and version; there are no others
    ("placed", 1): (),
    ("paid", 2): ("pay",),
    ("shipped", 3): ("pay", "ship"),
    ("cancelled", 2): ("cancel",),
    ("cancelled", 3): ("pay", "cancel"),
}
PAST = {"pay": "paid", "ship": "shipped", "cancel": "cancelled"}


class Reference(Struct, frozen=True):
    id: str
    name: str


class Line(Struct, frozen=True):
    product_id: str
    product_name: str
    quantity: int
    unit_price_cents: int
    amount_cents: int


class Order(Struct, frozen=True):
    id: str
    version: int
    status: str
    placed_at: str
    customer: Reference
    lines: tuple[Line, ...]
    total_cents: int


class Customer(Struct, frozen=True):
    id: str
    version: int
    name: str
    orders: int
    spent_cents: int
    last_order_at: str | None


class Product(Struct, frozen=True):
    id: str
    version: int
    name: str
    price_cents: int
    stock: int
    sold: int


class Item(Struct, frozen=True):
    """An order in a list; `lines` counts them."""

    id: str
    version: int
    status: str
    placed_at: str
    lines: int
    total_cents: int


class Change(Struct, frozen=True):
    version: int
    what: str
    at: str


class Changes(Struct, frozen=True):
    changes: list[Change]


class Totals:
    """What the orders that are not cancelled add up to."""

    def __init__(self, orders: Iterable[Order]) -> None:
        self.pieces, self.revenue_cents = Counter[str](), Counter[str]()  # by product
        self.orders, self.spent_cents = Counter[str](), Counter[str]()  # by customer
        self.days: defaultdict[str, list[int]] = defaultdict(list)
        for order in orders:
            if order.status != "cancelled":
                self.orders[order.customer.id] += 1
                self.spent_cents[order.customer.id] += order.total_cents
                self.days[order.placed_at[:10]].append(order.total_cents)
                for line in order.lines:
                    self.pieces[line.product_id] += line.quantity
                    self.revenue_cents[line.product_id] += line.amount_cents


def expected_answers(
    orders: Iterable[Order],
    customers: Iterable[Customer],
    products: Iterable[Product],
    answers: Mapping[str, HttpResponse],
    words: Collection[str],
) -> dict[str, bytes]:
    """The bytes of every query, by path. Of a history only the times of the changes are taken from its answer."""
    newest = sorted(orders, key=lambda order: (order.placed_at, order.id), reverse=True)
    names = {thing.id: thing.name for things in (customers, products) for thing in things}
    totals, of_customer = Totals(newest), defaultdict[str, list[Order]](list)
    expected: dict[str, object] = {}
    for order in newest:
        of_customer[order.customer.id].append(order)
        lines = [msgspec.structs.replace(line, product_name=names.get(line.product_id, "")) for line in order.lines]
        customer = Reference(order.customer.id, names.get(order.customer.id, ""))
        expected[f"/orders/{order.id}"] = msgspec.structs.replace(order, customer=customer, lines=tuple(lines))
        path = f"/orders/{order.id}/history"
        expected[path] = _history(order, answers[path])
    for customer_ in customers:
        mine = of_customer[customer_.id]
        last = next((order.placed_at for order in mine if order.status != "cancelled"), None)
        expected[f"/customers/{customer_.id}"] = msgspec.structs.replace(customer_, last_order_at=last)
        expected[f"/customers/{customer_.id}/orders"] = {"orders": list(map(_item, mine)), "next": None}
    for product in products:
        expected[f"/products/{product.id}"] = product
    best = sorted(filter(totals.pieces.get, totals.pieces), key=lambda id: (-totals.revenue_cents[id], id))[:LIST_MAX]
    expected[f"/reports/top-products?limit={LIST_MAX}"] = {
        "products": [
            {"id": id, "name": names.get(id), "sold": totals.pieces[id], "revenue_cents": totals.revenue_cents[id]}
            for id in best
        ]
    }
    days = [
        {"day": day, "orders": len(spent), "revenue_cents": sum(spent)}
        for day, spent in sorted(totals.days.items(), reverse=True)
    ]
    expected["/reports/daily-sales?days=366"] = {"days": days}
    for word in words:
        found = [order for order in newest if word.lower() in _words(order, names)]
        expected[f"/search/orders?q={word}&limit={LIST_MAX}"] = {"orders": list(map(_item, found[:LIST_MAX]))}
    return {path: msgspec.json.encode(answer) for path, answer in expected.items()}


def _history(order: Order, answer: HttpResponse) -> Changes:
    try:
        times = [change.at for change in msgspec.json.decode(answer.body, type=Changes).changes]
    except ValueError:
        times = []
    steps = ("placed", *(PAST[step] for step in STEPS.get((order.status, order.version), ())))
    times = [order.placed_at, *(at if TIME.fullmatch(at) else "" for at in times[1:])]
    changes = enumerate(zip_longest(steps, times[: len(steps)], fillvalue=""), 1)
    return Changes([Change(n, what, at) for n, (what, at) in changes])


def _item(order: Order) -> Item:
    return Item(order.id, order.version, order.status, order.placed_at, len(order.lines), order.total_cents)


def _words(order: Order, names: Mapping[str, str]) -> set[str]:
    shown = (names.get(order.customer.id, ""), *(names.get(line.product_id, "") for line in order.lines))
    return {word for name in shown for word in name.lower().split()}
