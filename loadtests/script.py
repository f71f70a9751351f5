"""The conversation of the conformance check: commands and queries of one seed in a fresh space of ids.

Refusals, repeats and things that do not exist are part of it: a service differs from another there first.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from loadtests.dataset import Ids

# So dear that its orders top every report, however full the target: reports are compared by these alone.
DEAR_CENTS = 100_000_000


class Step(NamedTuple):
    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = {}


OPERATIONS = {  # by method, first and third part of the path; of a report the second
    ("PUT", "customers", ""): "register",
    ("POST", "customers", "rename"): "rename",
    ("GET", "customers", ""): "customer",
    ("GET", "customers", "orders"): "customer_orders",
    ("PUT", "products", ""): "add_product",
    ("POST", "products", "reprice"): "reprice",
    ("PUT", "products", "deliveries"): "deliver",
    ("GET", "products", ""): "product",
    ("PUT", "orders", ""): "place",
    ("POST", "orders", "pay"): "pay",
    ("POST", "orders", "ship"): "ship",
    ("POST", "orders", "cancel"): "cancel",
    ("GET", "orders", ""): "order",
    ("GET", "orders", "history"): "history",
    ("GET", "reports", "top-products"): "top_products",
    ("GET", "reports", "daily-sales"): "daily_sales",
    ("GET", "search", "orders"): "search",
}


def operation_of(method: str, path: str) -> str | None:
    """The operation of the contract that a request asks for; None for what no operation answers."""
    if path.endswith("/"):
        return None
    kind, identity, *rest = [*path.partition("?")[0].split("/")[1:], ""]
    what = identity if kind in ("reports", "search") else (rest or [""])[0]
    return OPERATIONS.get((method, kind, what))


class Script:
    """Both parts of one tempo; the same object gives the same steps for every target."""

    def __init__(self, seed: int, nonce: str, tempo: str) -> None:
        self._rng = random.Random(f"{seed}/{nonce}/{tempo}")
        self._space = (seed, nonce, tempo)
        self.customers, self.products = self._ids("customer", 4), self._ids("product", 6)
        self.orders, self.unknown = self._ids("order", 14), self._ids("unknown", 1)[0]
        # A word that no other data holds, so that searches find this conversation alone.
        self.word = "zq" + "".join(self._rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(8))

    def commands(self) -> list[Step]:
        return [*self._creations(), *self._placings(), *self._changes(), *self._refused_commands()]

    def queries(self) -> list[Step]:
        return [*self._reads(), *self._searches(), *self._refused_queries()]

    def clean_up(self) -> list[Step]:
        """The dear orders leave the reports again."""
        return [Step("POST", f"/orders/{order}/cancel") for order in self.orders]

    def _ids(self, kind: str, count: int) -> list[str]:
        ids = Ids(*self._space, kind)
        return [ids[index] for index in range(count)]

    def _creations(self) -> Iterator[Step]:
        names = (f"Zoë {self.word}", f"Þóra Straße-{self.word}", 'O’Brien \\ "quoted" / é', f"{self.word.upper()} 李")
        for customer, name in zip(self.customers, names, strict=True):
            yield _put(f"/customers/{customer}", name=name)
        yield _put(f"/customers/{self.customers[0]}", name=names[0])
        yield _put(f"/customers/{self.customers[0]}", name="Somebody Else")
        for index, product in enumerate(self.products):
            price = DEAR_CENTS - index if index < 2 else 100 + index
            stock = 3 if index == 5 else 10_000
            yield _put(f"/products/{product}", name=f"Crème {self.word} {index}", price_cents=price, stock=stock)
        yield _put(f"/products/{self.products[0]}", name="Other", price_cents=1, stock=1)
        yield _put(f"/products/{self.products[2]}", name=f"Crème {self.word} 2", price_cents=102, stock=10_000)

    def _placings(self) -> Iterator[Step]:
        placed = [self._order(order, quantity=1 + index) for index, order in enumerate(self.orders)]
        yield from placed
        yield placed[0]
        yield self._order(self.orders[1], quantity=999)

    def _order(self, order: str, quantity: int) -> Step:
        chosen = self._rng.sample(self.products[:5], self._rng.randint(1, 4))
        lines = [{"product_id": product, "quantity": quantity} for product in chosen]
        return _put(f"/orders/{order}", customer_id=self._rng.choice(self.customers), lines=lines)

    def _changes(self) -> Iterator[Step]:
        rng = self._rng
        for number in range(70):
            order, expected = rng.choice(self.orders), {}
            if rng.random() < 0.2:
                expected = {"Expected-Version": str(rng.randint(1, 3))}
            what = rng.choice(("pay", "pay", "ship", "cancel", "rename", "reprice", "deliver"))
            if what == "rename":
                name = f"{rng.choice(('Ada', 'Łukasz', 'Straße'))} {self.word} {rng.randint(0, 3)}"
                yield _post(f"/customers/{rng.choice(self.customers)}/rename", expected, name=name)
            elif what == "reprice":
                yield _post(
                    f"/products/{rng.choice(self.products[2:])}/reprice", expected, price_cents=rng.randint(0, 9)
                )
            elif what == "deliver":
                delivery = Ids(*self._space, "delivery")[rng.randint(0, 5)]
                path = f"/products/{rng.choice(self.products)}/deliveries/{delivery}"
                yield _put(path, quantity=rng.choice((5, 7)))
            else:
                yield Step("POST", f"/orders/{order}/{what}", None, expected)
            if number == 35:  # orders at the new prices, and under names that have changed
                late = Ids(*self._space, "late-order")
                self.orders += [late[0], late[1]]
                yield self._order(late[0], quantity=2)
                yield self._order(late[1], quantity=3)

    def _refused_commands(self) -> Iterator[Step]:
        customer, product, order = self.customers[0], self.products[5], self._ids("refused", 1)[0]
        line = {"product_id": product, "quantity": 1}
        yield _put(f"/orders/{order}", customer_id=self.unknown, lines=[line])
        yield _put(f"/orders/{order}", customer_id=customer, lines=[{"product_id": self.unknown, "quantity": 1}])
        yield _put(f"/orders/{order}", customer_id=customer, lines=[{"product_id": product, "quantity": 900}])
        yield _put(f"/orders/{order}", customer_id=customer, lines=[line, line])
        yield _put(f"/orders/{order}", customer_id=customer, lines=[])
        yield _put(f"/orders/{order}", customer_id=customer, lines=[line | {"quantity": 0}])
        yield _put(f"/orders/{order}", customer_id=customer)
        yield _put(f"/customers/{self.unknown}", name="")
        yield _put(f"/customers/{self.unknown}", name="A", nickname="B")
        yield _put("/customers/not-an-id", name="A")
        yield Step("PUT", f"/customers/{self.unknown}", b"{", {})
        yield Step("PUT", f"/customers/{self.unknown}", b'{"name":"A"}', {"Content-Type": "text/plain"})
        yield _post(f"/customers/{self.unknown}/rename", {}, name="A")
        yield _post(f"/products/{self.unknown}/reprice", {}, price_cents=1)
        yield _post(f"/products/{self.products[2]}/reprice", {}, price_cents=-1)
        yield Step("POST", f"/orders/{self.unknown}/pay")
        yield Step("DELETE", f"/orders/{self.orders[0]}")

    def _reads(self) -> Iterator[Step]:
        for order in self.orders:
            yield Step("GET", f"/orders/{order}")
            yield Step("GET", f"/orders/{order}/history")
        for customer in self.customers:
            yield Step("GET", f"/customers/{customer}")
            yield Step("GET", f"/customers/{customer}/orders")
            yield Step("GET", f"/customers/{customer}/orders?limit=2")
        for product in self.products:
            yield Step("GET", f"/products/{product}")
        yield Step("GET", "/reports/top-products?limit=100")
        yield Step("GET", "/reports/daily-sales?days=366")

    def _searches(self) -> Iterator[Step]:
        for words in (
            self.word,
            f"crème {self.word}",
            f"STRASSE {self.word.upper()}",
            f"{self.word} 1",
            "no such word",
        ):
            yield Step("GET", f"/search/orders?q={quote(words + (self.word if 'no' in words else ''))}&limit=100")
        yield Step("GET", f"/search/orders?q={self.word}&limit=3")

    def _refused_queries(self) -> Iterator[Step]:
        for path in (
            f"/orders/{self.unknown}",
            f"/orders/{self.unknown}/history",
            f"/customers/{self.unknown}",
            f"/customers/{self.unknown}/orders",
            f"/products/{self.unknown}",
            "/orders/not-an-id",
            f"/orders/{self.orders[0]}/",
            f"/customers/{self.customers[0]}/orders?limit=0",
            f"/customers/{self.customers[0]}/orders?after=nonsense",
            "/reports/top-products?limit=101",
            "/reports/daily-sales?days=x",
            "/search/orders",
            "/nothing/here",
        ):
            yield Step("GET", path)


def _put(path: str, **content: object) -> Step:
    return Step("PUT", path, msgspec.json.encode(content))


def _post(path: str, headers: dict[str, str], **content: object) -> Step:
    return Step("POST", path, msgspec.json.encode(content), headers)
