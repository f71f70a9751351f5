"""The contract's table of refusals, row by row, and which row comes first."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import pytest

from contract.ports import utc_now
from ladder.noop.system import MemoryOrders
from tests.conftest import RUNGS
from tests.service import Shop, client_of, fresh_id, settle

Ids = dict[str, str]
Sent = bytes | dict[str, Any]
Case = tuple[str, str, str, dict[str, Any]]  # status and code, method, path, what is sent
KIB, MIB = 1024, 1024 * 1024
ID = "01990000-0000-7000-8000-000000000001"
JSON = {"content-type": "application/json"}
PRODUCT = {"name": "x", "price_cents": 1, "stock": 1}


@pytest.fixture(scope="module")
def noop() -> Iterator[httpx.Client]:
    with client_of(MemoryOrders(utc_now)) as client:
        yield client


@pytest.fixture(scope="module", params=RUNGS)
def rung(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=request.getfixturevalue("serve")(request.param).url, timeout=30) as client:
        yield client


@cache
def ids_of(client: httpx.Client) -> Ids:
    """The ids of one of everything that a refusal needs; what is refused leaves all of it as it is."""
    shop = Shop(client)
    customer, product, delivery = shop.customer("Ada"), shop.product(10), fresh_id()
    transitions = {"placed": (), "paid": ("pay",), "shipped": ("pay", "ship"), "cancelled": ("cancel",)}
    ids = {name: shop.order(customer, product, then=then) for name, then in transitions.items()}
    assert client.put(f"/products/{product}/deliveries/{delivery}", json={"quantity": 3}).status_code == 201
    settle(client)
    of_products = {"product": product, "PRODUCT": product.upper(), "sold_out": shop.product(0), "delivery": delivery}
    return ids | of_products | {"customer": customer, "new": fresh_id()}


def body(value: object, **headers: str) -> dict[str, Any]:
    """What is sent with a request: bytes as they are, anything else as JSON."""
    return {"content": value if isinstance(value, bytes) else json.dumps(value).encode(), "headers": JSON | headers}


def at(version: str, **fields: object) -> dict[str, Any]:
    return body(fields, **{"Expected-Version": version})


def order(*products: str, quantity: object = 1, customer: str = "$customer", **more: object) -> dict[str, Any]:
    lines = [{"product_id": product, "quantity": quantity} for product in products]
    return body({"customer_id": customer, "lines": lines} | more)


def plain(content: object, media_type: str | None = None) -> dict[str, Any]:
    return {"content": content, "headers": {} if media_type is None else {"content-type": media_type}}


def chunked() -> Iterator[bytes]:
    yield from (b" " * 8192 for _ in range(MIB // 8192))


def rows(expected: str, requests: str, *sent: Sent) -> list[Any]:
    """One case: each request (a method and paths) with each of what is sent with it; `$name` stands for an id."""
    method, *paths = requests.split()
    cases = [(path, one if isinstance(one, dict) else body(one)) for path in paths for one in sent or ({},)]
    return [pytest.param([(expected, method, *case) for case in cases], id=f"{expected} {requests:.60}")]


def gets(path: str, *values: str) -> str:
    return "GET " + " ".join(path + value for value in values)


def header(name: str, *values: str | bytes) -> list[Any]:
    return [{"headers": {name: value}} for value in values]


LIMITS = ("", "0", "101", "-1", "+1", "1.0", "x", "%201", "1%00", "5&limit=5", "%D9%A3", "%FF", "9" * 5000)
NO_TOKENS = ("", "x", "1", "1-", "1-1-1", "-1-1", "1-x", b"\xb2-1", "1-1, 1-1", "1-1.", ".1-1", "a-1.1-1", "a.")
TOKENS = header("Consistency-Token", *NO_TOKENS)
VERSIONS = header("Expected-Version", "", "x", "-1", "+1", "1.0", '"1"', "1, 1", b"\xb2")

# Decided before the system is asked, so alike on every rung.
BY_HTTP = [
    *rows("404 not-found", "GET /orders /orders/$placed/ /health/ /health%0A /orders/$placed/history%0A"),
    *rows("404 not-found", "GET /orders//history"),
    *rows("404 not-found", "POST /orders/$placed%2Fpay /orders/$placed/refund"),
    *rows("404 not-found", "PUT /nowhere", plain(b" " * MIB)),
    *rows("405 method-not-allowed", "DELETE /orders/$placed"),
    *rows("405 method-not-allowed", "GET /orders/$placed/pay"),
    *rows("405 method-not-allowed", "POST /customers/$customer/orders"),
    *rows("405 method-not-allowed", "OPTIONS /health"),
    *rows("405 method-not-allowed", "PATCH /orders/not-an-id", plain(b" " * MIB)),
    # announced or in chunks, on every command
    *rows("413 too-large", "PUT /customers/$new", b" " * (64 * KIB + 1), plain(chunked, "application/json")),
    *rows("413 too-large", "PUT /customers/not-an-id", plain(b" " * MIB, "text/plain")),
    *rows("413 too-large", "POST /orders/$placed/pay", plain(b" " * (64 * KIB + 1))),
    *rows("413 too-large", "POST /orders/$placed/ship", plain(chunked)),
    *rows("413 too-large", "POST /orders/$new/cancel", plain(b" " * MIB)),
    *rows("415 unsupported-media-type", "PUT /customers/$new", plain(b'{"name":"x"}'), {"data": {"name": "x"}}),
    *rows("415 unsupported-media-type", "PUT /customers/$new", plain(b"{}", "application/json; charset=latin-1")),
    *rows("415 unsupported-media-type", "PUT /orders/$new", plain(b"{", "text/json")),
    *rows("415 unsupported-media-type", "PUT /customers/not-an-id", plain(b"{", "a/b")),
    *rows(
        "400 malformed",
        "PUT /customers/$new",
        *rb"""{ {"name":"x",} {"name":"x"}y {"name":NaN} {"name":-Infinity} {'name':'x'} {"name":01}""".split(),
        *rb'{"wrong":1,"name":nope} {"name":"\x"}'.split(),
        *(b"", b'{"name":"x"} y', b'{"name":"\xff"}', b'{"name":"\xed\xa0\x80"}', b'\xef\xbb\xbf{"name":"x"}'),
        *(b'{"name":"a\nb"}', b'{"name":"a\x00b"}', b"[" * 30_000 + b"]" * 30_000, b"[" * 60_000),
        b'{"name":' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"other":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"}",
        *(b'{"name":' + b"9" * 5_000 + b"}", b'{"name":-' + b"9" * 60_000 + b"}"),
    ),
    *rows("400 malformed", "PUT /customers/not-an-id", b"{"),
    *rows("400 malformed", "POST /customers/$new/rename", body(b"{", **{"Expected-Version": "x"})),
    *rows(
        "422 invalid",
        "PUT /customers/$new",
        *rb'null [] "name" {} {"name":null} {"name":1} {"name":true} {"name":["x"]} {"name":""} {"Name":"x"}'.split(),
        *rb'{"name":"a\u0000b"} {"name":"\ud800"} {"name":"\udc00x"} {"name":"x","age":1} {"name":"\u001c"}'.split(),
        *(rb'{"name":"x","\ud800":1}', rb'{"name":" \t\n"}', '{"name":"\u2003\u3000"}'.encode()),
        *(b'{"name":"' + b"x" * 201 + b'"}', b'{"name":"x","n":' + b"[" * 20 + b"]" * 20 + b"}"),
    ),
    *rows(
        "422 invalid",
        "PUT /products/$new",
        *(body(PRODUCT | {"price_cents": value}) for value in (-1, 100_000_001, "1", True, 1.5, None)),
        *(body(PRODUCT | {"stock": value}) for value in (-1, 1_000_000_001, 2**31, False, [1])),
        body(PRODUCT | {"sold": 1}),
    ),
    *rows("422 invalid", "POST /products/$product/reprice", b"{}", b'{"price_cents":-1}'),
    *rows(
        "422 invalid",
        "PUT /products/$product/deliveries/$new",
        *(body({"quantity": value}) for value in (0, -1, 1_000_000_001, "1", True)),
    ),
    *rows(
        "422 invalid",
        "PUT /orders/$new",
        *(order("$product", quantity=value) for value in (0, 1001, -1, "1", True, None, 2**31)),
        *(order(), order(*(fresh_id() for _ in range(51))), order("$product", "$product")),
        *(order("$product", "$PRODUCT"), order("$product", lines={}), order("$product", lines=[1]), order("no-id")),
        *(order("$product", customer="x"), b'{"customer_id":"$customer"}'),
    ),
    # ids in the path
    *rows("422 invalid", f"GET /orders/1 /orders/{ID[:-1]} /orders/{ID}0 /orders/{ID.replace('-', '')} /orders/%FF"),
    *rows("422 invalid", f"GET /orders/%7B{ID}%7D /orders/%00 /orders/{ID[:-1]}%D9%A3 /orders/$placed%0A"),
    *rows("422 invalid", "GET /orders/urn:uuid:$placed"),
    *rows("422 invalid", "POST /orders/x/pay"),
    *rows("422 invalid", "PUT /products/$new/deliveries/x /products/x/deliveries/$new", b'{"quantity":1}'),
    # query parameters
    *rows("422 invalid", gets("/customers/$customer/orders?limit=", *LIMITS)),
    *rows("422 invalid", gets("/reports/top-products?limit=", *LIMITS)),
    *rows("422 invalid", gets("/search/orders?q=a&limit=", *LIMITS)),
    *rows("422 invalid", gets("/reports/daily-sales?days=", "", "0", "367", "x", "1&days=1")),
    *rows("422 invalid", gets("/customers/$customer/orders?after=", "", "x", "%FF", "A" * 84, "x&after=x")),
    *rows("422 invalid", gets("/customers/$customer/orders?after=", "A" * 83 + "%C3%A4", "A" * 10_000)),
    *rows("422 invalid", "GET /search/orders"),
    *rows("422 invalid", gets("/search/orders?q=", "", "%20", "-", "a&q=b", "a%00b", "%FF")),
    *rows("422 invalid", gets("/search/orders?q=", "%ED%A0%80", "x" * 201, "+".join("abcdefghijk"), "a" + "+a" * 10)),
    # headers
    *rows("422 invalid", "POST /orders/$placed/pay /orders/$placed/ship /orders/$placed/cancel", *VERSIONS),
    *rows("422 invalid", "POST /customers/$customer/rename", *({"json": {"name": "x"}, **one} for one in VERSIONS)),
    *rows("422 invalid", "POST /products/$product/reprice", *({"json": {"price_cents": 1}, **one} for one in VERSIONS)),
    *rows("422 invalid", "POST /orders/$placed/pay", {"headers": [("Expected-Version", "1")] * 2}),
    *rows("422 invalid", "GET /orders/$placed", *TOKENS),
]

# Decided by the system.
BY_A_SYSTEM = [
    # in the path
    *rows("404 not-found", "GET /orders/$new /orders/$customer /orders/$new/history /customers/$new"),
    *rows("404 not-found", "GET /customers/$new/orders /customers/$product /products/$new"),
    *rows("404 not-found", "POST /orders/$new/pay /orders/$new/ship /orders/$new/cancel"),
    *rows("404 not-found", "POST /orders/$new/pay", *header("Expected-Version", "7")),
    *rows("404 not-found", "POST /customers/$new/rename", at("7", name="x")),
    *rows("404 not-found", "POST /products/$new/reprice", b'{"price_cents":1}'),
    *rows("404 not-found", "PUT /products/$new/deliveries/$new", b'{"quantity":1}'),
    *rows("409 id-reused", "PUT /customers/$customer", b'{"name":"Other"}'),
    *rows("409 id-reused", "PUT /products/$product", b'{"name":"Pot","price_cents":100,"stock":11}'),
    *rows("409 id-reused", "PUT /products/$product/deliveries/$delivery", b'{"quantity":4}'),
    *rows("409 id-reused", "PUT /orders/$placed", order("$product", quantity=2)),
    *rows("409 id-reused", "PUT /orders/$cancelled", order(fresh_id(), customer=ID)),
    *rows("422 unknown-reference", "PUT /orders/$new", order("$product", customer="$new")),
    *rows("422 unknown-reference", "PUT /orders/$new", order("$sold_out", fresh_id())),
    *rows("412 version-mismatch", "POST /orders/$placed/pay", *header("Expected-Version", "2")),
    *rows("412 version-mismatch", "POST /orders/$placed/ship", *header("Expected-Version", "0")),
    *rows("412 version-mismatch", "POST /orders/$shipped/cancel", *header("Expected-Version", "9" * 30)),
    *rows("412 version-mismatch", "POST /orders/$paid/cancel", *header("Expected-Version", str(2**31))),
    *rows("412 version-mismatch", "POST /customers/$customer/rename", at("2", name="Eve")),
    *rows("412 version-mismatch", "POST /products/$product/reprice", at(str(2**63), price_cents=7)),
    *rows("409 wrong-state", "POST /orders/$placed/ship", {}, *header("Expected-Version", "1")),
    *rows("409 wrong-state", "POST /orders/$shipped/cancel /orders/$cancelled/pay /orders/$cancelled/ship"),
    *rows("409 insufficient-stock", "PUT /orders/$new", order("$product", "$sold_out")),
]


@pytest.mark.parametrize("cases", BY_HTTP)
def test_what_http_refuses(noop: httpx.Client, cases: list[Case]) -> None:
    for case in cases:
        check(noop, *case)


@pytest.mark.parametrize("cases", BY_A_SYSTEM)
def test_what_a_system_refuses(rung: httpx.Client, cases: list[Case]) -> None:
    for case in cases:
        check(rung, *case)


def check(client: httpx.Client, expected: str, method: str, path: str, sent: dict[str, Any]) -> None:
    """A refusal has its status, its code and its members, and leaves no trace."""
    ids = ids_of(client)
    content = sent.get("content")
    for name, id in ids.items():
        path = path.replace(f"${name}", id)
        content = content.replace(f"${name}".encode(), id.encode()) if isinstance(content, bytes) else content
    response = client.request(method, path, **sent | {"content": content() if callable(content) else content})
    problem, (status, code) = response.json(), expected.split()
    said = f"{method} {path:.60} {sent!s:.60} {response.text}"
    assert (response.status_code, problem["type"]) == (int(status), f"urn:crossover:{code}"), said
    assert response.headers["content-type"] == "application/problem+json"
    assert list(problem)[:4] == ["type", "title", "status", "detail"] and problem["status"] == int(status)
    members = set(problem) - {"type", "title", "status", "detail"}
    assert members == {"invalid": {"errors"}, "insufficient-stock": {"product_id"}}.get(code, set())
    if code == "invalid":
        assert 1 <= len(problem["errors"]) <= 10
        assert all(error.keys() == {"field", "reason"} for error in problem["errors"])
    if code == "insufficient-stock":
        assert problem["product_id"] == ids["sold_out"]
    assert ("allow" in response.headers) == (status == "405")
    assert "consistency-token" not in response.headers and "location" not in response.headers


def test_refusals_left_everything_as_it_was(noop: httpx.Client, rung: httpx.Client) -> None:
    for client in (noop, rung):
        ids = ids_of(client)
        settle(client)
        assert client.get(f"/customers/{ids['customer']}").json()["version"] == 1
        product = client.get(f"/products/{ids['product']}").json()
        assert (product["version"], product["stock"], product["sold"]) == (2, 10, 3)
        versions = [client.get(f"/orders/{ids[name]}").json()["version"] for name in ("placed", "paid", "shipped")]
        assert versions == [1, 2, 3]


def test_the_errors_name_known_fields_and_repeat_nothing_hostile(noop: httpx.Client) -> None:
    def fields(path: str, sent: object) -> list[str]:
        response = noop.put(path, json=sent)
        assert "<script>" not in response.text
        return [error["field"] for error in response.json()["errors"]]

    product = ids_of(noop)["product"]
    lines = [{"product_id": product, "quantity": 0}, {"product_id": "<script>", "quantity": 1, "<script>": 1, "b": 1}]
    found = fields("/orders/<script>", {"customer_id": "<script>", "lines": lines, "<script>": 1})
    assert sorted(found) == ["", "customer_id", "id", "lines[0].quantity", "lines[1]", "lines[1].product_id"]
    assert fields(f"/customers/{ID}", {}) == ["name"]
    assert fields(f"/customers/{ID}", []) == [""]
    twice = [{"product_id": product, "quantity": 1}] * 2
    assert fields(f"/orders/{ID}", {"customer_id": ID, "lines": twice}) == ["lines[1].product_id"]
    assert len(fields(f"/orders/{ID}", {"customer_id": ID, "lines": [{}] * 50})) == 10


def test_what_is_odd_and_allowed_is_accepted(rung: httpx.Client) -> None:
    placed = ids_of(rung)["placed"]
    assert rung.get(f"/orders/{placed.upper()}").json()["id"] == placed
    assert rung.get(f"/orders/{placed.replace('-', '%2d')}").status_code == 200
    assert rung.get(f"/orders/{placed}?limit=&x=%FF&limit=0").status_code == 200
    assert rung.get("/reports/top-products?%6Cimit=007&days=x&").status_code == 200
    assert rung.get("/search/orders?q=" + "+".join("abcdefghij")).status_code == 200
    name, id, escaped = "\U0001f600 <b> \u202e x" + "y" * 190, fresh_id(), fresh_id()
    headers = {"content-type": 'Application/JSON ; charset="UTF-8"', "Expected-Version": "none"}
    created = rung.put(f"/customers/{id.upper()}", content=f' {{"name" : "{name}"}}\n'.encode(), headers=headers)
    assert (created.status_code, created.headers["location"]) == (201, f"/customers/{id}")
    assert created.content == f'{{"id":"{id}","version":1}}'.encode()
    assert rung.put(f"/customers/{escaped}", **body(b'{"name":"\\ud83d\\ude00"}')).status_code == 201
    settle(rung)
    assert f'"name":"{name}"'.encode() in rung.get(f"/customers/{id}").content
    assert '"name":"\U0001f600"'.encode() in rung.get(f"/customers/{escaped}").content
    assert rung.post(f"/orders/{ids_of(rung)['paid']}/pay", **plain(b"{" * 64 * KIB, "text/plain")).status_code == 200
    spaces = body(b'{"name":"x"}' + b" " * (64 * KIB - 12))
    assert rung.put(f"/customers/{fresh_id()}", **spaces).status_code == 201


def test_numbers_left_open_are_never_a_5xx(rung: httpx.Client) -> None:
    for number in f"5.0 {2**63} {2**64} 1e400 1e18 {'9' * 400} -0 0.1e1 -1e-400".split():
        text = f'{{"name":"x","price_cents":{number},"stock":1,"stock":2}}'.encode()
        assert rung.put(f"/products/{fresh_id()}", **body(text)).status_code in (201, 400, 422), number
