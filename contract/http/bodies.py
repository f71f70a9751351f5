"""The bodies of the commands as declared models, from JSON text to the fields of a command."""

import re
from itertools import accumulate
from json import JSONDecoder
from typing import Annotated, NoReturn

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    with_config,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from contract.errors import Malformed, UnsupportedMediaType
from contract.messages import Wanted

MAX_DEPTH = 100  # the deepest body of the contract has three levels

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")  # JSON can spell a lone surrogate, UTF-8 cannot
_MEDIA_TYPE = re.compile(rb'application/json\s*(?:;\s*+(?:charset="?utf-?8"?\s*|(?!charset=)[^;]*))*', re.IGNORECASE)
_STRING = re.compile(rb'"(?:\\.|[^"\\])*"')


def uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise PydanticCustomError("uuid", "must be a hyphenated UUID")
    return text.lower()


def _printable(name: str) -> str:
    if not name.strip() or _NOT_TEXT.search(name):
        raise PydanticCustomError("name", "must not be blank and must hold neither NUL nor a lone surrogate")
    return name


def _once(product_id: str, info: ValidationInfo) -> str:
    assert isinstance(info.context, set), "the product ids before this one"
    if product_id in info.context:
        raise PydanticCustomError("once", "must not occur twice")
    info.context.add(product_id)
    return product_id


Id = Annotated[str, AfterValidator(uuid)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Price = Annotated[int, Field(strict=True, ge=0, le=100_000_000)]
_only_these = with_config(ConfigDict(extra="forbid"))


@_only_these
class Named(TypedDict):
    name: Name


@_only_these
class NewProduct(TypedDict):
    name: Name
    price_cents: Price
    stock: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]


@_only_these
class NewPrice(TypedDict):
    price_cents: Price


@_only_these
class Delivery(TypedDict):
    quantity: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]


@_only_these
class NewLine(TypedDict):
    product_id: Annotated[Id, AfterValidator(_once)]
    quantity: Annotated[int, Field(strict=True, ge=1, le=1_000)]


_Lines = Annotated[
    list[NewLine], Field(min_length=1, max_length=50), AfterValidator(lambda lines: tuple(Wanted(**x) for x in lines))
]


@_only_these
class NewOrder(TypedDict):
    customer_id: Id
    lines: Annotated[tuple[Wanted, ...], GetPydanticSchema(lambda _, handler: handler.generate_schema(_Lines))]


NAME, PRODUCT, PRICE = TypeAdapter(Named), TypeAdapter(NewProduct), TypeAdapter(NewPrice)
DELIVERY, ORDER = TypeAdapter(Delivery), TypeAdapter(NewOrder)

_REASONS = {
    "missing": "is missing",
    "extra_forbidden": "has an unknown field",
    "dict_type": "must be an object",
    "list_type": "must be an array",
}


def errors_of(failure: ValidationError) -> list[dict[str, str]]:
    """What is wrong, by field. The name of an unknown field is the client's text, so it is never repeated."""
    found = {}
    for error in failure.errors(include_url=False, include_context=False, include_input=False):
        path = error["loc"][:-1] if error["type"] == "extra_forbidden" else error["loc"]
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
        reason = _REASONS.get(error["type"]) or re.sub(r"^\w+ should", "must", error["msg"])
        found[field, reason] = {"field": field, "reason": reason}
    return list(found.values())


def json_value(content: bytes, content_types: list[bytes]) -> object:
    """The value of a body that must be JSON; refuses the media type first, then what cannot be parsed."""
    if (content or content_types) and not (len(content_types) == 1 and _MEDIA_TYPE.fullmatch(content_types[0])):
        raise UnsupportedMediaType("The body must be application/json in UTF-8.")
    try:
        return _decode(content.decode())
    except (ValueError, RecursionError):
        _malformed()


def _malformed(_: str = "") -> NoReturn:
    raise Malformed(
        "The body is not JSON in UTF-8, is too deeply nested, or holds a number too long to read."
    ) from None


def _number(text: str) -> int | float:
    """JSON has one kind of number: 5.0 is 5, as in JSON Schema."""
    number = float(text)
    return int(number) if number.is_integer() else number


_decode = JSONDecoder(parse_float=_number, parse_constant=_malformed).decode


def refuse_deep(content: bytes) -> None:
    """Refuse JSON nested so deeply that only some versions of Python parse it."""
    brackets = re.findall(rb"[\[{\]}]", _STRING.sub(b"", content))
    if max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets), default=0) > MAX_DEPTH:
        _malformed()
