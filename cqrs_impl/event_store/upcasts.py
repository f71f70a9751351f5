"""Events of old shapes, brought to the next shape by pure functions: the first of a type from schema 1 to 2, and so on.

No event of this project has ever changed. The two changes here are of the usual kinds, so that there is something to
read: tests/recorded_events/ holds bodies as an earlier version would have left them.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

Fields = dict[str, Any]


def order_in_cents(data: Fields) -> Fields:
    """Lines had a decimal price, and no amounts were recorded."""
    lines = []
    for old in data["lines"]:
        cents, quantity = int(Decimal(old["price"]) * 100), old["qty"]
        kept = {name: old[name] for name in ("product_id", "product_name")}
        lines.append(kept | {"quantity": quantity, "unit_price_cents": cents, "amount_cents": cents * quantity})
    return data | {"lines": lines, "total_cents": sum(line["amount_cents"] for line in lines)}


def customer_by_one_name(data: Fields) -> Fields:
    return data | {"name": f"{data['first_name']} {data['last_name']}"}


UPCASTS: Mapping[str, Sequence[Callable[[Fields], Fields]]] = {
    "OrderPlaced": (order_in_cents,),
    "CustomerRegistered": (customer_by_one_name,),
}
