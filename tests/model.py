"""What the contract says, written once more for the tests: knows nothing of the code it judges."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Expected = tuple[int, int | str]  # the status, and the version in the receipt or the code of the refusal
UNKNOWN, REUSED, MISMATCH = (404, "not-found"), (409, "id-reused"), (412, "version-mismatch")
TRANSITIONS = {"pay": ("paid", {"placed"}), "ship": ("shipped", {"paid"}), "cancel": ("cancelled", {"placed", "paid"})}
Value = TypeVar("Value", str, int)


@dataclass
class Thing(Generic[Value]):
    """A customer, whose name can change, or a product, whose price can."""

    first: tuple[Any, ...]  # what it was created with
    value: Value
    stock: int = 0
    version: int = 1
    deliveries: dict[str, int] = field(default_factory=dict)


@dataclass
class Order:
    first: tuple[str, list[tuple[str, int]]]  # its customer, and what was wanted
    prices: list[int]
    happened: list[str] = field(default_factory=lambda: ["placed"])
    placed_at: str | None = None  # as the service said it first

    @property
    def version(self) -> int:
        return len(self.happened)

    @property
    def total(self) -> int:
        return sum(price * quantity for price, (_, quantity) in zip(self.prices, self.first[1], strict=True))


Made = TypeVar("Made", Thing[str], Thing[int], Order)


class Model:
    """Each command answers what the service must answer; `orders` is in the order of their placing."""

    def __init__(self) -> None:
        self.customers, self.products = dict[str, Thing[str]](), dict[str, Thing[int]]()
        self.orders = dict[str, Order]()

    def register(self, id: str, name: str) -> Expected:
        return _create(self.customers, id, Thing((name,), name))

    def add(self, id: str, name: str, price: int, stock: int) -> Expected:
        return _create(self.products, id, Thing((name, price, stock), price, stock))

    def rename(self, id: str, name: str, expected: int | None) -> Expected:
        return _change(self.customers, id, name, expected)

    def reprice(self, id: str, price: int, expected: int | None) -> Expected:
        return _change(self.products, id, price, expected)

    def deliver(self, id: str, delivery: str, quantity: int) -> Expected:
        product = self.products.get(id)
        if product is None:
            return UNKNOWN
        if delivery in product.deliveries:
            return (200, product.version) if product.deliveries[delivery] == quantity else REUSED
        product.deliveries[delivery] = quantity
        product.stock, product.version = product.stock + quantity, product.version + 1
        return 201, product.version

    def place(self, id: str, customer: str, wanted: list[tuple[str, int]]) -> Expected:
        if id in self.orders:
            return _create(self.orders, id, Order((customer, wanted), []))
        if customer not in self.customers or any(product not in self.products for product, _ in wanted):
            return 422, "unknown-reference"
        if any(self.products[product].stock < quantity for product, quantity in wanted):
            return 409, "insufficient-stock"
        for product, quantity in wanted:
            self.products[product].stock -= quantity
        prices = [self.products[product].value for product, _ in wanted]
        return _create(self.orders, id, Order((customer, wanted), prices))

    def advance(self, id: str, what: str, expected: int | None) -> Expected:
        order = self.orders.get(id)
        if order is None:
            return UNKNOWN
        became, allowed = TRANSITIONS[what]
        if became not in order.happened:
            if expected not in (None, order.version):
                return MISMATCH
            if order.happened[-1] not in allowed:
                return 409, "wrong-state"
            order.happened.append(became)
            for product, quantity in order.first[1] if became == "cancelled" else ():
                self.products[product].stock += quantity
        return 200, order.version

    # What the queries must say. `placed_at` is the service's own and only has to stay the same.

    def order(self, id: str) -> dict[str, Any] | None:
        order = self.orders.get(id)
        if order is None:
            return None
        customer, wanted = order.first
        lines = [(product, self.products[product].first[0], quantity) for product, quantity in wanted]
        names = ("product_id", "product_name", "quantity", "unit_price_cents", "amount_cents")
        return {
            "id": id,
            "version": order.version,
            "status": order.happened[-1],
            "placed_at": order.placed_at,
            "customer": {"id": customer, "name": self.customers[customer].value},
            "lines": [
                dict(zip(names, (*line, price, price * line[2]), strict=True))
                for line, price in zip(lines, order.prices, strict=True)
            ],
            "total_cents": order.total,
        }

    def customer(self, id: str) -> dict[str, Any] | None:
        customer, active = self.customers.get(id), [order for order in self._active() if order.first[0] == id]
        return customer and {
            "id": id,
            "version": customer.version,
            "name": customer.value,
            "orders": len(active),
            "spent_cents": sum(order.total for order in active),
            "last_order_at": active[-1].placed_at if active else None,
        }

    def product(self, id: str) -> dict[str, Any] | None:
        product = self.products.get(id)
        return product and {
            "id": id,
            "version": product.version,
            "name": product.first[0],
            "price_cents": product.value,
            "stock": product.stock,
            "sold": sum(quantity for order in self._active() for sold, quantity in order.first[1] if sold == id),
        }

    def orders_of(self, customer: str) -> list[str]:
        return [id for id, order in reversed(self.orders.items()) if order.first[0] == customer]

    def found(self, q: str) -> list[str]:
        return [id for id, order in reversed(self.orders.items()) if _words(q) <= _words(self._text(order))]

    def _text(self, order: Order) -> str:
        customer, wanted = order.first
        return " ".join([self.customers[customer].value, *(self.products[product].first[0] for product, _ in wanted)])

    def _active(self) -> list[Order]:
        return [order for order in self.orders.values() if order.happened[-1] != "cancelled"]


def _create(there: dict[str, Made], id: str, new: Made) -> Expected:
    """Who asks again for the same has it; an id is not given twice."""
    if id not in there:
        there[id] = new
        return 201, 1
    return (200, there[id].version) if there[id].first == new.first else REUSED


def _change(there: Mapping[str, Thing[Value]], id: str, value: Value, expected: int | None) -> Expected:
    thing = there.get(id)
    if thing is None:
        return UNKNOWN
    if thing.value != value:
        if expected not in (None, thing.version):
            return MISMATCH
        thing.value, thing.version = value, thing.version + 1
    return 200, thing.version


def _words(text: str) -> set[str]:
    letters = unicodedata.normalize("NFC", text).casefold()
    return set("".join(one if unicodedata.category(one)[0] in "LN" else " " for one in letters).split())
