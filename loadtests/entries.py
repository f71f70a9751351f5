"""One order in the ledger: what was asked for, what it may be by now, and what is wrong with what the target says."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

# What a transition makes of an order, by the state it finds; another state forbids it.
_AFTER = {
    "pay": {"placed": "paid"},
    "ship": {"paid": "shipped"},
    "cancel": {"placed": "cancelled", "paid": "cancelled"},
}


class Wanted(Struct, frozen=True):
    product_id: str
    quantity: int


class Placing(Struct, frozen=True):
    customer_id: str
    lines: tuple[Wanted, ...]


class CustomerRef(Struct, frozen=True):
    id: str


class Line(Struct, frozen=True):
    product_id: str
    quantity: int
    unit_price_cents: int
    amount_cents: int


class Order(Struct, frozen=True):
    """An order as the target shows it, without the fields the ledger has no opinion of."""

    id: str
    version: int
    status: str
    customer: CustomerRef
    lines: tuple[Line, ...]
    total_cents: int


class Entry:
    """`prices` are what each product may have cost then, None where nobody knows."""

    def __init__(self, body: bytes, outcome: str, prices: dict[str, set[int] | None]) -> None:
        self.placing, self.outcome, self.prices = msgspec.json.decode(body, type=Placing), outcome, prices
        self.states = {("placed", 1)}  # the (status, version) it may be in

    def change(self, name: str, outcome: str) -> None:
        after = {(_AFTER[name][status], version + 1) for status, version in self.states if status in _AFTER[name]}
        if outcome == "ok":
            self.states = after
        elif outcome == "error":
            self.states |= after

    def problem(self, identity: str, order: Order) -> str | None:
        """How the order the target shows cannot be the one in the books."""
        wanted = [(line.product_id, line.quantity) for line in self.placing.lines]
        shown = [(line.product_id, line.quantity) for line in order.lines]
        if order.id != identity:
            return f"id is {order.id}"
        if order.customer.id != self.placing.customer_id:
            return f"customer is {order.customer.id}, {self.placing.customer_id} placed it"
        if shown != wanted:
            return f"lines are {shown}, placed were {wanted}"
        if (order.status, order.version) not in self.states:
            return f"it is {order.status}, {order.version}: the acknowledged commands make it {_or(self.states)}"
        for line in order.lines:
            prices = self.prices[line.product_id]
            if prices is not None and line.unit_price_cents not in prices:
                return f"{line.product_id} costs {line.unit_price_cents}, its price was {_or(prices)}"
            if line.amount_cents != line.quantity * line.unit_price_cents:
                return f"{line.quantity} pieces at {line.unit_price_cents} amount to {line.amount_cents}"
        total = sum(line.amount_cents for line in order.lines)
        if order.total_cents != total:
            return f"total_cents is {order.total_cents}, its lines add up to {total}"
        return None


def _or(values: Iterable[object]) -> str:
    return " or ".join(sorted(map(str, values))) or "impossible"
