"""The conversation of the conformance check: commands and queries of one seed in a fresh space of ids.

It includes refusals, repeats and unknown ids, because services differ there first.
"""

import functools
import random
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from loadtests.dataset import Ids

# So dear that its orders top every report, however full the target: reports are compared by these alone.
DEAR_CENTS = 100_000_000
CUSTOMERS = ("Zoë Äpfel", "ZOE\u0308 Straße-Ünal", "İstanbul ﬁn", "東京 \u202e👩‍🚀 l'été", 'O’Brien \\ "q" / é')
PRODUCTS = ("Blue tea pot", "BLÅ Tea № ²", "STRASSE atlas", "ﬁne_pen 500", 'q"\\/\u2028 <b>', "Ⅷ rings", "ǅ box")
SEARCHES = (
    *("", "zoë", "ZOE\u0308 tea", "STRASSE äpfel", "i\u0307stanbul", "fin", "été", "東京", "blå", "pen 500", "fine"),
    *("2", "²", "ⅷ", "ǆ", "te", "b q", "birne", "no such word"),
)
SHORT = 3  # pieces of the last two products


class Step(NamedTuple):
    """One request; `name` is the operation of the contract that it asks for, "" for what no operation answers."""

    name: str
    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    right: tuple[str, ...] = ("200",)  # what the contract allows: a status, of a refusal with its code


INVALID, NOT_FOUND, ID_REUSED = "422 invalid", "404 not-found", "409 id-reused"
CREATED, REPEATED = "201", "200"
CHANGED = {  # of the changes, which are random: whether one is refused depends on those before it
    **dict.fromkeys(("pay", "ship", "cancel"), ("200", "409 wrong-state", "412 version-mismatch")),
    **dict.fromkeys(("rename", "reprice"), ("200", "412 version-mismatch")),
    "deliver": (CREATED, REPEATED, ID_REUSED),
}


