"""What an index of orders holds: documents, what they are found by, and the checkpoint.

It has one shard, so that a search sees one moment of it. The checkpoint is a document of the index, written after all
that it covers: a search that finds it finds what it covers too, which is how an answer knows what it reflects.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from contract.messages import CustomerView, OrderItem, OrderView
from contract.text import words
from cqrs_impl.fold import KINDS, place_of

CHECKPOINT = "checkpoint"  # its id
FIRST = "~"  # its place: before all orders, whose places begin with a digit, in a list whose newest come first

# What is not named here is kept and not searched. Only `place` is sorted by; of names it counts which words they have.
MAPPING = {
    "dynamic": False,
    "properties": {
        "place": {"type": "keyword"},
        "customer": {"type": "keyword", "doc_values": False},
        "words": {"type": "keyword", "doc_values": False},
        "names": {"type": "text", "norms": False, "index_options": "docs"},
    },
}


class IndexedOrder(OrderView, frozen=True):
    """An order, and of which version of its customer the name on it is: an older one never takes its place."""

    named: int = 0


KINDS[IndexedOrder] = KINDS[OrderView]  # an index has no other orders

_encode = msgspec.json.Encoder().encode
_order = msgspec.json.Decoder(IndexedOrder).decode
_decoders: dict[type, Any] = {
    CustomerView: msgspec.json.Decoder(CustomerView).decode,
    OrderView: _order,
    IndexedOrder: _order,
}


def settings(refresh: str) -> dict[str, Any]:
    """`refresh`: how often what was written is made searchable. A crash may cost the last writes: the checkpoint is one
    of them, so that they are written again."""
    return {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": refresh, "translog.durability": "async"}


class Source(Struct, omit_defaults=True):
    """A document as the engine keeps it: the checkpoint, a customer, or an order with what it is found and shown by.

    `held`: another index is about to answer in the place of the one with this checkpoint, which waits for that."""

    place: str | UnsetType = UNSET
    checkpoint: str = ""
    held: bool = False
    dead_letters: str | None = None
    ages: str | None = None
    document: Raw | UnsetType = UNSET
    customer: str | UnsetType = UNSET
    words: Sequence[str] = ()
    names: Sequence[str] = ()
    item: OrderItem | None = None

    @property
    def text(self) -> bytes:
        """Of the checkpoint; none of what is no checkpoint."""
        return self.checkpoint.encode()

    @property
    def letters(self) -> bytes | None:
        return None if self.dead_letters is None else self.dead_letters.encode()


def source_of(document: Struct) -> Source:
    text = Raw(_encode(document))
    if not isinstance(document, OrderView):
        return Source(document=text)
    order, names = document, [document.customer.name, *(line.product_name for line in document.lines)]
    return Source(
        place=place_of(document.placed_at, document.id),
        document=text,
        customer=document.customer.id,
        words=list(dict.fromkeys(word for name in names for word in words(name))),
        names=names,
        item=OrderItem(order.id, order.version, order.status, order.placed_at, len(order.lines), order.total_cents),
    )


def holds(kind: type) -> bool:
    return kind in _decoders


def document_of(source: Source, kind: type) -> Any:
    assert isinstance(source.document, Raw), "asked for by its id"
    return _decoders[kind](source.document)
