"""The seeded stream of operations: the same ones in the same order for every target.

Pay, ship and cancel are sent only for orders that an earlier round of this stream placed, and at most one of them per
order and round: operations of a round overlap, so the target could receive them in any order.
"""

import math
import random
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from loadtests.dataset import Dataset, Ids, person
from loadtests.popularity import Zipf, latest
from loadtests.workload import READS, Key, Workload

T = TypeVar("T")

# Ids of new orders carry a time after all ids of the data set, as those of real clients would.
_NEW_MS = 1_767_225_600_000 + 2**33

READ_PATHS = {
    "order": "/orders/{order}",
    "history": "/orders/{order}/history",
    "customer": "/customers/{customer}",
    "customer_orders": "/customers/{customer}/orders?limit=20",
    "product": "/products/{product}",
    "top_products": "/reports/top-products?limit=10",
    "daily_sales": "/reports/daily-sales?days=30",
    "search": "/search/orders?q={words}&limit=20",
}


class Operation(NamedTuple):
    """One request; `due_us` counts from the start of its slice."""

    due_us: int
    name: str
    kind: str  # "read" or "write"
    method: str
    path: str
    body: bytes | None = None


class Probe(NamedTuple):
    """A command, and the read that shows when its effect is visible: at `version` or later, 404 counting as 0."""

    setup: Operation | None  # to be acknowledged and settled before
    command: Operation
    read: Operation
    version: int | None  # after the command; None: as its response says


class Round(NamedTuple):
    operations: list[Operation]
    probes: list[Probe]


def outcome_of(status: int) -> str:
    """Without a response (0), as after a 5xx, the outcome of a command is unknown."""
    if 200 <= status < 300:
        return "ok"
    return "refused" if 400 <= status < 500 else "error"


def read_of(name: str, path: str) -> Operation:
    return Operation(0, name, "read", "GET", path)


