"""The deterministic data a target is filled with: a seed gives the same customers, products and orders everywhere."""

import hashlib
import math
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loadtests.popularity import Draws, Indexes, Zipf, uniforms

NAMES = tomllib.loads(Path(__file__).with_name("names.toml").read_text("utf-8"))
FIRST_NAMES, LAST_NAMES, ADJECTIVES, NOUNS, PRODUCT_SIZES = (words.split() for words in NAMES.values())


class Size(NamedTuple):
    customers: int
    products: int
    orders: int


SIZES = {
    "empty": Size(0, 0, 0),
    "s": Size(1_000, 500, 10_000),
    "m": Size(10_000, 2_000, 100_000),
    "l": Size(100_000, 10_000, 1_000_000),
}

# Load on an empty target still needs customers and products.
POPULATION = Size(customers=100, products=50, orders=0)

FIRST_STOCK = 1_000_000  # so large that ordinary load never runs short
SPREAD_US = 90 * 86_400 * 1_000_000  # the oldest order was placed 90 days before the newest

CUSTOMER_SKEW = 0.5  # at 1,000 customers the best has 1.6% of the orders, ten on average, 160 the best
PRODUCT_SKEW = 0.9
LINES_WEIGHTS = (0.30, 0.27, 0.20, 0.12, 0.07, 0.04)  # of 1, 2, … 6 lines: 2.5 on average
QUANTITY_WEIGHTS = (0.60, 0.25, 0.10, 0.03, 0.02)  # of 1, 2, … 5 pieces

# What became of an order, with the share of orders it became of.
FATES = (
    (0.04, ("cancelled",)),
    (0.02, ("paid", "cancelled")),
    (0.06, ()),
    (0.10, ("paid",)),
    (0.78, ("paid", "shipped")),
)

_EPOCH_MS = 1_767_225_600_000  # 2026-01-01: ids carry a fixed time, so that they depend on the seed alone
_BLOCK = 8_192  # orders drawn at once


class OrderRow(NamedTuple):
    id: str
    customer_id: str
    lines: tuple[tuple[str, int], ...]  # (product id, pieces), products distinct
    changes: tuple[str, ...]  # what happened after it was placed, in order
    age_us: int  # how long before the data's end it was placed


def uuid7(time_ms: int, digest: bytes) -> str:
    """UUIDv7 text (RFC 9562) of a time and at least 10 bytes that stand for the random bits."""
    bits = int.from_bytes(digest[:10], "big")
    value = (time_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7000 << 64 | (bits >> 62 & 0xFFF) << 64 | 0x8 << 60
    text = f"{value | bits & 0x0FFF_FFFF_FFFF_FFFF:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Ids:
    """UUIDs of one name space, ordered by index: the index is their millisecond."""

    def __init__(self, *space: object, start_ms: int = _EPOCH_MS) -> None:
        self._hash = hashlib.blake2b("/".join(map(str, space)).encode(), digest_size=10)
        self._start_ms = start_ms

    def at(self, index: int) -> str:
        digest = self._hash.copy()
        digest.update(index.to_bytes(8, "big"))
        return uuid7(self._start_ms + index, digest.digest())


class Dataset:
    """So many customers, products and orders of a seed; ids and names depend on seed and index alone."""

    def __init__(self, seed: int, customers: int, products: int, orders: int) -> None:
        if min(customers, products, orders) < 0 or (orders and not (customers and products)):
            raise ValueError("A data set has no negative counts, and orders only of customers and products.")
        self.seed, self.size = seed, Size(customers, products, orders)
        self.customer_id, self.product_id, self.order_id = (Ids(seed, of).at for of in ("customer", "product", "order"))

    def customer_name(self, index: int) -> str:
        return person(self._pick("customer-name", index))

    def product_name(self, index: int) -> str:
        pick = self._pick("product-name", index)
        pick, adjective = divmod(pick, len(ADJECTIVES))
        pick, noun = divmod(pick, len(NOUNS))
        return f"{ADJECTIVES[adjective]} {NOUNS[noun]} {PRODUCT_SIZES[pick % len(PRODUCT_SIZES)]}"

    def price_cents(self, index: int) -> int:
        """From 0.99 to 499.99, cheap ones more often (log-uniform), ending in 9."""
        share = self._pick("price", index) / 2**64
        return int(99 * 505**share) // 10 * 10 + 9

    def customers(self) -> Iterator[tuple[str, str]]:
        """(id, name)"""
        for index in range(self.size.customers):
            yield self.customer_id(index), self.customer_name(index)

    def products(self) -> Iterator[tuple[str, str, int, int]]:
        """(id, name, price in cents, stock)"""
        for index in range(self.size.products):
            yield self.product_id(index), self.product_name(index), self.price_cents(index), FIRST_STOCK

    def orders(self) -> Iterator[OrderRow]:
        """Oldest first."""
        if not self.size.orders:
            return
        customers, products = list(self.customers()), list(self.products())
        by_customer = Zipf(self.size.customers, CUSTOMER_SKEW)
        by_product = Zipf(self.size.products, PRODUCT_SKEW)
        for start in range(0, self.size.orders, _BLOCK):
            count = min(_BLOCK, self.size.orders - start)
            customer = by_customer.indexes(uniforms(count, self.seed, "order-customer", start)).tolist()
            lengths = _choose(LINES_WEIGHTS, uniforms(count, self.seed, "order-lines", start)).tolist()
            fates = _choose([share for share, _ in FATES], uniforms(count, self.seed, "order-fate", start)).tolist()
            width = len(LINES_WEIGHTS)
            chosen = by_product.indexes(uniforms(count * width, self.seed, "order-product", start)).tolist()
            pieces = _choose(QUANTITY_WEIGHTS, uniforms(count * width, self.seed, "order-pieces", start)).tolist()
            jitter = uniforms(count, self.seed, "order-age", start).tolist()
            for row in range(count):
                first, length = row * width, lengths[row] + 1
                # A product drawn twice counts once: an order's products are distinct.
                lines = dict(zip(chosen[first : first + length], pieces[first : first + length], strict=True))
                index = start + row
                yield OrderRow(
                    self.order_id(index),
                    customers[customer[row]][0],
                    tuple((products[product][0], quantity + 1) for product, quantity in lines.items()),
                    FATES[fates[row]][1],
                    _age_us(index, jitter[row], self.size.orders),
                )

    def _pick(self, kind: str, index: int) -> int:
        digest = hashlib.blake2b(f"{self.seed}/{kind}/{index}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big")


def person(pick: int) -> str:
    """A customer's name of a number."""
    pick, first = divmod(pick, len(FIRST_NAMES))
    return f"{FIRST_NAMES[first]} {LAST_NAMES[pick % len(LAST_NAMES)]}"


def _choose(weights: Sequence[float], draws: Draws) -> Indexes:
    """The index of the weight each draw in [0, 1) falls on."""
    edges = np.cumsum(weights)
    found: Indexes = np.minimum(np.searchsorted(edges / edges[-1], draws, side="right"), len(weights) - 1)
    return found


def _age_us(index: int, jitter: float, orders: int) -> int:
    """Three times as many orders a day at the end as at the beginning, as of a shop that grows; ages differ by index.

    The order's place in (0, 1) moves by up to 0.9 of the gap to the next, so that gaps vary and the order stays.
    """
    place = (index + 0.05 + 0.9 * jitter) / orders
    return round(SPREAD_US * (1 - (math.sqrt(1 + 8 * place) - 1) / 2))


def named(size: str, seed: str) -> Dataset:
    """The data set of a size and a seed, as they are given on a command line."""
    return Dataset(int(seed), *SIZES[size])
