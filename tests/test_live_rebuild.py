"""A live rebuild: new views are built beside those that answer, and take their place in one step for everybody."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from itertools import islice
from random import Random
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import redis

from contract.errors import StoreGone, WorkerError
from contract.messages import GetOrder, ListOrders, SearchOrders, TopProducts
from contract.position import BEGINNING, Position, covers, position_of
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.documents.redis import FOLD, HELD_MS, Keys, RedisDocuments
from cqrs_impl.documents.redis_client import Command
from cqrs_impl.documents.redis_reads import RedisReads
from cqrs_impl.event_store.events import encode
from cqrs_impl.feeds.outbox.feed import OutboxFeed
from cqrs_impl.projector import Projector
from cqrs_impl.queries import DocumentQueries
from crossover.errors import UserError
from crossover.targets import Target, ladder_command, process_env, target_env
from crud_impl.load import copy
from ladder.connections import REDIS_TIMEOUT_S, connect, redis_client
from ladder.environment import Environment
from ladder.run import NICE, SHARED_BY_SESSION
from servers.server import fresh_namespace
from servers.supervisor import Processes
from tests.documents import NoBacklog, OfRedis
from tests.service import Shop, settle, wait_until
from tests.story import CUSTOMER, FIRST, STORY, ListFeed, contents, events, followed

QUERIES = (GetOrder(FIRST), ListOrders(CUSTOMER, 9), TopProducts(9), SearchOrders(("tea",), 9))
DEADLINE_S = 300
GONE = "The new views are gone, as the read store was emptied while they were built: start again."
REFUSED = {  # what befalls it → the sentence, and how much of the story the views show then
    "poison": (f"The present views stay: the new ones cannot show order-{FIRST} from version 2 on (poison), which", 5),
    "emptied": (GONE, 0),
    "nothing there": ("There are no views that answer yet: wait until they are built, or leave out --live.", 0),
}


async def following(projector: Projector) -> None:
    """A batch, as soon as no version is about to take the place of the projector's."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(StoreGone):
                await projector.step()
                return


class TestNextVersion(OfRedis):
    """Promises of `NextVersion`, to readers and projectors that know nothing of it."""

    def after(self, work: Callable[[Keys, ListFeed], Coroutine[Any, Any, Any]], events: int = 5) -> dict[str, object]:
        """What the documents of the story hold after this work on them."""
        name = self.namespace()
        self.run(work(Keys(name), ListFeed(STORY[:events])))
        return contents(self.url, name)

    async def live(self, keys: Keys, feed: ListFeed) -> Projector:
        return await followed(RedisDocuments(self.client(), keys), feed)

    def test_it_answers_from_the_moment_at_which_it_shows_all_that_the_other_does(self) -> None:
        async def story(keys: Keys, feed: ListFeed) -> None:
            live, reads = await self.live(keys, feed), DocumentQueries(RedisReads(self.client(), keys, NoBacklog()))
            version = RedisDocuments(self.client(), keys).beside(feed)
            builder = Projector(feed, feed, version, batch_max=2)
            await version.begin()
            at = await live.position()
            for _ in range(2):
                assert {(await reads.answer(query)).position for query in QUERIES} == {at}
                assert not await version.switch(), "it covers less"
                await builder.step()
            feed.events += STORY[5:8]
            await following(live)
            before = [await reads.answer(query) for query in QUERIES]
            await builder.step()
            while not await version.switch():  # the other went on meanwhile
                await builder.step()
            assert [await reads.answer(query) for query in QUERIES] == before
            feed.events += STORY[8:]
            await following(live)
            await version.drop()
            assert b"cancelled" in ((await reads.answer(QUERIES[1])).body or b""), "the projector has followed it"

        assert self.after(story) == self.after(self.live, len(STORY))

    @pytest.mark.parametrize(("made_by", "shown"), [(FOLD, 4), (b"another fold", 0)])
    def test_one_that_was_interrupted_is_gone_on_with_by_the_program_that_began_it(
        self, made_by: bytes, shown: int
    ) -> None:
        async def story(keys: Keys, feed: ListFeed) -> None:
            await self.live(keys, feed)
            before = RedisDocuments(self.client(), keys).beside(feed)
            interrupted = Projector(feed, feed, before, batch_max=4)
            assert await before.begin() == 0
            await interrupted.step()
            with redis.Redis.from_url(self.url) as other:
                other.set(keys.made_by, made_by)
            version = RedisDocuments(self.client(), keys).beside(feed)
            assert await version.begin() == shown
            if shown:  # both would build the same documents
                assert await interrupted.position() == await Projector(feed, feed, version).position()
            else:
                with pytest.raises(WorkerError, match=f"^{GONE}$"):
                    await interrupted.step()
            await Projector(feed, feed, version, batch_max=9).step()
            assert await version.switch()
            await version.drop()

        assert self.after(story) == self.after(self.live)

    def test_a_projector_stands_still_until_the_version_that_is_behind_it_has_taken_its_place(self) -> None:
        async def story(keys: Keys, feed: ListFeed) -> None:
            live, version = await self.live(keys, feed), RedisDocuments(self.client(), keys).beside(feed)
            await version.begin()
            assert not await version.switch()
            with redis.Redis.from_url(self.url) as other:
                assert 0 < other.pttl(keys.held) <= HELD_MS
                other.persist(keys.held)  # this machine may be slower than that
            feed.events += STORY[5:]
            with pytest.raises(StoreGone):
                await live.step()
            await Projector(feed, feed, version, batch_max=5).step()
            assert await version.switch(), "the other would have gone on"
            await live.step()
            await version.drop()

        assert self.after(story) == self.after(self.live, len(STORY))

    def test_a_projector_that_writes_at_the_moment_of_the_switch_undoes_it(self) -> None:
        async def story(keys: Keys, feed: ListFeed) -> None:
            live, client = await self.live(keys, feed), self.client()
            version, write = RedisDocuments(client, keys).beside(feed), client.write
            await version.begin()
            await Projector(feed, feed, version).step()
            feed.events += STORY[5:]

            async def late(*commands: Command) -> bool:
                await live.step()
                return await write(*commands)

            client.write = late  # type: ignore[method-assign]
            assert not await version.switch()
            await version.drop()

        assert self.after(story) == self.after(self.live, len(STORY))

    def test_who_empties_the_store_ends_what_is_built_beside_it_before_deleting_it(self) -> None:
        async def story(keys: Keys, feed: ListFeed) -> None:
            live, client = await self.live(keys, feed), self.client()
            version, documents = RedisDocuments(self.client(), keys).beside(feed), RedisDocuments(client, keys)
            builder, watch = Projector(feed, feed, version, batch_max=2), client.watch
            await version.begin()
            await builder.step()

            async def late(key: str, *commands: Command) -> list[Any]:
                found = await watch(key, *commands)
                with pytest.raises(WorkerError):
                    await builder.step()
                return found

            client.watch = late  # type: ignore[method-assign]
            await documents.clear()
            assert await live.position() == Position(BEGINNING)
            with pytest.raises(WorkerError, match=f"^{GONE}$"):
                await version.switch()

        assert self.after(story) == {}

    @pytest.mark.parametrize("mishap", REFUSED)
    def test_what_cannot_take_the_place_of_the_other_leaves_nothing_behind(self, mishap: str) -> None:
        said, shown = REFUSED[mishap]

        async def story(keys: Keys, feed: ListFeed) -> None:
            if mishap != "nothing there":
                await self.live(keys, feed)
            feed.poison = {4} if mishap == "poison" else set()

            def progress(done: int, total: int) -> None:
                with redis.Redis.from_url(self.url) as other:
                    other.delete(*(other.keys(f"{keys.namespace}*") if mishap == "emptied" else ["none"]))

            with pytest.raises(WorkerError) as refused:
                await Projector(feed, feed, RedisDocuments(self.client(), keys)).rebuild_live(progress)
            assert str(refused.value).startswith(said)

        assert self.after(story) == (self.after(self.live, shown) if shown else {})


