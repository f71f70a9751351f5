"""The client's own books: what was acknowledged, refused or left unknown, checked against what the target then says.

It knows nothing of how a target works; it reads what was sent and what came back. Commands of one slice overlap, so a
price set in a slice may or may not hold for the orders of that slice; everything else has one right answer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from loadtests.entries import Entry, Order, Placing
from loadtests.http import HttpClient, concurrently
from loadtests.operations import Operation

Progress = Callable[[int, int], None]
KINDS = ("lost", "phantom", "differing")
T = TypeVar("T", bound=Struct)


class NotFilled(Exception):
    """The target does not hold the data the run is about; the message is one sentence."""


class Customer(Struct, frozen=True):
    name: str
    orders: int
    spent_cents: int


class Product(Struct, frozen=True):
    price_cents: int
    stock: int
    sold: int


class Setting(Struct, frozen=True):
    """The body of a rename, a reprice or a delivery."""

    name: str = ""
    price_cents: int = 0
    quantity: int = 0


class Verdict(Struct, frozen=True):
    """`first` describes the first finding for a reader; `rounds` are those whose commands are in these books."""

    ok: bool
    operations: int
    acknowledged: int
    unknown: int
    lost: int = 0
    phantom: int = 0
    differing: int = 0
    rounds: int = 0
    first: str | None = None


class Totals(NamedTuple):
    """What the orders that are there, and not cancelled, add up to."""

    pieces: dict[str, int]  # by product
    orders: dict[str, int]  # by customer
    spent_cents: dict[str, int]  # by customer


class Ledger:
    """The books of one target."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._orders: dict[str, Entry] = {}
        self._prices: dict[str, set[int]] = {}  # of a product: what it may cost now
        self._names: dict[str, set[str]] = {}
        self._delivered: defaultdict[str, int] = defaultdict(int)
        self._maybe_delivered: defaultdict[str, int] = defaultdict(int)
        self._customers: dict[str, Customer] = {}  # watched ones, as they were before the load
        self._products: dict[str, Product] = {}
        self._counts = {"ok": 0, "refused": 0, "error": 0}
        self._findings: dict[str, list[str]] = {kind: [] for kind in KINDS}

    def open(self, customers: Iterable[str], products: Iterable[str]) -> None:
        """Reads the baseline of the things to watch; the target must have settled."""

        def customer(identity: str) -> None:
            found = self._customers[identity] = self._baseline(f"/customers/{identity}", Customer)
            self._names[identity] = {found.name}

        def product(identity: str) -> None:
            found = self._products[identity] = self._baseline(f"/products/{identity}", Product)
            self._prices[identity] = {found.price_cents}

        concurrently(customer, customers)
        concurrently(product, products)

    def record(self, commands: Iterable[tuple[Operation, str]]) -> None:
        """Books the commands of one slice with their outcomes, in the order in which they were due."""
        sent = [(command, outcome) for command, outcome in commands if outcome != "dropped"]
        repriced: defaultdict[str, set[int]] = defaultdict(set)
        surely = set()
        for command, outcome in sent:
            if command.name == "reprice" and outcome != "refused":
                repriced[_identity(command)].add(_setting(command).price_cents)
                if outcome == "ok":
                    surely.add(_identity(command))
        for command, outcome in sent:
            self._counts[outcome] += 1
            self._book(command, outcome, repriced)
        for identity, prices in repriced.items():
            if identity in surely:
                self._prices[identity] = prices
            elif identity in self._prices:
                self._prices[identity] = self._prices[identity] | prices

    def close(self, progress: Progress = lambda done, total: None) -> Verdict:
        """Reads everything back and compares; the target must have settled."""
        found: list[Order] = []
        total, done = len(self._orders) + len(self._products) + len(self._customers), 0

        def check(work: Callable[[str], None], identities: Iterable[str]) -> None:
            concurrently(work, list(identities), progress=lambda now: progress(done + now, total))

        check(lambda identity: self._check_order(identity, found), self._orders)
        totals = _add_up(found)
        done += len(self._orders)
        check(lambda identity: self._check_product(identity, totals), self._products)
        done += len(self._products)
        check(lambda identity: self._check_customer(identity, totals), self._customers)
        counts, findings = self._counts, self._findings
        first = next((findings[kind][0] for kind in KINDS if findings[kind]), None)
        return Verdict(
            ok=first is None,
            operations=sum(counts.values()),
            acknowledged=counts["ok"],
            unknown=counts["error"],
            lost=len(findings["lost"]),
            phantom=len(findings["phantom"]),
            differing=len(findings["differing"]),
            first=first,
        )

    def _book(self, command: Operation, outcome: str, repriced: dict[str, set[int]]) -> None:
        identity = _identity(command)
        match command.name:
            case "place":
                assert command.body is not None, "an order is placed with a body"
                self._orders[identity] = Entry(command.body, outcome, self._possible(command.body, repriced))
            case "pay" | "ship" | "cancel":
                if identity in self._orders:
                    self._orders[identity].change(command.name, outcome)
                elif outcome == "ok":
                    self._find("phantom", f"{command.path} was acknowledged for an order that was never placed")
            case "rename" if outcome != "refused":
                before = self._names.get(identity, set()) if outcome == "error" else set()
                self._names[identity] = before | {_setting(command).name}
            case "deliver" if outcome == "ok":
                self._delivered[identity] += _setting(command).quantity
            case "deliver" if outcome == "error":
                self._maybe_delivered[identity] += _setting(command).quantity

    def _possible(self, body: bytes, repriced: dict[str, set[int]]) -> dict[str, set[int] | None]:
        """What the products of an order may cost while prices are being set."""
        products = [line.product_id for line in msgspec.json.decode(body, type=Placing).lines]
        known = self._prices
        return {one: known[one] | repriced.get(one, set()) if one in known else None for one in products}

    def _check_order(self, identity: str, found: list[Order]) -> None:
        entry, path = self._orders[identity], f"/orders/{identity}"
        answer = self._client.get(path)
        if answer.status == 404:
            if entry.outcome == "ok":
                self._find("lost", f"GET {path} says 404, but the order was acknowledged")
            return
        if entry.outcome == "refused":
            self._find("phantom", f"GET {path} says {answer.status}, but the order was refused")
        order = self._decoded(path, answer.status, answer.body, Order)
        if order is not None:
            found.append(order)
            if entry.outcome != "refused" and (problem := entry.problem(identity, order)):
                self._find("differing", f"GET {path}: {problem}")

    def _check_product(self, identity: str, totals: Totals) -> None:
        before, path = self._products[identity], f"/products/{identity}"
        answer = self._client.get(path)
        now = self._decoded(path, answer.status, answer.body, Product)
        if now is None:
            return
        sold = totals.pieces.get(identity, 0)
        least = before.stock + self._delivered[identity] - sold
        if not least <= now.stock <= least + self._maybe_delivered[identity]:
            self._find("differing", f"GET {path}: stock is {now.stock}, the acknowledged commands make it {least}")
        if now.sold != before.sold + sold:
            self._find("differing", f"GET {path}: sold is {now.sold}, the orders make it {before.sold + sold}")
        if now.price_cents not in self._prices[identity]:
            prices = sorted(self._prices[identity])
            self._find("differing", f"GET {path}: price_cents is {now.price_cents}, it was set to {prices}")

    def _check_customer(self, identity: str, totals: Totals) -> None:
        before, path = self._customers[identity], f"/customers/{identity}"
        answer = self._client.get(path)
        now = self._decoded(path, answer.status, answer.body, Customer)
        if now is None:
            return
        orders = before.orders + totals.orders.get(identity, 0)
        if now.orders != orders:
            self._find("differing", f"GET {path}: orders is {now.orders}, the orders make it {orders}")
        spent_cents = before.spent_cents + totals.spent_cents.get(identity, 0)
        if now.spent_cents != spent_cents:
            self._find("differing", f"GET {path}: spent_cents is {now.spent_cents}, the orders make it {spent_cents}")
        if now.name not in self._names[identity]:
            names = sorted(self._names[identity])
            self._find("differing", f"GET {path}: name is {now.name!r}, it was set to {names}")

    def _baseline(self, path: str, kind: type[T]) -> T:
        answer = self._client.get(path)
        if answer.status != 200:
            raise NotFilled(
                f"{self._client.url} does not hold the data of this run (GET {path} says {answer.status}): "
                "fill it, or choose the size and seed it was filled with."
            )
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.DecodeError as error:
            raise NotFilled(f"{self._client.url} does not speak the contract: GET {path}: {error}.") from error

    def _decoded(self, path: str, status: int, body: bytes, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            self._find("differing", f"GET {path} says {status} with an unreadable body ({error})")
            return None

    def _find(self, kind: str, what: str) -> None:
        self._findings[kind].append(what)


def _identity(command: Operation) -> str:
    return command.path.split("/")[2]


def _setting(command: Operation) -> Setting:
    return msgspec.json.decode(command.body or b"{}", type=Setting)


def _add_up(orders: Iterable[Order]) -> Totals:
    totals = Totals(defaultdict(int), defaultdict(int), defaultdict(int))
    for order in orders:
        if order.status != "cancelled":
            totals.orders[order.customer.id] += 1
            totals.spent_cents[order.customer.id] += order.total_cents
            for line in order.lines:
                totals.pieces[line.product_id] += line.quantity
    return totals