class Script:
    """Both parts of one tempo; the same object gives the same steps for every target."""

    def __init__(self, seed: int, nonce: str, tempo: str) -> None:
        self._rng = random.Random(f"{seed}/{nonce}/{tempo}")
        self._space = (seed, nonce, tempo)
        self.customers, self.products = self._ids("customer", len(CUSTOMERS)), self._ids("product", len(PRODUCTS))
        self.orders, (self.unknown, self.refused) = self._ids("order", 16), self._ids("unknown", 2)
        # A word that no other data holds, so that searches find this conversation alone.
        self.word = "zq" + "".join(self._rng.choice("bcdfghjklmnpqrstvwxz") for _ in range(8))

    def commands(self) -> list[Step]:
        return [*self._creations(), *self._placings(), *self._changes(), *self._refused_commands()]

    def queries(self) -> list[Step]:
        return [*self._reads(), *self._searches(), *self._refused_queries()]

    def clean_up(self) -> list[Step]:
        """The dear orders leave the reports again."""
        right = CHANGED["cancel"]
        return [Step("cancel", "POST", f"/orders/{order}/cancel", right=right) for order in self.orders]

    def _ids(self, kind: str, count: int) -> list[str]:
        return [*map(Ids(*self._space, kind).at, range(count))]

    def _creations(self) -> Iterator[Step]:
        for id, name in zip(self.customers, CUSTOMERS, strict=True):
            yield _put("register", f"/customers/{id}", CREATED, name=f"{name} {self.word}")
        yield _put("register", f"/customers/{self.customers[0].upper()}", REPEATED, name=f"{CUSTOMERS[0]} {self.word}")
        yield _put("register", f"/customers/{self.customers[0]}", ID_REUSED, name="Somebody Else")
        for index, (id, name) in enumerate(zip(self.products, PRODUCTS, strict=True)):
            price, stock = DEAR_CENTS - index if index < 2 else 100 * index, SHORT if index >= 5 else 10_000
            content = {"name": f"{name} {self.word}", "price_cents": price, "stock": stock}
            for right in (CREATED, REPEATED) if index == 3 else (CREATED,):
                yield _put("add_product", f"/products/{id}", right, **content)
        yield _put("add_product", f"/products/{self.products[0]}", ID_REUSED, name="Other", price_cents=1, stock=1)

    def _placings(self) -> Iterator[Step]:
        placed = [self._order(order, quantity=1 + index) for index, order in enumerate(self.orders[:14])]
        yield from placed
        yield placed[0]._replace(right=(REPEATED,))
        yield self._order(self.orders[1], ID_REUSED, quantity=999)

    def _order(self, id: str, right: str = CREATED, *, quantity: int) -> Step:
        lines = [(product, quantity) for product in self._rng.sample(self.products[:5], self._rng.randint(1, 4))]
        return self._place(id, right, self._rng.choice(self.customers), *lines)

    @staticmethod
    def _place(id: str, right: str, customer: str, *lines: tuple[str, int]) -> Step:
        wanted = [{"product_id": product, "quantity": quantity} for product, quantity in lines]
        return _put("place", f"/orders/{id}", right, customer_id=customer, lines=wanted)

    def _changes(self) -> Iterator[Step]:
        rng, deliveries = self._rng, self._ids("delivery", 6)
        for number in range(70):
            expected = {"Expected-Version": str(rng.randint(1, 3))} if rng.random() < 0.2 else {}
            name = rng.choice(("pay", "pay", "ship", "cancel", "rename", "reprice", "deliver"))
            right = CHANGED[name]
            if name == "rename":
                new = f"{rng.choice(('Ada', 'Łukasz', 'Birne'))} {self.word} {rng.randint(0, 3)}"
                yield _post(name, f"/customers/{rng.choice(self.customers)}/rename", expected, *right, name=new)
            elif name == "reprice":
                product = rng.choice(self.products[2:])
                yield _post(name, f"/products/{product}/reprice", expected, *right, price_cents=rng.randint(0, 9))
            elif name == "deliver":
                path = f"/products/{rng.choice(self.products)}/deliveries/{rng.choice(deliveries)}"
                yield _put(name, path, *right, quantity=rng.choice((5, 7)))
            else:
                yield Step(name, "POST", f"/orders/{rng.choice(self.orders[:14])}/{name}", None, expected, right)
            if number == 35:  # orders at the new prices, and under names that have changed
                yield self._order(self.orders[14], quantity=2)
                yield self._order(self.orders[15], quantity=3)

    def _refused_commands(self) -> Iterator[Step]:
        customer, product, path = self.customers[0], self.products[5], f"/orders/{self.refused}"
        place = functools.partial(self._place, self.refused)
        yield place("422 unknown-reference", self.unknown, (product, 1))
        yield place("422 unknown-reference", customer, (product, 1), (self.unknown, 1))
        yield place("409 insufficient-stock", customer, (self.products[6], 900), (product, 900))  # the first is named
        yield place("409 insufficient-stock", customer, (product, 900), (self.products[6], 900))
        yield place(INVALID, customer, (product, 1), (product, 1))
        yield place(INVALID, customer)
        yield place(INVALID, customer, (product, 0))
        yield _put("place", path, INVALID, customer_id=customer)
        yield _put("register", f"/customers/{self.unknown}", INVALID, name="")
        yield _put("register", f"/customers/{self.unknown}", INVALID, name="A", nickname="B")
        yield _put("register", "/customers/not-an-id", INVALID, name="A")
        nobody, text = f"/customers/{self.unknown}", {"Content-Type": "text/plain"}
        yield Step("register", "PUT", nobody, b"{", right=("400 malformed",))
        yield Step("register", "PUT", nobody, b'{"name":"A"}', text, ("415 unsupported-media-type",))
        yield _post("rename", f"/customers/{self.unknown}/rename", {}, NOT_FOUND, name="A")
        yield _post("reprice", f"/products/{self.unknown}/reprice", {}, NOT_FOUND, price_cents=1)
        yield _post("reprice", f"/products/{self.products[2]}/reprice", {}, INVALID, price_cents=-1)
        yield _put("deliver", f"/products/{self.unknown}/deliveries/{self.unknown}", NOT_FOUND, quantity=1)
        for what in ("pay", "ship", "cancel"):
            yield Step(what, "POST", f"/orders/{self.unknown}/{what}", right=(NOT_FOUND,))
        yield Step("", "DELETE", f"/orders/{self.orders[0]}", right=("405 method-not-allowed",))

    def _reads(self) -> Iterator[Step]:
        for id in self.orders:
            yield _get("order", f"/orders/{id}")
            yield _get("history", f"/orders/{id}/history")
        for id in self.customers:
            yield _get("customer", f"/customers/{id}")
            yield _get("customer_orders", f"/customers/{id}/orders")
            yield _get("customer_orders", f"/customers/{id}/orders?limit=2")
        for id in self.products:
            yield _get("product", f"/products/{id}")
        yield _get("top_products", "/reports/top-products?limit=100")
        yield _get("daily_sales", "/reports/daily-sales?days=366")

    def _searches(self) -> Iterator[Step]:
        for words in SEARCHES:
            yield _get("search", f"/search/orders?q={quote(f'{words} {self.word.upper()}'.strip())}&limit=100")
        yield _get("search", f"/search/orders?q={self.word}&limit=3")

    def _refused_queries(self) -> Iterator[Step]:
        for kind in ("order", "customer", "product"):
            yield _get(kind, f"/{kind}s/{self.unknown}", NOT_FOUND)
        yield _get("order", "/orders/not-an-id", INVALID)
        yield _get("history", f"/orders/{self.unknown}/history", NOT_FOUND)
        yield _get("customer_orders", f"/customers/{self.unknown}/orders", NOT_FOUND)
        yield _get("customer_orders", f"/customers/{self.customers[0]}/orders?limit=0", INVALID)
        yield _get("customer_orders", f"/customers/{self.customers[0]}/orders?after=nonsense", INVALID)
        yield _get("top_products", "/reports/top-products?limit=101", INVALID)
        yield _get("daily_sales", "/reports/daily-sales?days=x", INVALID)
        yield _get("search", "/search/orders", INVALID)
        yield _get("", f"/orders/{self.orders[0]}/", NOT_FOUND)
        yield _get("", "/nothing/here", NOT_FOUND)


def _get(name: str, path: str, right: str = "200") -> Step:
    return Step(name, "GET", path, right=(right,))


def _put(name: str, path: str, /, *right: str, **content: object) -> Step:
    return Step(name, "PUT", path, msgspec.json.encode(content), right=right)


def _post(name: str, path: str, headers: Mapping[str, str], /, *right: str, **content: object) -> Step:
    return Step(name, "POST", path, msgspec.json.encode(content), headers, right)
