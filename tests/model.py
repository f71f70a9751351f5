"""What the contract says, written once more for the tests: knows nothing of the code it judges."""

import unicodedata
from dataclasses import dataclass, field
from typing import Any

Refused = tuple[int, str]
Expected = tuple[int, str | None, int]  # status, code of the refusal or None, version in the receipt


@dataclass
class Customer:
    first_name: str
    name: str
    version: int = 1


@dataclass
class Product:
    added: tuple[str, int, int]  # name, price, stock
    price: int
    stock: int
    version: int = 1
    deliveries: dict[str, int] = field(default_factory=dict)


@dataclass
class Order:
    customer: str
    wanted: list[tuple[str, int]]
    prices: list[int]
    happened: list[str] = field(default_factory=lambda: ["placed"])
    placed_at: str | None = None  # as the service said it first

    @property
    def status(self) -> str:
        return self.happened[-1]

    @property
    def total(self) -> int:
        return sum(price * quantity for price, (_, quantity) in zip(self.prices, self.wanted, strict=True))


class Model:
    """Each command answers what the service must answer; `orders` is in the order of their placing."""

    def __init__(self) -> None:
        self.customers: dict[str, Customer] = {}
        self.products: dict[str, Product] = {}
        self.orders: dict[str, Order] = {}

    def register(self, id: str, name: str) -> Expected:
        known = self.customers.get(id)
        if known is None:
            self.customers[id] = Customer(name, name)
            return 201, None, 1
        return (200, None, known.version) if known.first_name == name else (409, "id-reused", 0)

    def rename(self, id: str, name: str, expected: int | None) -> Expected:
        customer = self.customers.get(id)
        if customer is None:
            return 404, "not-found", 0
        if customer.name != name:
            if expected not in (None, customer.version):
                return 412, "version-mismatch", 0
            customer.name, customer.version = name, customer.version + 1
        return 200, None, customer.version

    def add(self, id: str, name: str, price: int, stock: int) -> Expected:
        known = self.products.get(id)
        if known is None:
            self.products[id] = Product((name, price, stock), price, stock)
            return 201, None, 1
        return (200, None, known.version) if known.added == (name, price, stock) else (409, "id-reused", 0)

    def reprice(self, id: str, price: int, expected: int | None) -> Expected:
        product = self.products.get(id)
        if product is None:
            return 404, "not-found", 0
        if product.price != price:
            if expected not in (None, product.version):
                return 412, "version-mismatch", 0
            product.price, product.version = price, product.version + 1
        return 200, None, product.version

    def deliver(self, id: str, delivery: str, quantity: int) -> Expected:
        product = self.products.get(id)
        if product is None:
            return 404, "not-found", 0
        if delivery in product.deliveries:
            same = product.deliveries[delivery] == quantity
            return (200, None, product.version) if same else (409, "id-reused", 0)
        product.deliveries[delivery] = quantity
        product.stock, product.version = product.stock + quantity, product.version + 1
        return 201, None, product.version

    def place(self, id: str, customer: str, wanted: list[tuple[str, int]]) -> Expected:
        known = self.orders.get(id)
        if known is not None:
            same = (known.customer, known.wanted) == (customer, wanted)
            return (200, None, len(known.happened)) if same else (409, "id-reused", 0)
        if customer not in self.customers or any(product not in self.products for product, _ in wanted):
            return 422, "unknown-reference", 0
        if any(self.products[product].stock < quantity for product, quantity in wanted):
            return 409, "insufficient-stock", 0
        for product, quantity in wanted:
            self.products[product].stock -= quantity
        self.orders[id] = Order(customer, wanted, [self.products[product].price for product, _ in wanted])
        return 201, None, 1

    def advance(self, id: str, what: str, expected: int | None) -> Expected:
        order = self.orders.get(id)
        if order is None:
            return 404, "not-found", 0
        became, allowed = {
            "pay": ("paid", {"placed"}),
            "ship": ("shipped", {"paid"}),
            "cancel": ("cancelled", {"placed", "paid"}),
        }[what]
        if became not in order.happened:
            if expected not in (None, len(order.happened)):
                return 412, "version-mismatch", 0
            if order.status not in allowed:
                return 409, "wrong-state", 0
            order.happened.append(became)
            if became == "cancelled":
                for product, quantity in order.wanted:
                    self.products[product].stock += quantity
        return 200, None, len(order.happened)

    # What the queries must say. `placed_at` is the service's own and only has to stay the same.

    def order(self, id: str) -> dict[str, Any] | None:
        order = self.orders.get(id)
        return order and {
            "id": id,
            "version": len(order.happened),
            "status": order.status,
            "placed_at": order.placed_at,
            "customer": {"id": order.customer, "name": self.customers[order.customer].name},
            "lines": [
                {
                    "product_id": product,
                    "product_name": self.products[product].added[0],
                    "quantity": quantity,
                    "unit_price_cents": price,
                    "amount_cents": price * quantity,
                }
                for price, (product, quantity) in zip(order.prices, order.wanted, strict=True)
            ],
            "total_cents": order.total,
        }

    def customer(self, id: str) -> dict[str, Any] | None:
        customer = self.customers.get(id)
        active = [o for o in self.orders.values() if o.customer == id and o.status != "cancelled"]
        return customer and {
            "id": id,
            "version": customer.version,
            "name": customer.name,
            "orders": len(active),
            "spent_cents": sum(order.total for order in active),
            "last_order_at": active[-1].placed_at if active else None,
        }

    def product(self, id: str) -> dict[str, Any] | None:
        product = self.products.get(id)
        active = [order for order in self.orders.values() if order.status != "cancelled"]
        return product and {
            "id": id,
            "version": product.version,
            "name": product.added[0],
            "price_cents": product.price,
            "stock": product.stock,
            "sold": sum(quantity for order in active for sold, quantity in order.wanted if sold == id),
        }

    def orders_of(self, customer: str) -> list[str]:
        return [id for id, order in reversed(self.orders.items()) if order.customer == customer]

    def found(self, q: str) -> list[str]:
        asked = _words(q)
        return [
            id
            for id, order in reversed(self.orders.items())
            if asked
            <= _words(self.customers[order.customer].name).union(
                *(_words(self.products[product].added[0]) for product, _ in order.wanted)
            )
        ]


def _words(text: str) -> set[str]:
    words, word = set(), ""
    for character in unicodedata.normalize("NFC", text).casefold() + " ":
        if unicodedata.category(character).startswith(("L", "N")):
            word += character
        elif word:
            words.add(word)
            word = ""
    return words
