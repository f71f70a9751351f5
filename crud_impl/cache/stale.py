"""Which answers a command makes stale: the one table, by tags. An answer depends on the tags of its query.

A tag is a kind and the id it is about, such as `order:<id>`; the last kinds are about everything and have no id.
"""

from collections.abc import Mapping
from typing import NamedTuple

from contract.messages import (
    AddProduct,
    CancelOrder,
    Command,
    DailySales,
    DeliverStock,
    GetCustomer,
    GetHistory,
    GetOrder,
    GetProduct,
    ListOrders,
    PayOrder,
    PlaceOrder,
    Query,
    RegisterCustomer,
    RenameCustomer,
    RepriceProduct,
    SearchOrders,
    ShipOrder,
    TopProducts,
)

# `name` is the customer's name as orders show it, `orders-of` the list of a customer's orders.
STALE: Mapping[type[Command], tuple[str, ...]] = {
    RegisterCustomer: ("customer",),
    RenameCustomer: ("customer", "name", "search"),
    AddProduct: ("product",),
    RepriceProduct: ("product",),  # no order: their prices were fixed when they were placed
    DeliverStock: ("product",),
    PlaceOrder: ("order", "customer", "orders-of", "product", "top", "days", "search"),
    PayOrder: ("order", "orders-of", "search"),
    ShipOrder: ("order", "orders-of", "search"),
    CancelOrder: ("order", "customer", "orders-of", "product", "top", "days", "search"),
}
DEPENDS: Mapping[type[Query], tuple[str, ...]] = {
    GetOrder: ("order", "name"),
    GetHistory: ("order",),
    GetCustomer: ("customer",),
    ListOrders: ("orders-of",),
    GetProduct: ("product",),
    TopProducts: ("top",),
    DailySales: ("days",),
    SearchOrders: ("search",),
}
ALL = "all"  # every answer depends on it


class Related(NamedTuple):
    """The customer and the products of an order, which never change."""

    customer_id: str | None = None
    product_ids: tuple[str, ...] = ()


UNKNOWN = Related()


def stale_tags(command: Command, related: Related = UNKNOWN) -> set[str]:
    """`related` is needed for commands that name only the order."""
    match command:
        case RegisterCustomer() | RenameCustomer():
            related = Related(command.id)
        case AddProduct() | RepriceProduct() | DeliverStock():
            related = Related(None, (command.id,))
        case PlaceOrder():
            related = Related(command.customer_id, tuple(line.product_id for line in command.lines))
    customer = () if related.customer_id is None else (related.customer_id,)
    ids = {"order": (command.id,), "product": related.product_ids}
    ids |= dict.fromkeys(("customer", "name", "orders-of"), customer)
    kinds = STALE[type(command)]
    return {tag for kind in kinds for tag in ([f"{kind}:{id}" for id in ids[kind]] if kind in ids else [kind])}


def tags_of(query: Query, customer_id: str | None = None) -> list[str]:
    """`customer_id` is needed for an order, which shows its customer's name."""
    tags = [ALL]
    for kind in DEPENDS[type(query)]:
        id = customer_id if kind == "name" else getattr(query, "id", None)
        tags.append(kind if id is None else f"{kind}:{id}")
    return tags
