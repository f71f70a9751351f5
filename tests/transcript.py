"""One story of a small shop: every command, repeat and refusal, and what every query says in between."""

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

CLOCK = "step:2026-01-01T23:59:59.985000Z"  # the story passes midnight, so that there are two days to report


class Write(NamedTuple):
    status: int
    method: str
    path: str
    body: object = None
    headers: dict[str, str] = {}


class Read(NamedTuple):
    """`pages` follows `next` to the end."""

    status: int
    path: str
    pages: bool = False


def _id(kind: int, n: int) -> str:
    return f"01990000-0000-7000-8{kind:03x}-{n:012x}"


C = [_id(1, n) for n in range(5)]
P = [_id(2, n) for n in range(8)]
O = [_id(3, n) for n in range(20)]  # noqa: E741
D = [_id(4, n) for n in range(3)]
NOBODY = _id(15, 0)

CUSTOMERS = ["Zoë Äpfel", "ZOE\u0308 Straße-Ünal", "İstanbul ﬁn", "東京 \u202e👩‍🚀 l'été", "名"]
PRODUCTS = [
    "Blue tea pot",
    "BLÅ Tea № ²",
    "STRASSE atlas",
    "ﬁne_pen 500",
    'q"\\/\u2028 <b>',
    "gift",
    "Ⅷ rings",
    "ǅ box",
]
WORDS = [
    ("zoë",),
    ("ZOE\u0308", "tea"),
    ("strasse",),
    ("STRASSE", "apfel"),
    ("äpfel",),
    ("i\u0307stanbul",),
    ("fin",),
    ("été",),
    ("東京",),
    ("blå",),
    ("pen", "500"),
    ("fine",),
    ("2",),
    ("²",),
    ("ⅷ",),
    ("ǆ",),
    ("birne",),
    ("te",),
    ("b", "q"),
]