PAUSE_S = 0.05  # of who reads and writes, so that a small machine has time for who builds


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


def fill(target: Target, count: int) -> None:
    """Events in the outbox, of which nobody knows but the projector."""
    story = events(Random(3), 10, ("place", "place", "advance", "deliver"))
    options = f"-c search_path={target.env['CROSSOVER_NAMESPACE']}"
    with psycopg.connect(target.env["DATABASE_URL"], options=options) as connection:
        rows = ((one.stream, one.version, encode(one)) for one in islice(story, count))
        copy(connection, "outbox (stream, version, body)", rows)


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
    builder, keys = f"builder of {name}", Keys(name)

    def reached() -> bool:
        texts: list[Any] = store.mget(keys.checkpoint, keys.building)
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
        paths = [
            f"/orders/{shop.order(bea, tea)}",
            f"/customers/{bea}",
            f"/customers/{ann}",
            f"/products/{tea}",
            "/search/orders?q=tea",
        ]
        settle(client)
        assert client.get("/ready").json()["parked_events"] == 0
        working = [threading.Thread(target=read, args=(target.url, paths, done, wrong)) for _ in range(2)]
        working.append(threading.Thread(target=commands))
        for thread in working:
            thread.start()
        pid = processes.start(builder, ladder_command("rebuild", rung, "live"), env=process_env(target.env))
        wait_until(reached, DEADLINE_S)
        with contextlib.suppress(ProcessLookupError):  # it has ended already, if this thread had to wait for long
            assert os.getpriority(os.PRIO_PROCESS, pid) == NICE, "those who serve go first"
            if SHARED_BY_SESSION.exists() and SHARED_BY_SESSION.read_text() == "1\n":
                assert os.sched_getscheduler(pid) == os.SCHED_IDLE
            os.kill(pid, ended)
        wait_until(lambda: processes.poll() or builder in processes.ended, DEADLINE_S)
        built: Any = store.get(keys.building)
        if at == "built" and built is not None:
            shown, steps = Checkpoint.of(built).counted, list[int]()
            target.rebuild(lambda phase, done, total: steps.append(done), live=True)
            assert steps[0] > shown, "it goes on where the other ended"
        else:
            target.rebuild(live=True)
        assert alone()
        done.set()
        for thread in working:
            thread.join()
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
