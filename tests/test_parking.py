"""Poison parks its own stream and nothing else: what is shown stays consistent, and a replay heals it."""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from contract.messages import Event
from contract.position import Position
from cqrs_impl.ports import Batch, Parked, RecordedEvent, Unreadable
from cqrs_impl.projector import Projector
from cqrs_impl.read.keys import Keys
from cqrs_impl.read.parking import TRIES_MAX, name
from cqrs_impl.read.redis_views import RedisViews
from crossover.errors import Fallen
from crossover.parked import replay_parked, show_parked
from ladder.connections import redis_client
from ladder.environment import Environment
from tests.service import Shop, settle, wait_until
from tests.test_feed import CUSTOMER, FIRST, POT, SECOND, STORY, TEA, documents


class Rows:
    """A feed over a list, some of whose bodies are no events."""

    def __init__(self, events: Sequence[Event], poison: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.events, self.poison = list(events), poison

    def placed(self) -> list[RecordedEvent]:
        read = [Unreadable(e.stream, e.version, "poison") if n in self.poison else e for n, e in enumerate(self.events)]
        return [RecordedEvent(((1, n),), event) for n, event in enumerate(read, start=1)]

    async def count(self) -> int:
        return len(self.events)

    async def read(self, after: Position, limit: int) -> Batch:
        return Batch([one for one in self.placed() if one.position > after][:limit], more_soon=False)

    async def parked(self, parked: Parked, upto: Position) -> list[RecordedEvent]:
        mine = [one for one in self.placed() if name(one.event) == parked.stream and one.position <= upto]
        return sorted((one for one in mine if one.event.version >= parked.version), key=lambda one: one.event.version)


async def followed(views: RedisViews, rows: Rows) -> Projector:
    projector = Projector(rows, views)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while await views.position() < rows.placed()[-1].position:
            await projector.step()
    return projector


def shown(redis_url: str, namespace: str) -> dict[bytes, object]:
    return {key: value for key, value in documents(redis_url, namespace).items() if key != b":parked"}


WHAT_WAITS = {  # poison at this event of the story → the streams that wait, from which version on
    0: {f"customer-{CUSTOMER}": 1, f"order-{FIRST}": 1, f"order-{SECOND}": 1},
    1: {f"product-{TEA}": 1, f"order-{FIRST}": 1, f"order-{SECOND}": 1},
    2: {f"product-{POT}": 1, f"order-{FIRST}": 1},
    3: {f"order-{FIRST}": 1},
    4: {f"order-{FIRST}": 2},
    5: {f"order-{SECOND}": 1},
    6: {f"product-{TEA}": 2},
    7: {f"customer-{CUSTOMER}": 2},
    8: {f"order-{SECOND}": 2},
}


def test_whatever_is_poison_the_rest_is_exact_and_a_replay_makes_all_of_it_exact(
    redis_url: str, namespace: Callable[[], str]
) -> None:
    async def story(rows: Rows, heal: str = "") -> tuple[dict[str, int], dict[bytes, object]]:
        env, name = Environment({"REDIS_URL": redis_url}), namespace()
        views = RedisViews(redis_client(env), Keys(name))
        projector = await followed(views, rows)
        if heal:
            rows.poison = set()
            async with asyncio.timeout(10):
                await (projector.replay() if heal == "replay" else projector.rebuild(lambda done, total: None))
        parked = {one.stream: one.version for one in await projector.parked()}
        await env.close()
        return parked, shown(redis_url, name)

    _, whole = asyncio.run(story(Rows(STORY)))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @example(7, [STORY[7], *STORY[1:4], STORY[0], *STORY[4:7], STORY[8]], 4)  # the rename comes, and fails, first
    @given(st.integers(0, len(STORY) - 1), st.permutations(STORY), st.integers(1, 12))
    def exact(poisoned: int, order: list[Event], batch: int) -> None:
        poison = {order.index(STORY[poisoned])}
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("cqrs_impl.projector.BATCH_MAX", batch)
            parked, rest = asyncio.run(story(Rows(order, poison)))
            assert parked == WHAT_WAITS[poisoned]
            applied = [e for e in STORY if e.version < parked.get(e.stream, 99)]
            assert rest == asyncio.run(story(Rows(applied)))[1], "each event is wholly in or wholly out"
            for heal in ("replay", "rebuild"):
                assert asyncio.run(story(Rows(order, poison), heal)) == ({}, whole)

    exact()


def test_a_bug_is_tried_five_times_and_leaves_no_half_of_its_event(
    redis_url: str, namespace: Callable[[], str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in the middle of an event: the order counts in every total, and is not yet in its customer's list."""
    straight, buggy = namespace(), namespace()
    rows, tries = Rows(STORY[:4]), 0

    async def follow(name: str, story: Rows) -> Any:
        env = Environment({"REDIS_URL": redis_url})
        projector = await followed(RedisViews(redis_client(env), Keys(name)), story)
        parked = await projector.parked()
        await env.close()
        return parked

    def fails(*_: object) -> bytes:
        nonlocal tries
        tries += 1
        raise ZeroDivisionError("a bug")

    asyncio.run(follow(straight, Rows(STORY[:3])))
    with monkeypatch.context() as patched:
        patched.setattr("cqrs_impl.read.redis_views._entry", fails)
        (parked,) = asyncio.run(follow(buggy, rows))
    assert (parked.stream, parked.version, parked.events, parked.reason) == (f"order-{FIRST}", 1, 1, "a bug")
    assert tries == TRIES_MAX
    assert "a bug" in caplog.text
    assert shown(redis_url, buggy) == shown(redis_url, straight)


def test_over_http_poison_is_seen_others_go_on_and_replay_heals_it(fresh_target: Callable[..., Any]) -> None:
    target = fresh_target("cqrs")
    schema = target.env["CROSSOVER_NAMESPACE"]

    def run(sql: str) -> Any:
        with psycopg.connect(target.env["DATABASE_URL"], options=f"-c search_path={schema}") as connection:
            return connection.execute(sql)

    run(
        """CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.body LIKE '%Mallory%' THEN NEW.body = '{' || NEW.body; END IF; RETURN NEW; END $$;
        CREATE TRIGGER spoil BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION spoil()"""
    )
    console = Console(record=True, width=150)
    with httpx.Client(base_url=target.url) as client:
        shop = Shop(client)
        ann, mallory, tea = shop.customer("Ann"), shop.customer("Mallory"), shop.product(9)
        first, theirs = shop.order(ann, tea), shop.order(mallory, tea, then=("pay",))
        settle(client)
        wait_until(lambda: client.get("/ready").json()["parked_events"] == 3)
        assert "\nprojection_parked_events 3.0\n" in client.get("/metrics").text
        assert client.get(f"/orders/{first}").status_code == 200
        assert client.get(f"/orders/{theirs}").status_code == 404
        assert client.get(f"/products/{tea}").json()["sold"] == 1
        renamed = client.post(f"/customers/{ann}/rename", json={"name": "Anna"})
        wait_until(lambda: client.get(f"/orders/{first}").json()["customer"]["name"] == "Anna")
        seen = {"Consistency-Token": renamed.headers["consistency-token"], "Prefer": "wait=0"}
        behind = client.get("/reports/top-products", headers=seen)
        assert behind.status_code == 503 and behind.json()["type"] == "urn:crossover:behind", "what waits is not shown"

        with pytest.raises(Fallen, match="stays parked"):
            replay_parked(console, "cqrs", target.env)
        show_parked(console, "cqrs", target.env)
        text = console.export_text()
        assert re.search(rf"customer-{mallory}\W+1\W+1\W+its body is no event", text), text
        assert re.search(rf"order-{theirs}\W+1\W+2\W+it waits for customer-{mallory}", text), text
        run("DROP TRIGGER spoil ON outbox; UPDATE outbox SET body = substr(body, 2) WHERE body LIKE '{{%'")
        replay_parked(console, "cqrs", target.env)
        assert client.get("/ready").json()["parked_events"] == 0
        assert client.get(f"/orders/{theirs}", headers=seen).json()["status"] == "paid"
        assert client.get("/reports/top-products", headers=seen).status_code == 200
        shop.order(ann, tea)
        settle(client)
        assert client.get(f"/products/{tea}").json()["sold"] == 3, "the projector goes on from what the replay wrote"
