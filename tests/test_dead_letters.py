"""Dead letters: a poisoned event blocks its own stream and nothing else; a replay after the repair heals it."""

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from contract.messages import Event, OrderPlaced
from contract.position import Position
from cqrs_impl.batch import Apply, apply
from cqrs_impl.dead_letters import TRIES_MAX
from cqrs_impl.documents.clients.lean import SharedConnection
from cqrs_impl.documents.redis import Keys, RedisDocuments
from cqrs_impl.ports import Documents
from crossover.errors import Fallen
from crossover.parked import replay_parked, show_parked
from ladder.environment import NAMESPACE, Environment
from ladder.rung import rung
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import namespace_of
from tests.conftest import one_short
from tests.service import PATIENCE_S, Shop, settle, wait_until
from tests.story import CUSTOMER, FIRST, POT, SECOND, STORY, TEA, ListFeed, contents, followed, place
from tests.test_bad_servers import database as own_database
from tests.test_cli import outcome_of, refused

STORIES = min(2 * int(os.environ.get("CASES", "10")), 60)
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
    async def story(feed: ListFeed, batch_max: int, heal: str = "") -> tuple[dict[str, int], dict[str, object]]:
        client, name = SharedConnection(redis_url, timeout_s=PATIENCE_S), namespace()
        projector = await followed(RedisDocuments(client, Keys(name)), feed, batch_max=batch_max)
        if heal:
            feed.poison = set()
            async with asyncio.timeout(PATIENCE_S):
                await (projector.replay() if heal == "replay" else projector.rebuild(lambda done, total: None))
        blocked = {one.stream: one.version for one in await projector.blocked_streams()}
        await client.close()
        return blocked, contents(redis_url, name)

    _, whole = asyncio.run(story(ListFeed(STORY), 500))

    @settings(max_examples=STORIES, deadline=None, suppress_health_check=list(HealthCheck))
    @example(7, [STORY[7], *STORY[1:4], STORY[0], *STORY[4:7], STORY[8]], 4)  # the rename comes, and fails, first
    @given(st.integers(0, len(STORY) - 1), st.permutations(STORY), st.integers(1, 12))
    def exact(poisoned: int, order: list[Event], batch_max: int) -> None:
        poison = {order.index(STORY[poisoned])}
        blocked, rest = asyncio.run(story(ListFeed(order, poison), batch_max))
        assert blocked == WHAT_WAITS[poisoned]
        applied = [event for event in STORY if event.version < blocked.get(event.stream, 99)]
        assert rest == asyncio.run(story(ListFeed(applied), batch_max))[1], "each event is wholly in or wholly out"
        for heal in ("replay", "rebuild"):
            assert asyncio.run(story(ListFeed(order, poison), batch_max, heal)) == ({}, whole)

    exact()


