"""A live rebuild: new views are built beside those that answer, and take their place in one step for everybody."""

import asyncio
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis

from contract.errors import StoreGone
from contract.position import covers, position_of
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.documents.redis import Keys
from cqrs_impl.feeds.outbox.feed import OutboxFeed
from crossover.errors import UserError
from crossover.targets import Target, target_env
from ladder.connections import REDIS_TIMEOUT_S, connect, redis_client
from ladder.environment import Environment
from servers.server import fresh_namespace
from servers.supervisor import Processes
from tests.rebuilds import DEADLINE_S, PAUSE_S, end_in_the_middle, fill
from tests.service import Shop, settle
from tests.story import contents
from tests.threads import meanwhile


def read(url: str, paths: list[str], done: threading.Event, wrong: list[str]) -> None:
    """Read with the last token, and note what fails and what goes back."""
    shown, token = dict[str, int](), ""
    with httpx.Client(base_url=url, timeout=60) as client:
        while not done.wait(PAUSE_S):
            for path in paths:
                answer = client.get(path, headers={"Consistency-Token": token} if token else {})
                if answer.status_code != 200:
                    wrong.append(f"{path}: {answer.text}")
                    continue
                body, new = answer.json(), answer.headers["Consistency-Token"]
                now = body["version"] if "version" in body else len(body["orders"])
                if now < shown.get(path, 0) or (token and not covers(position_of(new), position_of(token))):
                    wrong.append(f"{path} went back from {shown.get(path)} to {now}")
                shown[path], token = now, new


@pytest.mark.parametrize(
    ("rung", "ended", "at"),
    [
        pytest.param("cqrs", signal.SIGKILL, "switched", marks=pytest.mark.long),
        ("event_sourced", signal.SIGKILL, "built"),
        pytest.param("cqrs", signal.SIGTERM, "built", marks=pytest.mark.long),
    ],
)
def test_readers_notice_nothing_of_one_that_is_ended_at_any_point_and_gone_on_with_under_commands(
    rung: str, ended: signal.Signals, at: str, fresh_target: Callable[..., Target], processes: Processes
) -> None:
    target, wrong, done = fresh_target(rung), list[str](), threading.Event()
    name, url = target.env["CROSSOVER_NAMESPACE"], target.env["REDIS_URL"]

    def reached() -> bool:
        texts: list[Any] = store.mget(Keys(name).checkpoint, Keys(name).building)
        live, building = (Checkpoint.of(text or b"") for text in texts)
        return live.version == 2 if at == "switched" else building.counted > 0

    def alone() -> bool:
        """Whether there are no views but those that answer."""
        return not any(key.startswith(name) for key in contents(url, name))

    def commands() -> None:
        while not done.wait(PAUSE_S):
            shop.order(ann, tea, then=("pay",))
            client.post(f"/customers/{bea}/rename", json={"name": str(uuid4())}).raise_for_status()

    with httpx.Client(base_url=target.url, timeout=60) as client, redis.Redis.from_url(url) as store:
        shop = Shop(client)
        ann, bea, tea = shop.customer("Ann"), shop.customer("Bea"), shop.product(name="Tea", stock=100_000)
        fill(target, 2_000)
        paths = [f"/orders/{shop.order(bea, tea)}", f"/customers/{bea}", f"/customers/{ann}", f"/products/{tea}"]
        paths.append("/search/orders?q=tea")
        settle(client)
        assert client.get("/ready").json()["parked_events"] == 0
        reader = partial(read, target.url, paths, done, wrong)
        with meanwhile(reader, reader, commands, end=done.set):
            end_in_the_middle(target, processes, reached, ended)
            built: Any = store.get(Keys(name).building)
            if at == "built" and built is not None:
                shown, steps = Checkpoint.of(built).counted, list[int]()
                target.rebuild(lambda phase, done, total: steps.append(done), live=True)
                assert steps[0] > shown, "it goes on where the other ended"
            else:
                target.rebuild(live=True)
            assert alone()
        settle(client, DEADLINE_S)
        live = contents(url, name)
        target.rebuild()
        assert contents(url, name) == live and not wrong


def test_a_rebuild_waits_for_a_read_store_that_is_slow_and_a_request_does_not(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ladder.connections.REDIS_TIMEOUT_S", REDIS_TIMEOUT_S)

    async def asked(*, in_bulk: bool) -> list[Any]:
        client = redis_client(Environment({"REDIS_URL": redis_url}, in_bulk))
        try:
            await client.ask(("CLIENT", "PAUSE", int(REDIS_TIMEOUT_S * 2_000)))
            return await client.ask(("ECHO", "here"))
        finally:
            await client.close()

    assert asyncio.run(asked(in_bulk=True)) == [b"here"]
    with pytest.raises(StoreGone):
        asyncio.run(asked(in_bulk=False))


def test_who_cannot_be_rebuilt_live_is_told_so_in_one_sentence(
    fresh_target: Callable[..., Target], postgres_url: str, processes: Processes
) -> None:
    def unserved(rung: str) -> Target:
        env = target_env(rung, {"postgres": postgres_url}, namespace=fresh_namespace("test"))
        return Target(rung, rung, env, processes)

    target = fresh_target("cqrs")
    with httpx.Client(base_url=target.url, timeout=60) as client:
        Shop(client).customer()
        settle(client)

    async def while_another_builds() -> None:
        env = Environment(target.env)
        feed = OutboxFeed(connect(env), env.namespace)
        await feed.reserve()
        with pytest.raises(UserError, match=r"^These views are being rebuilt live already: let that end first\.$"):
            await asyncio.to_thread(target.rebuild, live=True)
        await feed.close()

    asyncio.run(while_another_builds())
    target.stop()
    for one, said in (
        (target, "No projector is running here: start the service, or leave out --live."),
        (unserved("views"), "The commands of views write its views themselves: leave out --live."),
        (unserved("crud"), "crud derives no views from its write model, so there is nothing to rebuild."),
    ):
        with pytest.raises(UserError) as refused:
            one.rebuild(live=True)
        assert str(refused.value) == said
