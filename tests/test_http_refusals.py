"""The contract's table of refusals, row by row, and which row comes first."""

import socket
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from contract.errors import Unavailable
from contract.http.app import make_app
from contract.memory import MemoryOrders
from contract.messages import Command, CommandResult, Query, QueryResult, Readiness
from contract.ports import utc_now
from ladder.rungs import RUNGS
from tests.service import Shop, fresh_id, in_thread, settle, wait_until

Things = dict[str, str]
MIB = 1024 * 1024
ID = "01990000-0000-7000-8000-000000000001"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module", params=RUNGS)
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    target = request.getfixturevalue("serve")(request.param)
    with httpx.Client(base_url=target.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def things(client: httpx.Client) -> Things:
    """One of everything that a refusal needs; what is refused leaves them as they are."""
    shop = Shop(client)
    customer, product, sold_out = shop.customer("Ada"), shop.product(10), shop.product(0)
    things = {
        "customer": customer,
        "product": product,
        "sold_out": sold_out,
        "placed": shop.order(customer, product),
        "paid": shop.order(customer, product, then=("pay",)),
        "shipped": shop.order(customer, product, then=("pay", "ship")),
        "cancelled": shop.order(customer, product, then=("cancel",)),
        "delivery": fresh_id(),
        "nobody": fresh_id(),
    }
    delivered = client.put(f"/products/{product}/deliveries/{things['delivery']}", json={"quantity": 3})
    assert delivered.status_code == 201
    settle(client)
    return things


def order_of(things: Things, *products: str, quantity: object = 1, customer: str = "customer") -> dict[str, Any]:
    lines = [{"product_id": things.get(p, p), "quantity": quantity} for p in products]
    return {"customer_id": things.get(customer, customer), "lines": lines}


def chunks(length: int) -> Iterator[bytes]:
    for _ in range(length // 8192):
        yield b" " * 8192


Send = Callable[[Things], dict[str, Any]]


def row(status: int, code: str, method: str, path: str, send: Send | None = None, **given: Any) -> Any:
    """One request: `given` as it is, or `send` where it needs the ids of things."""
    shown = f"{status} {code} {method} {path[:60]} {str(given)[:40]}".encode("ascii", "replace").decode()
    return pytest.param(status, code, method, path, send or (lambda _: given), id=shown)


def body(text: bytes | str, **headers: str) -> dict[str, Any]:
    return {"content": text, "headers": JSON | headers}


REFUSALS = [
    # no such route
    row(404, "not-found", "GET", "/"),
    row(404, "not-found", "GET", "/orders"),
    row(404, "not-found", "GET", "/orders/{placed}/"),
    row(404, "not-found", "GET", "/health/"),
    row(404, "not-found", "GET", "/health%0A"),
    row(404, "not-found", "GET", "/orders/{placed}/history%0A"),
    row(404, "not-found", "GET", "/orders//history"),
    row(404, "not-found", "POST", "/orders/{placed}%2Fpay"),
    row(404, "not-found", "POST", "/orders/{placed}/refund"),
    row(404, "not-found", "PUT", "/nowhere", content=b" " * MIB),
    # wrong method
    row(405, "method-not-allowed", "DELETE", "/orders/{placed}"),
    row(405, "method-not-allowed", "GET", "/orders/{placed}/pay"),
    row(405, "method-not-allowed", "POST", "/customers/{customer}/orders"),
    row(405, "method-not-allowed", "OPTIONS", "/health"),
    row(405, "method-not-allowed", "PATCH", "/orders/not-an-id", content=b" " * MIB),
    # too large, announced or in chunks, on every command
    row(413, "too-large", "PUT", "/customers/{nobody}", **body(b" " * (64 * 1024 + 1))),
    row(413, "too-large", "PUT", "/customers/{nobody}", lambda _: body(chunks(MIB))),
    row(413, "too-large", "PUT", "/customers/not-an-id", content=b" " * MIB, headers={"content-type": "text/plain"}),
    row(413, "too-large", "POST", "/orders/{placed}/pay", content=b" " * (64 * 1024 + 1)),
    row(413, "too-large", "POST", "/orders/{placed}/ship", lambda _: {"content": chunks(MIB)}),
    row(413, "too-large", "POST", "/orders/{nobody}/cancel", content=b" " * MIB),
    # media type
    row(415, "unsupported-media-type", "PUT", "/customers/{nobody}", content=b'{"name":"x"}'),
    row(415, "unsupported-media-type", "PUT", "/customers/{nobody}", data={"name": "x"}),
    row(415, "unsupported-media-type", "PUT", "/orders/{nobody}", content=b"{", headers={"content-type": "text/json"}),
    row(415, "unsupported-media-type", "PUT", "/customers/not-an-id", content=b"{", headers={"content-type": "a/b"}),
    row(
        415,
        "unsupported-media-type",
        "PUT",
        "/customers/{nobody}",
        content=b'{"name":"x"}',
        headers={"content-type": "application/json; charset=latin-1"},
    ),
    # malformed
    *(
        row(400, "malformed", "PUT", "/customers/{nobody}", **body(text))
        for text in (
            b"",
            b"{",
            b'{"name":"x",}',
            b'{"name":"x"} y',
            b'{"name":NaN}',
            b'{"name":-Infinity}',
            b'{"name":"\xff"}',
            b'{"name":"\xed\xa0\x80"}',
            b'\xef\xbb\xbf{"name":"x"}',
            b'{"name":"a\nb"}',
            b'{"name":"a\x00b"}',
            b"{'name':'x'}",
            b'{"name":01}',
            b"[" * 30_000 + b"]" * 30_000,
            b"[" * 60_000,
            b'{"name":' + b"[" * 500 + b"]" * 500 + b"}",
            b'{"other":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"}",
            b'{"name":' + b"9" * 5_000 + b"}",
            b'{"name":-' + b"9" * 60_000 + b"}",
            b'{"wrong":1,"name":nope}',
            b'{"name":"\\x"}',
        )
    ),
    row(400, "malformed", "PUT", "/customers/not-an-id", **body(b"{")),
    row(400, "malformed", "POST", "/customers/{nobody}/rename", **body(b"{", **{"Expected-Version": "x"})),
    # invalid: bodies
    *(
        row(422, "invalid", "PUT", "/customers/{nobody}", **body(text))
        for text in (
            b"null",
            b"[]",
            b'"name"',
            b"{}",
            b'{"name":null}',
            b'{"name":1}',
            b'{"name":true}',
            b'{"name":["x"]}',
            b'{"name":""}',
            b'{"name":" \\t\\n"}',
            '{"name":"\u2003\u3000"}'.encode(),
            b'{"name":"' + b"x" * 201 + b'"}',
            b'{"name":"a\\u0000b"}',
            b'{"name":"\\ud800"}',
            b'{"name":"\\udc00x"}',
            b'{"name":"x","age":1}',
            b'{"name":"x","\\ud800":1}',
            b'{"name":"x","n":' + b"[" * 20 + b"]" * 20 + b"}",
            b'{"Name":"x"}',
        )
    ),
    *(
        row(422, "invalid", "PUT", "/products/{nobody}", json={"name": "x", "price_cents": 1, "stock": 1} | wrong)
        for wrong in (
            {"price_cents": -1},
            {"price_cents": 100_000_001},
            {"price_cents": "1"},
            {"price_cents": True},
            {"price_cents": 1.5},
            {"price_cents": None},
            {"stock": -1},
            {"stock": 1_000_000_001},
            {"stock": 2**31},
            {"stock": False},
            {"stock": [1]},
            {"sold": 1},
        )
    ),
    *(row(422, "invalid", "POST", "/products/{product}/reprice", json=wrong) for wrong in ({}, {"price_cents": -1})),
    *(
        row(422, "invalid", "PUT", "/products/{product}/deliveries/{nobody}", json={"quantity": wrong})
        for wrong in (0, -1, 1_000_000_001, "1", True)
    ),
    *(
        row(422, "invalid", "PUT", "/orders/{nobody}", lambda t, q=wrong: {"json": order_of(t, "product", quantity=q)})
        for wrong in (0, 1001, -1, "1", True, None, 2**31)
    ),
    row(422, "invalid", "PUT", "/orders/{nobody}", lambda t: {"json": order_of(t)}),
    row(422, "invalid", "PUT", "/orders/{nobody}", lambda t: {"json": order_of(t, *(fresh_id() for _ in range(51)))}),
    row(422, "invalid", "PUT", "/orders/{nobody}", lambda t: {"json": order_of(t, "product", "product")}),
    row(422, "invalid", "PUT", "/orders/{nobody}", lambda t: {"json": order_of(t, "product", t["product"].upper())}),
    row(422, "invalid", "PUT", "/orders/{nobody}", lambda t: {"json": order_of(t, "product") | {"lines": {}}}),
    row(422, "invalid", "PUT", "/orders/{nobody}", lambda t: {"json": order_of(t, "product") | {"lines": [1]}}),
    row(422, "invalid", "PUT", "/orders/{nobody}", lambda t: {"json": order_of(t, "no-id")}),
    row(422, "invalid", "PUT", "/orders/{nobody}", lambda t: {"json": order_of(t, "product", customer="x")}),
    row(422, "invalid", "PUT", "/orders/{nobody}", lambda t: {"json": {"customer_id": t["customer"]}}),
    # invalid: ids in the path
    *(
        row(422, "invalid", "GET", f"/orders/{wrong}")
        for wrong in ("1", ID[:-1], ID + "0", ID.replace("-", ""), f"%7B{ID}%7D", "%FF", "%00", ID[:-1] + "%D9%A3")
    ),
    row(422, "invalid", "GET", "/orders/{placed}%0A"),
    row(422, "invalid", "GET", "/orders/urn:uuid:{placed}"),
    row(422, "invalid", "POST", "/orders/x/pay"),
    row(422, "invalid", "PUT", "/products/{nobody}/deliveries/x", json={"quantity": 1}),
    row(422, "invalid", "PUT", "/products/x/deliveries/{nobody}", json={"quantity": 1}),
    # invalid: query parameters
    *(
        row(422, "invalid", "GET", path + wrong)
        for path in ("/customers/{customer}/orders?limit=", "/reports/top-products?limit=", "/search/orders?q=a&limit=")
        for wrong in ("", "0", "101", "-1", "+1", "1.0", "x", "%201", "1%00", "5&limit=5", "%D9%A3", "%FF", "9" * 5000)
    ),
    *(row(422, "invalid", "GET", f"/reports/daily-sales?days={wrong}") for wrong in ("", "0", "367", "x", "1&days=1")),
    *(
        row(422, "invalid", "GET", "/customers/{customer}/orders?after=" + wrong)
        for wrong in ("", "x", "%FF", "A" * 84, "A" * 83 + "%C3%A4", "A" * 10_000, "x&after=x")
    ),
    *(
        row(422, "invalid", "GET", "/search/orders" + wrong)
        for wrong in (
            "",
            "?q=",
            "?q=%20",
            "?q=-",
            "?q=a&q=b",
            "?q=a%00b",
            "?q=%FF",
            "?q=%ED%A0%80",
            "?q=" + "x" * 201,
            "?q=" + "+".join("abcdefghijk"),
            "?q=" + "+".join("aaaaaaaaaaa"),
        )
    ),
    # invalid: headers
    *(
        row(422, "invalid", "POST", path, headers={"Expected-Version": wrong}, **given)
        for path, given in (
            ("/orders/{placed}/pay", {}),
            ("/orders/{placed}/ship", {}),
            ("/orders/{placed}/cancel", {}),
            ("/customers/{customer}/rename", {"json": {"name": "x"}}),
            ("/products/{product}/reprice", {"json": {"price_cents": 1}}),
        )
        for wrong in ("", "x", "-1", "+1", "1.0", '"1"', "1, 1", b"\xb2")
    ),
    row(422, "invalid", "POST", "/orders/{placed}/pay", headers=[("Expected-Version", "1"), ("Expected-Version", "1")]),
    *(
        row(422, "invalid", "GET", "/orders/{placed}", headers={"Consistency-Token": wrong})
        for wrong in ("", "x", "1", "1-", "1-1-1", "-1-1", "1-x", b"\xb2-1", "1-1, 1-1")
    ),
    # no such thing in the path
    *(
        row(404, "not-found", "GET", path)
        for path in (
            "/orders/{nobody}",
            "/orders/{customer}",
            "/orders/{nobody}/history",
            "/customers/{nobody}",
            "/customers/{nobody}/orders",
            "/customers/{product}",
            "/products/{nobody}",
        )
    ),
    *(row(404, "not-found", "POST", f"/orders/{{nobody}}/{what}") for what in ("pay", "ship", "cancel")),
    row(404, "not-found", "POST", "/orders/{nobody}/pay", headers={"Expected-Version": "7"}),
    row(404, "not-found", "POST", "/customers/{nobody}/rename", json={"name": "x"}, headers={"Expected-Version": "7"}),
    row(404, "not-found", "POST", "/products/{nobody}/reprice", json={"price_cents": 1}),
    row(404, "not-found", "PUT", "/products/{nobody}/deliveries/{nobody}", json={"quantity": 1}),
    # id taken by other content
    row(409, "id-reused", "PUT", "/customers/{customer}", json={"name": "Other"}),
    row(409, "id-reused", "PUT", "/products/{product}", json={"name": "Pot", "price_cents": 100, "stock": 11}),
    row(409, "id-reused", "PUT", "/products/{product}/deliveries/{delivery}", json={"quantity": 4}),
    row(409, "id-reused", "PUT", "/orders/{placed}", lambda t: {"json": order_of(t, "product", quantity=2)}),
    row(409, "id-reused", "PUT", "/orders/{cancelled}", lambda t: {"json": order_of(t, fresh_id(), customer=ID)}),
    # unknown references in the body
    row(
        422,
        "unknown-reference",
        "PUT",
        "/orders/{nobody}",
        lambda t: {"json": order_of(t, "product", customer="nobody")},
    ),
    row(422, "unknown-reference", "PUT", "/orders/{nobody}", lambda t: {"json": order_of(t, "sold_out", fresh_id())}),
    # another version
    row(412, "version-mismatch", "POST", "/orders/{placed}/pay", headers={"Expected-Version": "2"}),
    row(412, "version-mismatch", "POST", "/orders/{placed}/ship", headers={"Expected-Version": "0"}),
    row(412, "version-mismatch", "POST", "/orders/{shipped}/cancel", headers={"Expected-Version": "9" * 30}),
    row(412, "version-mismatch", "POST", "/orders/{paid}/cancel", headers={"Expected-Version": str(2**31)}),
    row(
        412,
        "version-mismatch",
        "POST",
        "/customers/{customer}/rename",
        json={"name": "Eve"},
        headers={"Expected-Version": "2"},
    ),
    row(
        412,
        "version-mismatch",
        "POST",
        "/products/{product}/reprice",
        json={"price_cents": 7},
        headers={"Expected-Version": str(2**63)},
    ),
    # the state, the stock
    row(409, "wrong-state", "POST", "/orders/{placed}/ship"),
    row(409, "wrong-state", "POST", "/orders/{placed}/ship", headers={"Expected-Version": "1"}),
    row(409, "wrong-state", "POST", "/orders/{shipped}/cancel"),
    row(409, "wrong-state", "POST", "/orders/{cancelled}/pay"),
    row(409, "wrong-state", "POST", "/orders/{cancelled}/ship"),
    row(409, "insufficient-stock", "PUT", "/orders/{nobody}", lambda t: {"json": order_of(t, "product", "sold_out")}),
]


@pytest.mark.parametrize(("status", "code", "method", "path", "send"), REFUSALS)
def test_each_refusal_has_its_status_its_code_and_no_trace(
    client: httpx.Client, things: Things, status: int, code: str, method: str, path: str, send: Send
) -> None:
    for name, id in things.items():
        path = path.replace(f"{{{name}}}", id)
    answer = client.request(method, path, **send(things))
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"urn:crossover:{code}"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert list(problem)[:4] == ["type", "title", "status", "detail"] and problem["status"] == status
    members = set(problem) - {"type", "title", "status", "detail"}
    assert members == {"invalid": {"errors"}, "insufficient-stock": {"product_id"}}.get(code, set())
    if code == "invalid":
        assert 1 <= len(problem["errors"]) <= 10
        assert all(error.keys() == {"field", "reason"} for error in problem["errors"])
    if code == "insufficient-stock":
        assert problem["product_id"] == things["sold_out"]
    assert ("allow" in answer.headers) == (status == 405)
    assert "consistency-token" not in answer.headers and "location" not in answer.headers


def test_refusals_left_everything_as_it_was(client: httpx.Client, things: Things) -> None:
    settle(client)
    assert client.get(f"/customers/{things['customer']}").json()["version"] == 1
    product = client.get(f"/products/{things['product']}").json()
    assert (product["version"], product["stock"], product["sold"]) == (2, 10, 3)
    assert [client.get(f"/orders/{things[name]}").json()["version"] for name in ("placed", "paid", "shipped")] == [
        1,
        2,
        3,
    ]


def test_the_errors_name_known_fields_and_repeat_nothing_hostile(client: httpx.Client, things: Things) -> None:
    def errors(path: str, body: object) -> list[tuple[str, str]]:
        answer = client.put(path, json=body)
        assert "<script>" not in answer.text
        return [(error["field"], error["reason"]) for error in answer.json()["errors"]]

    lines = [{"product_id": things["product"], "quantity": 0}, {"product_id": "<script>", "quantity": 1, "<script>": 1}]
    found = errors("/orders/<script>", {"customer_id": "<script>", "lines": lines, "<script>": 1})
    fields = ["", "customer_id", "id", "lines[0].quantity", "lines[1]", "lines[1].product_id"]
    assert sorted(field for field, _ in found) == fields
    assert errors(f"/customers/{ID}", {}) == [("name", "is missing")]
    many = {"customer_id": things["customer"], "lines": [{}] * 50}
    assert len(errors(f"/orders/{ID}", many)) == 10


def test_a_405_names_the_methods(client: httpx.Client, things: Things) -> None:
    def allowed(path: str) -> set[str]:
        return set(client.delete(path).headers["allow"].replace(" ", "").split(","))

    assert allowed(f"/orders/{things['placed']}") == {"GET", "HEAD", "PUT"}
    assert allowed(f"/orders/{things['placed']}/pay") == {"POST"}
    assert allowed("/search/orders") == {"GET", "HEAD"}


def test_head_answers_as_get_without_the_body(client: httpx.Client, things: Things) -> None:
    for path in (f"/orders/{things['placed']}", f"/orders/{ID}", "/reports/top-products", "/health", "/openapi.json"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        same = ("content-length", "content-type", "consistency-token")
        assert [head.headers.get(name) for name in same] == [get.headers.get(name) for name in same]


def test_what_is_odd_and_allowed_is_accepted(client: httpx.Client, things: Things) -> None:
    upper = things["placed"].upper()
    assert client.get(f"/orders/{upper}").json()["id"] == things["placed"]
    assert client.get(f"/orders/{things['placed'].replace('-', '%2d')}").status_code == 200
    assert client.get(f"/orders/{things['placed']}?limit=&x=%FF&limit=0").status_code == 200
    assert client.get("/reports/top-products?%6Cimit=007&days=x&").status_code == 200
    assert client.get("/search/orders?q=" + "+".join("abcdefghij")).status_code == 200
    name = "\U0001f600 <b> \u202e x" + "y" * 190
    id = fresh_id()
    header = {"content-type": 'Application/JSON ; charset="UTF-8"', "Expected-Version": "none"}
    created = client.put(f"/customers/{id.upper()}", content=f' {{"name" : "{name}"}}\n'.encode(), headers=header)
    assert (created.status_code, created.headers["location"]) == (201, f"/customers/{id}")
    assert created.content == f'{{"id":"{id}","version":1}}'.encode()
    settle(client)
    assert f'"name":"{name}"'.encode() in client.get(f"/customers/{id}").content
    escaped = fresh_id()
    assert client.put(f"/customers/{escaped}", **body(b'{"name":"\\ud83d\\ude00"}')).status_code == 201
    body_ignored = {"content": b"{" * 64 * 1024, "headers": {"content-type": "text/plain"}}
    assert client.post(f"/orders/{things['paid']}/pay", **body_ignored).status_code == 200
    spaces = body(b'{"name":"x"}' + b" " * (64 * 1024 - 12))
    assert client.put(f"/customers/{fresh_id()}", **spaces).status_code == 201


@pytest.mark.parametrize(
    "number", ["5.0", str(2**63), str(2**64), "1e400", "1e18", "9" * 400, "-0", "0.1e1", "-1e-400"]
)
def test_numbers_left_open_are_never_a_5xx(client: httpx.Client, number: str) -> None:
    text = f'{{"name":"x","price_cents":{number},"stock":1,"stock":2}}'
    assert client.put(f"/products/{fresh_id()}", **body(text)).status_code in (201, 400, 422)


# What needs a system or a setting of its own: the HTTP layer alone, over a scripted system.


class Scripted(MemoryOrders):
    """Memory that reflects one position more with every question, or is not available at all."""

    def __init__(self, at: int = 0, lag_events: int = 0, available: bool = True) -> None:
        super().__init__(utc_now)
        self.at, self.lag_events, self.available = at, lag_events, available
        self.asked = 0

    async def execute(self, command: Command) -> CommandResult:
        if not self.available:
            raise Unavailable("The database cannot be reached.")
        return await super().execute(command)

    async def answer(self, query: Query) -> QueryResult:
        if not self.available:
            raise Unavailable("The read store cannot be reached.")
        self.at += 1
        return QueryResult((await super().answer(query)).body, ((0, self.at),))

    async def readiness(self) -> Readiness:
        self.asked += 1
        return Readiness(self.lag_events, 0.5, 1)


def refused(answer: httpx.Response) -> tuple[int, str, str | None]:
    return answer.status_code, answer.json()["type"], answer.headers.get("retry-after")


def test_a_query_waits_for_its_token_and_is_refused_as_behind_before_its_404() -> None:
    path = f"/orders/{ID}"
    with in_thread(make_app(Scripted())) as url, httpx.Client(base_url=url) as client:
        behind = client.get(path, headers={"Consistency-Token": "0-1000000", "Prefer": "wait=0"})
        assert refused(behind) == (503, "urn:crossover:behind", "1")
        reached = client.get("/reports/top-products", headers={"Consistency-Token": "0-8", "Prefer": "foo, wait=5"})
        assert reached.status_code == 200 and reached.headers["consistency-token"] == "0-8"
        assert refused(client.get(path, headers={"Consistency-Token": "0-9"})) == (404, "urn:crossover:not-found", None)


@pytest.mark.parametrize(
    ("prefer", "waits_s"),
    [
        (["wait=0"], 0),
        (["respond-async, WAIT = 2"], 2),
        (['wait="2"'], 2),
        (["wait=0", "wait=5"], 0),
        (["wait=x"], 1),
        (["wait=-3", "wait=2"], 2),
        (["wait=1.5"], 1),
        ([], 1),
        (["wait=" + "9" * 5000], 5),
    ],
)
def test_prefer_says_how_long_to_wait_and_what_is_unreadable_is_ignored(prefer: list[str], waits_s: int) -> None:
    from contract.http.request import Request

    headers = {b"prefer": [value.encode() for value in prefer]} if prefer else {}
    assert Request({}, b"", headers).wait_s() == waits_s


def test_a_store_that_cannot_be_asked_is_unavailable() -> None:
    with in_thread(make_app(Scripted(available=False))) as url, httpx.Client(base_url=url) as client:
        unavailable = (503, "urn:crossover:unavailable", "1")
        assert refused(client.put(f"/customers/{ID}", json={"name": "x"})) == unavailable
        assert refused(client.get(f"/customers/{ID}")) == unavailable
        assert refused(client.get(f"/customers/{ID}", headers={"Consistency-Token": "0-99"})) == unavailable


def test_ready_refuses_over_the_backlog_limit_and_metrics_still_tell() -> None:
    system = Scripted(lag_events=10)
    with in_thread(make_app(system, rung="x", backlog_limit=10)) as url, httpx.Client(base_url=url) as client:
        assert client.get("/ready").content == b'{"lag_events":10,"lag_seconds":0.5,"parked_events":1}'
        system.lag_events = 11
        assert refused(client.get("/ready")) == (503, "urn:crossover:unavailable", "1")
        metrics = client.get("/metrics").text
        assert "\nprojection_lag_events 11.0\n" in metrics and "\nprojection_parked_events 1.0\n" in metrics
        assert 'http_requests_total{operation="ready",rung="x",status="503"} 1.0' in metrics
        assert 'http_request_duration_seconds_count{operation="ready",rung="x"} 2.0' in metrics
        assert client.get("/health").status_code == 200


def test_over_the_backlog_limit_commands_are_refused_until_it_is_worked_off_and_queries_go_on() -> None:
    system = Scripted(lag_events=11)
    with in_thread(make_app(system, backlog_limit=10)) as url, httpx.Client(base_url=url) as client:
        shop, sent = f"/customers/{ID}", {"json": {"name": "x"}}
        wait_until(lambda: client.put(shop, **sent).status_code == 503)
        assert refused(client.put(shop, **sent)) == (503, "urn:crossover:unavailable", "1")
        asked = system.asked
        assert all(client.put(shop, **sent).status_code == 503 for _ in range(50))
        assert system.asked - asked < 25, "not each command asks how far behind the read side is"
        assert client.get("/reports/top-products").status_code == 200
        system.lag_events = 10
        wait_until(lambda: client.put(shop, **sent).status_code in (200, 201))


def test_a_configured_token_is_asked_for_before_all() -> None:
    with in_thread(make_app(Scripted(), token="sesame")) as url, httpx.Client(base_url=url) as client:
        for path in ("/health", "/nowhere", "/orders/x", "/metrics", "/docs"):
            for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sesame"}):
                answer = client.get(path, headers=sent)
                assert refused(answer) == (401, "urn:crossover:unauthorized", None)
                assert answer.headers["www-authenticate"] == "Bearer"
        bearer = {"Authorization": "bearer sesame"}
        assert client.get("/health", headers=bearer).status_code == 200
        assert client.get("/nowhere", headers=bearer).status_code == 404


def test_a_body_without_end_is_refused_after_64_kib_and_is_not_kept() -> None:
    with in_thread(make_app(Scripted())) as url:
        parts = UUID(ID), httpx.URL(url)
        with socket.create_connection((parts[1].host, parts[1].port), timeout=10) as connection:
            head = f"POST /orders/{parts[0]}/pay HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode() + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 5)  # and never a last chunk
            assert connection.recv(64).startswith(b"HTTP/1.1 413")