def test_a_bug_is_tried_five_times_and_leaves_no_half_of_its_event(
    redis_url: str, namespace: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0

    async def fails(event: Event, documents: Documents) -> None:
        """After all that an order changes was staged."""
        nonlocal tries
        await apply(event, documents)
        if isinstance(event, OrderPlaced):
            tries += 1
            raise ZeroDivisionError("a bug")

    async def follow(name: str, story: Iterable[Event], apply: Apply) -> Any:
        client = SharedConnection(redis_url, timeout_s=PATIENCE_S)
        projector = await followed(RedisDocuments(client, Keys(name)), ListFeed(story), apply=apply)
        blocked = await projector.blocked_streams()
        await client.close()
        return blocked

    straight, buggy = namespace(), namespace()
    asyncio.run(follow(straight, STORY[:3], apply))
    (blocked,) = asyncio.run(follow(buggy, STORY[:4], fails))
    assert (blocked.stream, blocked.version, blocked.events, blocked.reason) == (f"order-{FIRST}", 1, 1, "a bug")
    assert tries == TRIES_MAX
    assert "a bug" in caplog.text
    assert contents(redis_url, buggy) == contents(redis_url, straight)


def test_the_low_water_mark_stays_below_what_waits_and_never_goes_back(
    redis_url: str, namespace: Callable[[], str]
) -> None:
    async def marks(name: str) -> list[Position]:
        client, feed = SharedConnection(redis_url, timeout_s=PATIENCE_S), ListFeed(STORY, {4, 6})
        documents = RedisDocuments(client, Keys(name))
        seen = []
        projector = await followed(documents, feed, batch_max=1)
        seen.append((await documents.open()).checkpoint.low_water)
        feed.poison = {6}
        await projector.replay()
        seen.append((await documents.open()).checkpoint.low_water)
        feed.poison = set()
        await projector.replay()
        seen.append((await documents.open()).checkpoint.low_water)
        await client.close()
        return seen

    assert asyncio.run(marks(namespace())) == [place(4), place(6), place(9)]


@pytest.mark.parametrize("rung", one_short(["cqrs", "broker", "search"]))
def test_over_http_poison_is_seen_others_go_on_and_replay_heals_it(rung: str, fresh_target: Callable[..., Any]) -> None:
    target = fresh_target(rung)
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
    with httpx.Client(base_url=target.url, timeout=60) as client:
        shop = Shop(client)
        ann, mallory, tea = shop.customer("Ann"), shop.customer("Mallory"), shop.product(9)
        first, theirs = shop.order(ann, tea), shop.order(mallory, tea, then=("pay",))
        settle(client)
        wait_until(lambda: client.get("/ready").json()["parked_events"] == 3)
        assert "\nprojection_parked_events 3.0\n" in client.get("/metrics").text
        assert client.get(f"/orders/{first}").status_code == 200
        assert client.get(f"/orders/{theirs}").status_code == 404
        counted = client.get(f"/products/{tea}").json()["sold"]
        assert counted == 1 or (rung == "broker" and counted == 2), (
            "another part may count what waits in its customer's"
        )
        renamed = client.post(f"/customers/{ann}/rename", json={"name": "Anna"})
        wait_until(lambda: client.get(f"/orders/{first}").json()["customer"]["name"] == "Anna")
        seen = {"Consistency-Token": renamed.headers["consistency-token"], "Prefer": "wait=0"}
        behind = client.get("/reports/top-products", headers=seen)
        assert behind.status_code == 503 and behind.json()["type"] == "urn:crossover:behind", "what waits is not shown"

        with pytest.raises(Fallen, match="stays parked"):
            replay_parked(console, rung, target.env)
        show_parked(console, rung, target.env)
        text = console.export_text()
        assert re.search(rf"customer-{mallory}\W+1\W+1\W+its body is no event", text), text
        assert re.search(rf"order-{theirs}\W+1\W+2\W+it waits for customer-{mallory}", text), text
        run("DROP TRIGGER spoil ON outbox; UPDATE outbox SET body = substr(body, 2) WHERE body LIKE '{{%'")
        replay_parked(console, rung, target.env)
        wait_until(lambda: client.get("/ready").json()["parked_events"] == 0)
        seen["Prefer"] = "wait=5"
        assert client.get(f"/orders/{theirs}", headers=seen).json()["status"] == "paid"
        assert client.get("/reports/top-products", headers=seen).status_code == 200
        shop.order(ann, tea)
        settle(client)
        assert [one["id"] for one in client.get("/search/orders?q=mallory").json()["orders"]] == [theirs]
        assert client.get(f"/products/{tea}").json()["sold"] == 3, "the projector goes on from what the replay wrote"


def test_a_rebuild_tells_what_it_could_not_apply_and_a_later_store_is_refused(
    postgres_url: str, redis_url: str
) -> None:
    name, ann = namespace_of("event_sourced"), str(UUID(int=1))
    told = "CustomerRated is a type that this version does not know"
    with own_database(postgres_url) as url:
        own = {POSTGRES.variable: url, REDIS.variable: redis_url}
        rung("event_sourced").prepare(Environment(own | {NAMESPACE: name}))

        def run(sql: str, *values: object) -> None:
            with psycopg.connect(url, options=f"-c search_path={name}") as connection:
                connection.execute(sql.encode(), values)

        for number, kind in enumerate(("CustomerRegistered", "CustomerRated", "CustomerRenamed"), 1):
            body = {"schema": 2 if number == 1 else 1, "type": kind, "id": ann, "version": number, "name": "Ann"}
            stream = f"customer-{ann}"
            run("INSERT INTO outbox (stream, version, body) VALUES (%s, %s, %s)", stream, number, json.dumps(body))
        code, said = outcome_of("rebuild", "event_sourced", **own)
        assert code == 0 and [line for line in said.splitlines() if line and not line.startswith("rebuild: ")] == [
            "The views of event_sourced were rebuilt from 3 events.",
            "2 of them cannot be applied: `crossover parked event_sourced` shows why.",
        ]
        code, said = outcome_of("parked", "event_sourced", **own)
        shown = " ".join(re.sub(r"[│\n]", " ", said).split())
        assert code == 0 and f"customer-{ann} 2 2 its body is no event ({told})" in shown, said
        run("INSERT INTO event_types VALUES ('CustomerRated', 1)")
        assert refused("serve", "event_sourced", "--port", "0", **own).startswith(
            "The event store holds events of the type CustomerRated with schema 1, and this version does not know them:"
        )
        REDIS.drop(redis_url, name)