def transcript() -> Iterator[Write | Read]:
    for n, name in enumerate(CUSTOMERS):
        yield Write(201, "PUT", f"/customers/{C[n]}", {"name": name})
    yield Write(200, "PUT", f"/customers/{C[0].upper()}", {"name": CUSTOMERS[0]})
    yield Write(409, "PUT", f"/customers/{C[0]}", {"name": "Zoe\u0308 Äpfel"})
    for n, name in enumerate(PRODUCTS):
        body = {"name": name, "price_cents": (100 * n, 100_000_000)[n == 7], "stock": 10 * (n + 1)}
        yield Write(201, "PUT", f"/products/{P[n]}", body)
    yield Write(200, "PUT", f"/products/{P[3]}", {"name": PRODUCTS[3], "price_cents": 300, "stock": 40})
    yield Write(409, "PUT", f"/products/{P[3]}", {"name": PRODUCTS[3], "price_cents": 300, "stock": 41})
    yield from _everything()

    yield _place(201, 0, 0, (1, 2), (0, 1), (3, 4))
    yield _place(200, 0, 0, (1, 2), (0, 1), (3, 4))
    yield _place(409, 0, 0, (0, 1), (1, 2), (3, 4))
    yield _place(409, 0, 1, (1, 2), (0, 1), (3, 4))
    yield _place(201, 1, 1, (2, 10))
    yield _place(201, 2, 2, *((n, 1) for n in range(8)))
    yield _place(201, 3, 0, (7, 60))
    yield _place(409, 4, 0, (7, 19), (0, 9))  # two are short: the first of them is named
    yield _place(409, 4, 0, (0, 9), (7, 20), (1, 1))
    yield Write(422, "PUT", f"/orders/{O[4]}", {"customer_id": NOBODY, "lines": _lines((0, 1))})
    body = {"customer_id": C[0], "lines": [*_lines((0, 1)), {"product_id": NOBODY, "quantity": 1}]}
    yield Write(422, "PUT", f"/orders/{O[4]}", body)
    yield from _everything()

    yield Write(409, "POST", f"/orders/{O[0]}/ship")
    yield Write(412, "POST", f"/orders/{O[0]}/pay", headers={"Expected-Version": "2"})
    yield Write(200, "POST", f"/orders/{O[0]}/pay", headers={"Expected-Version": "1"})
    yield Write(200, "POST", f"/orders/{O[0]}/pay", headers={"Expected-Version": "1"})
    yield Write(200, "POST", f"/orders/{O[0]}/ship")
    yield Write(200, "POST", f"/orders/{O[0]}/ship", headers={"Expected-Version": "9"})
    yield Write(200, "POST", f"/orders/{O[0]}/pay", headers={"Expected-Version": "9"})
    yield Write(409, "POST", f"/orders/{O[0]}/cancel")
    yield Write(200, "POST", f"/orders/{O[1]}/cancel")
    yield Write(200, "POST", f"/orders/{O[1]}/cancel")
    yield Write(409, "POST", f"/orders/{O[1]}/pay")
    yield Write(200, "POST", f"/orders/{O[2]}/pay")
    yield Write(200, "POST", f"/orders/{O[2]}/cancel", headers={"Expected-Version": "2"})
    yield Write(200, "POST", f"/orders/{O[2]}/pay")
    yield Write(409, "POST", f"/orders/{O[2]}/ship")
    for what in ("pay", "ship", "cancel"):
        yield Write(404, "POST", f"/orders/{NOBODY}/{what}")
    yield _place(200, 1, 1, (2, 10))  # a repeat, though it was cancelled since
    yield from _everything()

    yield Write(200, "POST", f"/products/{P[1]}/reprice", {"price_cents": 999})
    yield Write(200, "POST", f"/products/{P[1]}/reprice", {"price_cents": 999}, {"Expected-Version": "1"})
    yield Write(412, "POST", f"/products/{P[1]}/reprice", {"price_cents": 1}, {"Expected-Version": "1"})
    yield Write(404, "POST", f"/products/{NOBODY}/reprice", {"price_cents": 1})
    yield Write(200, "PUT", f"/products/{P[1]}", {"name": PRODUCTS[1], "price_cents": 100, "stock": 20})
    yield Write(201, "PUT", f"/products/{P[0]}/deliveries/{D[0]}", {"quantity": 1_000_000_000})
    yield Write(200, "PUT", f"/products/{P[0]}/deliveries/{D[0]}", {"quantity": 1_000_000_000})
    yield Write(409, "PUT", f"/products/{P[0]}/deliveries/{D[0]}", {"quantity": 2})
    yield Write(201, "PUT", f"/products/{P[1]}/deliveries/{D[0]}", {"quantity": 2})
    yield Write(404, "PUT", f"/products/{NOBODY}/deliveries/{D[1]}", {"quantity": 2})
    yield Write(200, "POST", f"/customers/{C[0]}/rename", {"name": "Zoë Birne"}, {"Expected-Version": "1"})
    yield Write(200, "POST", f"/customers/{C[0]}/rename", {"name": "Zoë Birne"}, {"Expected-Version": "1"})
    yield Write(412, "POST", f"/customers/{C[0]}/rename", {"name": "Eve"}, {"Expected-Version": "1"})
    yield Write(404, "POST", f"/customers/{NOBODY}/rename", {"name": "Eve"})
    yield Write(200, "PUT", f"/customers/{C[0]}", {"name": CUSTOMERS[0]})
    for n in range(5, 16):
        yield _place(201, n, n % 2, (n % 3, 1), (5, n % 4 + 1))
    for n in range(5, 16, 3):
        yield Write(200, "POST", f"/orders/{O[n]}/{('pay', 'cancel')[n % 2]}")
    yield Write(422, "PUT", f"/orders/{O[16]}", {"customer_id": C[0], "lines": []})
    yield from _everything()


def _lines(*lines: tuple[int, int]) -> list[dict[str, object]]:
    return [{"product_id": P[product], "quantity": quantity} for product, quantity in lines]


def _place(status: int, order: int, customer: int, *lines: tuple[int, int]) -> Write:
    return Write(status, "PUT", f"/orders/{O[order]}", {"customer_id": C[customer], "lines": _lines(*lines)})


def _everything() -> Iterator[Read]:
    """Reads of all that can be read; what is not there yet, is asked for only at the end of a burst."""
    for customer in C:
        yield Read(200, f"/customers/{customer}")
        yield Read(200, f"/customers/{customer}/orders?limit=2", pages=True)
    yield Read(200, f"/customers/{C[0]}/orders")
    for product in P:
        yield Read(200, f"/products/{product}")
    for order in O:
        yield Read(0, f"/orders/{order}")
        yield Read(0, f"/orders/{order}/history")
    for words in WORDS:
        yield Read(200, f"/search/orders?q={quote(' '.join(words))}")
    yield Read(200, "/search/orders?q=tea&limit=2")
    yield Read(200, "/reports/top-products")
    yield Read(200, "/reports/top-products?limit=3")
    yield Read(200, "/reports/daily-sales")
    yield Read(200, "/reports/daily-sales?days=1")
    for kind in ("customers", "products", "orders"):
        yield Read(404, f"/{kind}/{NOBODY}")
