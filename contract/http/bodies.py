"""The commands that come with a body: from a request to the command, field by field."""

from starlette.types import Receive

from contract.errors import TooLarge
from contract.http.request import Request
from contract.messages import (
    AddProduct,
    DeliverStock,
    PlaceOrder,
    RegisterCustomer,
    RenameCustomer,
    RepriceProduct,
    Wanted,
)

MAX_BODY_BYTES = 64 * 1024
MAX_PRICE_CENTS = 100_000_000
MAX_STOCK = 1_000_000_000
MAX_LINES = 50
MAX_PIECES = 1_000

_LINE = frozenset(("product_id", "quantity"))


def register_customer(request: Request) -> RegisterCustomer:
    return RegisterCustomer(request.path_id("id"), request.fields("name").name("name"))


def rename_customer(request: Request) -> RenameCustomer:
    return RenameCustomer(request.path_id("id"), request.fields("name").name("name"), request.expected_version())


def add_product(request: Request) -> AddProduct:
    fields = request.fields("name", "price_cents", "stock")
    return AddProduct(
        request.path_id("id"),
        fields.name("name"),
        fields.integer("price_cents", 0, MAX_PRICE_CENTS),
        fields.integer("stock", 0, MAX_STOCK),
    )


def reprice_product(request: Request) -> RepriceProduct:
    price_cents = request.fields("price_cents").integer("price_cents", 0, MAX_PRICE_CENTS)
    return RepriceProduct(request.path_id("id"), price_cents, request.expected_version())


def deliver_stock(request: Request) -> DeliverStock:
    quantity = request.fields("quantity").integer("quantity", 1, MAX_STOCK)
    return DeliverStock(request.path_id("id"), request.path_id("delivery_id"), quantity)


def place_order(request: Request) -> PlaceOrder:
    fields = request.fields("customer_id", "lines")
    lines: list[Wanted] = []
    products: set[str] = set()
    for item in fields.objects("lines", _LINE, 1, MAX_LINES):
        line = Wanted(item.id("product_id"), item.integer("quantity", 1, MAX_PIECES))
        if line.product_id in products:
            item.repeated("product_id")
        elif line.product_id:
            products.add(line.product_id)
        lines.append(line)
    return PlaceOrder(request.path_id("id"), fields.id("customer_id"), tuple(lines))


class Disconnected(Exception):
    """The client went away before its body was here: there is nobody to answer."""


async def read_body(headers: dict[bytes, list[bytes]], receive: Receive) -> bytes:
    """The body, never more than the limit of it kept; TooLarge by its announced or its real length."""
    announced = headers.get(b"content-length")
    if announced and int(announced[0]) > MAX_BODY_BYTES:
        raise TooLarge("The body is longer than 64 KiB.")
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part = message.get("body", b"")
        length += len(part)
        if length > MAX_BODY_BYTES:
            raise TooLarge("The body is longer than 64 KiB.")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
