"""The state of a stream: a fold of its events by the contract's own rules. Pure."""

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any

from msgspec import Struct

from contract import rules
from cqrs_impl.event_store.events import StockEvent, StockTaken, StoredEvent


class Stock(Struct, frozen=True):
    """What orders have taken from a product. What was added and delivered is in the product's own stream."""

    id: str
    version: int
    taken: int


def evolve_stock(stock: Stock | None, event: StockEvent) -> Stock:
    sign = 1 if isinstance(event, StockTaken) else -1
    return Stock(event.id, event.version, (stock.taken if stock else 0) + sign * event.quantity)


State = rules.Customer | rules.Product | rules.Order | Stock
STATES: Mapping[str, type[State]] = {
    "customer": rules.Customer,
    "product": rules.Product,
    "order": rules.Order,
    "stock": Stock,
}
EVOLVE: Mapping[str, Callable[[Any, Any], State]] = {
    "customer": rules.evolve_customer,
    "product": rules.evolve_product,
    "order": rules.evolve_order,
    "stock": evolve_stock,
}


def evolve(state: State | None, events: Iterable[StoredEvent]) -> State | None:
    """The state after further events of its stream."""
    for event in events:
        version = state.version if state else 0
        if event.version != version + 1:
            raise ValueError(f"{event.stream} has version {event.version} after {version}")
        state = EVOLVE[event.kind](state, event)
    return state


def _digest() -> str:
    sources = {"contract": ("rules", "messages"), "cqrs_impl.event_store": ("events", "streams", "upcasts")}
    texts = [files(package).joinpath(f"{name}.py").read_bytes() for package, names in sources.items() for name in names]
    return sha256(b"".join(texts)).hexdigest()[:16]


RULES = _digest()
"""Names the rules that fold events: a snapshot of other rules is not used. Nobody has to think of it."""
