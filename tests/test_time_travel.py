"""Time travel and audit: what was answered once is answered again, by version and by time, and what was commanded is
what was recorded."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import httpx
import msgspec
import psycopg
import pytest

from contract import messages as m
from contract.errors import Refusal
from contract.ports import utc_now
from contract.text import time_text
from cqrs_impl.event_store.commands import EventCommands
from cqrs_impl.event_store.past import EventOrders
from cqrs_impl.event_store.store import EVENT_STORE, STREAM_KEYS, EventStore
from ladder.connections import database
from ladder.environment import CLIENTS, LEVELS, NAMESPACE, Environment
from servers.postgres import POSTGRES
from tests.conftest import RUNGS
from tests.model import Model
from tests.service import fresh_id, settle
from tests.test_event_histories import chosen

RUNG = "event_sourced"
PASTS = int(os.environ.get("PASTS", "4"))  # random histories
NAMES = ("ANN", "BOB", "TEA", "POT", "ONE", "TWO", "DELIVERY")
SEEN = ("/customers/ANN", "/customers/BOB", "/products/TEA", "/products/POT", "/orders/ONE", "/orders/TWO")
TWO_LINES = [{"product_id": "TEA", "quantity": 2}, {"product_id": "POT", "quantity": 1}]
STORY: tuple[tuple[int, str, str, Any], ...] = (
    (201, "PUT", "/customers/ANN", {"name": "Ann"}),
    (201, "PUT", "/customers/BOB", {"name": "Bob"}),
    (201, "PUT", "/products/TEA", {"name": "Tea", "price_cents": 100, "stock": 4}),
    (201, "PUT", "/products/POT", {"name": "Pot", "price_cents": 2000, "stock": 2}),
    (201, "PUT", "/orders/ONE", {"customer_id": "ANN", "lines": TWO_LINES}),
    (200, "POST", "/products/TEA/reprice", {"price_cents": 150}),
    (200, "POST", "/customers/ANN/rename", {"name": "Ann Lee"}),
    (200, "POST", "/orders/ONE/pay", None),
    (409, "PUT", "/orders/TWO", {"customer_id": "ANN", "lines": [{"product_id": "TEA", "quantity": 3}]}),
    (201, "PUT", "/products/TEA/deliveries/DELIVERY", {"quantity": 5}),
    (201, "PUT", "/orders/TWO", {"customer_id": "ANN", "lines": [{"product_id": "TEA", "quantity": 3}]}),
    (200, "PUT", "/orders/TWO", {"customer_id": "ANN", "lines": [{"product_id": "TEA", "quantity": 3}]}),
    (200, "POST", "/orders/TWO/cancel", None),
    (200, "POST", "/customers/ANN/rename", {"name": "Bea"}),
    (200, "POST", "/orders/ONE/ship", None),
    (409, "POST", "/orders/ONE/cancel", None),
)


class Told:
    """The story told to a target, and after each command every answer."""

    def __init__(self, client: httpx.Client) -> None:
        self.client, self.ids = client, {name: fresh_id() for name in NAMES}
        self.answers: list[tuple[str, datetime, bytes | None]] = []  # path, when, the body
        self.versions: dict[tuple[str, int], bytes] = {}  # path and version: the body just after it took effect
        for status, method, path, body in STORY:
            answer = client.request(method, self.named(path), json=self.named(body))
            assert answer.status_code == status, answer.text
            settle(client)
            for seen in map(self.named, SEEN):
                found = client.get(seen)
                self.answers.append((seen, datetime.now(UTC), found.content if found.status_code == 200 else None))
                if found.status_code == 200:
                    self.versions.setdefault((seen, found.json()["version"]), found.content)

    def named(self, value: Any) -> Any:
        match value:
            case dict():
                return {name: self.named(one) for name, one in value.items()}
            case list():
                return list(map(self.named, value))
            case str():
                return re.sub("[A-Z]+", lambda found: self.ids.get(found[0], found[0]), value)
        return value


@pytest.fixture(scope="module", params=[LEVELS[0], *(pytest.param(one, marks=pytest.mark.long) for one in LEVELS[1:])])
def told(request: pytest.FixtureRequest, serve: Any) -> Iterator[Told]:
    with httpx.Client(base_url=serve(RUNG, clients=request.param).url, timeout=30) as client:
        yield Told(client)


def then(client: httpx.Client, path: str, as_of: object) -> bytes | None:
    answer = client.get(path, params={"as_of": str(as_of)})
    assert answer.status_code in (200, 404), answer.text
    return answer.content if answer.status_code == 200 else None


def test_as_of_a_time_is_what_was_answered_then(told: Told) -> None:
    assert len(told.answers) == len(STORY) * len(SEEN)
    for path, at, body in told.answers:
        assert then(told.client, path, time_text(at)) == body, (path, at)


def test_as_of_a_version_is_what_was_answered_when_it_took_effect(told: Told) -> None:
    """A later name, order or sale is not seen, though it left the version as it was."""
    assert len(told.versions) == 3 + 1 + 3 + 1 + 3 + 2
    for (path, version), body in told.versions.items():
        assert then(told.client, path, version) == body, (path, version)


def test_as_of_now_is_the_live_answer(told: Told) -> None:
    """Offsets are read, and a later time than any is now."""
    for path, _, body in told.answers[-len(SEEN) :]:
        for as_of in (datetime.now(UTC).isoformat().replace("+00:00", "-00:00"), "9999-12-31T23:59:59Z"):
            assert then(told.client, path, as_of) == body


def test_what_was_recorded_is_what_was_commanded(told: Told) -> None:
    one, ids = told.ids["ONE"], told.ids
    events = told.client.get(f"/orders/{one}/events").json()["events"]
    changes = told.client.get(f"/orders/{one}/history").json()["changes"]
    assert [(event["version"], event["at"]) for event in events] == [(one["version"], one["at"]) for one in changes]
    assert [event["type"] for event in events] == ["OrderPlaced", "OrderPaid", "OrderShipped"]
    lines = [(ids["TEA"], "Tea", 2, 100, 200), (ids["POT"], "Pot", 1, 2000, 2000)]
    fields = ("product_id", "product_name", "quantity", "unit_price_cents", "amount_cents")
    shown = [dict(zip(fields, line, strict=True)) for line in lines]
    assert events[0]["data"] == {"customer_id": ids["ANN"], "lines": shown, "total_cents": 2200}
    assert events[1]["data"] == events[2]["data"] == {}
    cancelled = told.client.get(f"/orders/{ids['TWO'].upper()}/events").json()["events"]
    assert [event["type"] for event in cancelled] == ["OrderPlaced", "OrderCancelled"]
    assert told.client.get(f"/orders/{fresh_id()}/events").status_code == 404


UNREADABLE = (
    "must be a version in plain digits, or a time as 2026-11-23T09:30:00.000000Z",
    "must be given once",
    "must not be empty",
    "must be UTF-8",
)


@pytest.mark.parametrize(
    ("status", "as_of"),
    [
        *((404, f"as_of={value}") for value in ("0", "00", "4", "99999999999999999999", "1999-01-01T00:00:00Z")),
        (404, "as_of=0001-01-01T00:00:00Z"),
        (200, "as_of=003"),
        (200, "as_of=9998-01-01T00:00:00.123456789Z"),
        *(
            (422, f"as_of{value}")
            for value in ("", "=", "=1&as_of=1", "=-1", "=1.0", "=now", "=%FF", "=1%00", "=%C2%B2")
        ),
        *((422, f"as_of=2026-{value}") for value in ("11-23", "11-23T09:30:00", "13-01T00:00:00Z", "02-30T00:00:00Z")),
        *((422, f"as_of=2026-11-23T{value}") for value in ("09:30:00+01:00", "23:59:60Z", "09:30Z", "09:30:00.Z")),
        (422, "as_of=0001-01-01T00:00:00%2B14:00"),  # before the first year
    ],
)
def test_a_moment_is_read_strictly(told: Told, status: int, as_of: str) -> None:
    answer = told.client.get(told.named("/orders/ONE") + "?" + as_of)
    assert answer.status_code == status, answer.text
    if status == 404:
        assert answer.json()["detail"] == "There was no such resource then."
    if status == 422:
        (error,) = answer.json()["errors"]
        assert error["field"] == "as_of" and error["reason"] in UNREADABLE


async def check_past(env: Environment, seed: int) -> int:
    """The model says after each command what is; when all is done, that is what was."""
    rng, model, tables, clock = Random(seed), Model(), database(env, keys=STREAM_KEYS), list[datetime]()
    commands = EventCommands(tables, EventStore(env.namespace), lambda: clock[-1])
    orders, then = EventOrders(tables, commands, None), dict[tuple[Any, int | datetime], Any]()
    things = [
        (ask(str(UUID(int=first + number))), says)
        for first, ask, says in (
            (10, m.GetCustomer, model.customer),
            (20, m.GetProduct, model.product),
            (30, m.GetOrder, model.order),
        )
        for number in range(3)
    ]
    for _ in range(120):
        command, _expected = chosen(rng, model)
        clock.append(utc_now())
        try:
            if (await orders.execute(command)).created and isinstance(command, m.PlaceOrder):
                model.orders[command.id].placed_at = time_text(clock[-1])
        except Refusal:
            pass
        now = {query: says(query.id) for query, says in things}
        for query, was in now.items():
            if was:
                then.setdefault((query, was["version"]), was)
        then |= {(query, utc_now()): now[query] for query in rng.sample(list(now), 3)}
    for (query, moment), was in then.items():
        body = (await orders.answer_as_of(m.AsOf(query, moment))).body
        assert (body and msgspec.json.decode(body)) == was, f"seed {seed}: {query} as of {moment}"
    await orders.close()
    return len(then)


@pytest.mark.parametrize("seed", range(PASTS))
def test_of_random_histories_each_moment_is_answered_as_the_model_said_then(
    seed: int, postgres_url: str, namespace: Callable[[], str]
) -> None:
    POSTGRES.create_schema(postgres_url, name := namespace(), EVENT_STORE)
    level = LEVELS[seed % len(LEVELS)]
    env = Environment({POSTGRES.variable: postgres_url, NAMESPACE: name, CLIENTS: level})
    assert asyncio.run(check_past(env, seed)) > 120 * 3


def test_a_token_holds_for_the_past_too(told: Told) -> None:
    renamed = told.client.post(told.named("/customers/BOB/rename"), json={"name": "Bob"})
    token = renamed.headers["consistency-token"]
    for path in ("/orders/ONE?as_of=1", "/products/TEA?as_of=1", "/customers/BOB?as_of=1", "/orders/ONE/events"):
        answer = told.client.get(told.named(path), headers={"Consistency-Token": token})
        assert (answer.status_code, answer.headers["consistency-token"]) == (200, token)
        stranger = {"Consistency-Token": "elsewhere.9-9", "Prefer": "wait=0"}
        assert told.client.get(told.named(path), headers=stranger).json()["type"] == "urn:crossover:behind"
    assert told.client.get(told.named("/customers/ANN/orders?as_of=")).status_code == 200, "unknown there, so ignored"


def test_where_the_service_s_clock_is_wrong_an_order_has_its_customer(fresh_target: Any) -> None:
    """The times of orders are of the service's clock, here of a year in which the database recorded nothing."""
    with httpx.Client(base_url=fresh_target(RUNG, "step:2001-01-01T00:00:00+00:00").url, timeout=30) as client:
        told = Told(client)
        path = told.named("/orders/ONE")
        for change in client.get(f"{path}/history").json()["changes"]:
            assert then(client, path, change["at"]) == told.versions[path, change["version"]]
            before = datetime.fromisoformat(change["at"]) - timedelta(microseconds=1)
            assert then(client, path, time_text(before)) == told.versions.get((path, change["version"] - 1))