class OperationStream:
    """Draws operations of a workload over a data set; `nonce` tells the new ids of one run from those of another."""

    def __init__(self, dataset: Dataset, workload: Workload, nonce: str) -> None:
        assert dataset.size.customers and dataset.size.products, "operations need customers and products to be about"
        self.dataset, self.workload, self.nonce = dataset, workload, nonce
        self._ids = Ids(dataset.seed, nonce, "new-order", start_ms=_NEW_MS)
        self._deliveries = Ids(dataset.seed, nonce, "delivery", start_ms=_NEW_MS)
        self._pieces = _Choice(range(1, len(workload.basket.pieces) + 1), workload.basket.pieces)
        self._lines = _Choice(range(1, len(workload.basket.lines) + 1), workload.basket.lines)
        self._reads = _Choice(list(workload.reads), list(workload.reads.values()))
        self._writes = _Choice(list(workload.writes), list(workload.writes.values()))
        size, keys = dataset.size, workload.keys
        self._customer = _chooser(keys.customer, size.customers)
        self._product = _chooser(keys.product, size.products)
        self._order = _chooser(keys.order, size.orders) if size.orders and keys.order.distribution == "zipf" else None
        self._orders = self._delivered = 0  # new ones so far
        self._visible = 0  # new orders of earlier rounds: those that reads may ask for
        self._placed: list[str] = []  # placed in an earlier round and nothing since
        self._paid: list[str] = []
        self._next_placed: list[str] = []  # become the ones above when the round is over
        self._next_paid: list[str] = []
        self._touched: set[str] = set()  # renamed or repriced in this round already

    def round(
        self,
        read_share_pct: float,
        number: int,
        *,
        slice_s: float,
        rate_per_s: float | None = None,
        probes: int = 0,
        shares: Mapping[str, float] | None = None,
    ) -> Round:
        """The operations of one round, due at the times of a Poisson process: of the workload, or by these shares."""
        rng = random.Random(f"{self.dataset.seed}/{self.nonce}/{read_share_pct:g}/{number}")
        probing = [self._probe(rng, number) for number in range(probes)]
        mean_us, end_us = 1e6 / (rate_per_s or self.workload.rate_per_s), slice_s * 1e6
        operations = []
        due_us = _gap(rng, mean_us)
        mix = None if shares is None else _Choice(list(shares), list(shares.values()))
        while due_us < end_us and shares != {}:
            operations.append(self.draw(rng, read_share_pct, int(due_us), mix))
            due_us += _gap(rng, mean_us)
        self.settle()
        return Round(operations, probing)

    def draw(
        self, rng: random.Random, read_share_pct: float, due_us: int = 0, mix: "_Choice[str] | None" = None
    ) -> Operation:
        if mix is not None:
            name = mix.at(rng.random())
            return self._read(rng, name, due_us) if name in READS else self._write(rng, name, due_us)
        if rng.random() * 100 < read_share_pct:
            return self._read(rng, self._reads.at(rng.random()), due_us)
        return self._write(rng, self._writes.at(rng.random()), due_us)

    def settle(self) -> None:
        """Orders placed and paid so far may now be paid and shipped."""
        self._visible = self._orders
        self._placed += self._next_placed
        self._paid += self._next_paid
        self._next_placed, self._next_paid = [], []
        self._touched.clear()

    def watched(self, count: int) -> tuple[list[str], list[str]]:
        """The customers and the products asked for most: whose totals a ledger can watch at a bounded cost."""
        customers = Zipf(self.dataset.size.customers, 1.0).most_popular(count)
        products = Zipf(self.dataset.size.products, 1.0).most_popular(count)
        return [self.dataset.customer_id(i) for i in customers], [self.dataset.product_id(i) for i in products]

    def _read(self, rng: random.Random, name: str, due_us: int) -> Operation:
        draw = rng.random()
        if name in ("order", "history") and not self.dataset.size.orders + self._visible:
            name = "product"  # an empty shop has no order to ask for before its first round is over
        path = READ_PATHS[name]
        if "{order}" in path:
            path = path.format(order=self._known_order(draw))
        elif "{customer}" in path:
            path = path.format(customer=self.dataset.customer_id(self._customer(draw)))
        elif "{product}" in path:
            path = path.format(product=self.dataset.product_id(self._product(draw)))
        elif "{words}" in path:
            path = path.format(words=quote(self._words(rng, draw)))
        return Operation(due_us, name, "read", "GET", path)

    def _write(self, rng: random.Random, name: str, due_us: int) -> Operation:
        payable, shippable = self._placed, self._paid
        cancellable = self._placed or self._paid
        body: dict[str, str | int] | None = None
        if name == "pay" and payable:
            order = _take(payable, rng)
            self._next_paid.append(order)
            path = f"/orders/{order}/pay"
        elif name == "ship" and shippable:
            path = f"/orders/{_take(shippable, rng)}/ship"
        elif name == "cancel" and cancellable:
            path = f"/orders/{_take(cancellable, rng)}/cancel"
        elif name == "rename":
            customer = self._untouched(rng, self._customer, self.dataset.customer_id)
            path, body = f"/customers/{customer}/rename", {"name": person(rng.getrandbits(40))}
        elif name == "reprice":
            product = self._untouched(rng, self._product, self.dataset.product_id)
            path, body = f"/products/{product}/reprice", {"price_cents": 99 + int(rng.random() * 20_000)}
        elif name == "deliver":
            product = self.dataset.product_id(self._product(rng.random()))
            path = f"/products/{product}/deliveries/{self._deliveries.at(self._delivered)}"
            body = {"quantity": 1 + int(rng.random() * 100)}
            self._delivered += 1
        else:  # what has nothing yet to be done to becomes the placing of an order
            operation, order = self._place(rng, due_us)
            self._next_placed.append(order)
            return operation
        method = "PUT" if name == "deliver" else "POST"
        return Operation(due_us, name, "write", method, path, None if body is None else msgspec.json.encode(body))

    def _place(self, rng: random.Random, due_us: int) -> tuple[Operation, str]:
        order = self._ids.at(self._orders)
        self._orders += 1
        wanted = (self._product(rng.random()) for _ in range(self._lines.at(rng.random())))
        # A product drawn twice counts once: an order's products are distinct.
        lines = [
            {"product_id": self.dataset.product_id(product), "quantity": self._pieces.at(rng.random())}
            for product in dict.fromkeys(wanted)
        ]
        customer = self.dataset.customer_id(self._customer(rng.random()))
        body = msgspec.json.encode({"customer_id": customer, "lines": lines})
        return Operation(due_us, "place", "write", "PUT", f"/orders/{order}", body), order

    def _probe(self, rng: random.Random, number: int) -> Probe:
        if number % 3 == 2 and self.workload.writes.get("rename"):
            customer = self._untouched(rng, self._customer, self.dataset.customer_id)
            # A name of its own: a rename to the present name would change nothing and show nothing.
            body = msgspec.json.encode({"name": f"{person(rng.getrandbits(40))} {rng.getrandbits(40):x}"})
            command = Operation(0, "rename", "write", "POST", f"/customers/{customer}/rename", body)
            return Probe(None, command, read_of("customer", f"/customers/{customer}"), None)
        place, order = self._place(rng, 0)
        read = read_of("order", f"/orders/{order}")
        if number % 3 == 0:
            return Probe(None, place, read, 1)
        return Probe(place, Operation(0, "pay", "write", "POST", f"/orders/{order}/pay"), read, 2)

    def _known_order(self, draw: float) -> str:
        size = self.dataset.size.orders
        if self._order is not None:
            index = self._order(draw)
        elif self.workload.keys.order.distribution == "uniform":
            index = int(draw * (size + self._visible))
        else:
            index = latest(draw, size + self._visible, self.workload.keys.order.exponent)
        return self.dataset.order_id(index) if index < size else self._ids.at(index - size)

    def _untouched(self, rng: random.Random, choose: Callable[[float], int], id_of: Callable[[int], str]) -> str:
        """An id not renamed or repriced in this round yet, if one is found soon."""
        for _ in range(20):
            found = id_of(choose(rng.random()))
            if found not in self._touched:
                break
        self._touched.add(found)
        return found

    def _words(self, rng: random.Random, draw: float) -> str:
        """A customer's whole name, or what kind of product it was."""
        if rng.random() < 0.5:
            return self.dataset.customer_name(self._customer(draw))
        return " ".join(self.dataset.product_name(self._product(draw)).split()[:2])


class _Choice(Generic[T]):
    """One of some values by weight."""

    def __init__(self, values: Sequence[T], weights: Sequence[float]) -> None:
        self._values, self._edges = values, list(accumulate(weights))

    def at(self, draw: float) -> T:
        return self._values[min(bisect(self._edges, draw * self._edges[-1]), len(self._values) - 1)]


def _chooser(key: Key, n: int) -> Callable[[float], int]:
    """From a draw in [0, 1) to an index in 0..n-1."""
    match key.distribution:
        case "uniform":
            return lambda draw: int(draw * n)
        case "zipf":
            return Zipf(n, key.exponent).index
        case "latest":
            return lambda draw: latest(draw, n, key.exponent)


def _gap(rng: random.Random, mean_us: float) -> float:
    return -math.log(1 - rng.random()) * mean_us


def _take(orders: list[str], rng: random.Random) -> str:
    """Removes one at random, in constant time."""
    place = int(rng.random() * len(orders))
    orders[place], orders[-1] = orders[-1], orders[place]
    return orders.pop()
