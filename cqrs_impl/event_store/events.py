"""The events of the store: those of the contract, and those by which orders take from a stock and return to it.

The body of each names its type and the number of its shape, its schema. Bodies are never rewritten: an event of an
old shape is brought to today's whenever it is read.
"""

from typing import Annotated, get_args

import msgspec
from msgspec import Meta, Struct

from contract.messages import BaseEvent, Event
from cqrs_impl.event_store.upcasts import UPCASTS
from cqrs_impl.ports import Unshown


class OfStock(BaseEvent, frozen=True):
    """Of the stock of one product, a stream of its own: a product's version does not move with orders."""

    kind = "stock"
    order_id: str
    quantity: int


class StockTaken(OfStock, frozen=True):
    pass


class StockReturned(OfStock, frozen=True):
    pass


StockEvent = StockTaken | StockReturned
StoredEvent = Event | StockEvent
SCHEMAS = {kind.__name__: 1 + len(UPCASTS.get(kind.__name__, ())) for kind in get_args(StoredEvent)}


class _Head(Struct):
    """The first events had no number."""

    type: str
    schema: Annotated[int, Meta(ge=1)] = 1


_head = msgspec.json.Decoder(_Head).decode
_decode = msgspec.json.Decoder(StoredEvent).decode
_encode = msgspec.json.Encoder().encode
_BEGIN = {name: f'{{"schema":{number},' for name, number in SCHEMAS.items()}


def encode(event: StoredEvent) -> str:
    return _BEGIN[type(event).__name__] + _encode(event)[1:].decode()


def decode(body: str) -> StoredEvent:
    """An event in today's shape; `msgspec.DecodeError` if its type or its schema is not known here."""
    head = _head(body)
    newest = SCHEMAS.get(head.type)
    if newest is None:
        raise msgspec.ValidationError(f"{head.type} is a type that this version does not know")
    if head.schema > newest:
        raise msgspec.ValidationError(f"{head.type} has schema {head.schema}, and this version reads up to {newest}")
    if head.schema == newest:
        return _decode(body)  # type: ignore[no-any-return]
    try:
        data = msgspec.json.decode(body)
        for step in UPCASTS[head.type][head.schema - 1 :]:
            data = step(data)
        return msgspec.convert(data, StoredEvent)  # type: ignore[no-any-return]
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise msgspec.ValidationError(f"{head.type} has not the fields of its schema {head.schema}") from error


def shown(body: str) -> Event | Unshown:
    """For the projector: no view shows what an order took from a stock beside the order itself."""
    event = decode(body)
    return Unshown(event.stream, event.version) if isinstance(event, OfStock) else event