def test_an_event_that_cannot_be_read_is_not_skipped(fresh_target: Any) -> None:
    target = fresh_target(RUNG)
    with httpx.Client(base_url=target.url, timeout=30) as client:
        told = Told(client)
        schema = f"-c search_path={target.env[NAMESPACE]}"
        with psycopg.connect(target.env[POSTGRES.variable], options=schema) as connection:
            praised = "UPDATE outbox SET body = replace(body, 'OrderPaid', 'OrderPraised') WHERE stream = %s"
            connection.execute(praised, [told.named("order-ONE")])
        for path in ("/orders/ONE?as_of=1", "/orders/ONE/events", "/customers/ANN?as_of=3"):
            answer = client.get(told.named(path)).json()
            assert (answer["status"], answer["detail"]) == (503, "What was recorded cannot be read right now.")
        assert client.get(told.named("/orders/TWO?as_of=1")).status_code == 200


@pytest.mark.parametrize("name", RUNGS)
def test_every_rung_names_what_it_has_and_answers_404_for_the_rest(name: str, serve: Any) -> None:
    has = {RUNG: ["time-travel", "audit"], "search": ["ranked-search"]}.get(name, [])
    with httpx.Client(base_url=serve(name).url, timeout=30) as client:
        about = f'{{"rung":"{name}","contract":"1.0.0","capabilities":{has},"docs":"/docs"}}'
        assert client.get("/").text == about.replace("'", '"').replace(", ", ",")
        customer = fresh_id()
        client.put(f"/customers/{customer}", json={"name": "Ann"})
        settle(client)
        assert client.get(f"/customers/{customer}").status_code == 200
        past = (f"/customers/{customer}?as_of=1", "/orders/no-id/events", "/products/no-id?as_of=")
        ranked = ("/search/orders?q=ann&mode=best", "/search/orders?mode=")
        for path in (*(() if "audit" in has else past), *(() if "ranked-search" in has else ranked)):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["type"]) == (404, "urn:crossover:not-found")
            assert (
                answer.json()["detail"] == "This service does not have that capability: GET / names those that it has."
            )
        assert client.post(f"/orders/{customer}/events").headers["allow"] == "GET, HEAD"
