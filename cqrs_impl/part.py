"""A part of the views: the documents that one partition of the events builds, and nobody else writes.

Events are not partitioned by their stream alone, because three kinds of document grow out of several streams: an order
shows its customer's name, a product counts the pieces of everybody's orders, a day sums them up. Two projectors that
both add to one total would overwrite each other, however well each keeps its own streams in order. So each document has
one owner, and an event goes to the partition of every owner whose documents it changes:

- a customer owns itself, its orders with their histories and items, and the words that find them. A rename fans out to
  all orders of the customer: they are all here, so it stays one write of one partition.
- a product owns itself and its rank among the top products. Each order tells it what was sold.
- a day owns its total.

An owner's partition is a hash of its key, so that all events of a stream reach a partition in their order. The price:
an order of three products is published up to five times, and is shown for a moment in its customer's list but not yet
in a product's sum. No answer claims more than it shows: its token is that of the partition furthest behind.
"""

from collections.abc import Callable
from typing import NamedTuple
from zlib import crc32

from msgspec import Struct

from contract.messages import Line


class Part(NamedTuple):
    number: int = 0
    of: int = 1

    def holds(self, key_of: Callable[[str], str], owner: str) -> bool:
        return self.of == 1 or partition_of(key_of(owner), self.of) == self.number


WHOLE = Part()


def partition_of(key: str, partitions: int) -> int:
    """By the high bits of a checksum: its low ones hardly differ between keys such as consecutive days."""
    return crc32(key.encode()) * partitions >> 32


def customer_key(id: str) -> str:
    return f"customer-{id}"  # as its stream


def product_key(id: str) -> str:
    return f"product-{id}"  # as its stream


def day_key(day: str) -> str:
    return f"day-{day}"


class Slip(Struct, frozen=True):
    """What a part that counts an order, and is not its customer's, keeps of it: the version guards its totals."""

    id: str
    version: int
    placed_at: str
    lines: tuple[Line, ...]
    total_cents: int


def slip_id(order_id: str, part: Part) -> str:
    return f"{part.number}-{order_id}"
