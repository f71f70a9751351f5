"""A live rebuild: new views are built beside those that answer, and take their place in one step for everybody."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import httpx
import psycopg
import pytest
import redis

from contract.errors import WorkerError
from contract.messages import Event, GetOrder, ListOrders, Query, SearchOrders, TopProducts
from contract.position import covers, position_of
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.documents.redis import Keys, RedisDocuments
from cqrs_impl.documents.redis_client import Command
from cqrs_impl.documents.redis_reads import RedisReads
from cqrs_impl.feeds.outbox.feed import OutboxFeed
from cqrs_impl.feeds.outbox.recorder import copy_events
from cqrs_impl.projector import Projector
from cqrs_impl.queries import DocumentQueries
from crossover.errors import UserError
from crossover.parked import rebuild_views
from crossover.targets import Target, ladder_command, process_env, quiet
from ladder.connections import connect
from ladder.environment import Environment
from servers.supervisor import Processes
from tests.service import Shop, settle, wait_until
from tests.story import CUSTOMER, FIRST, STORY, ListFeed, contents, events, followed
from tests.test_documents import NoBacklog, OfRedis

QUERIES: tuple[Query, ...] = (GetOrder(FIRST), ListOrders(CUSTOMER, 9), TopProducts(9), SearchOrders(("tea",), 9))


class TestNextVersion(OfRedis):
    """Promises of `NextVersion`, to readers that know nothing of it."""

    def run(self, work: Callable[[Keys, ListFeed], Coroutine[Any, Any, None]]) -> None:
        self.keys, self.feed = Keys(self.namespace()), ListFeed(STORY[:5])

        async def done() -> None:
            try:
                await work(self.keys, self.feed)
            finally:
                await self.close()

        asyncio.run(done())

    def contents(self) -> dict[str, object]:
        return contents(self.url, self.keys.namespace[:-1])

    def alone(self, story: tuple[Event, ...]) -> dict[str, object]:
        """What the views hold that got the story in one piece."""
        name = self.namespace()
        asyncio.run(followed(RedisDocuments(self.client(), Keys(name)), ListFeed(story)))
        return contents(self.url, name)

    def test_it_answers_from_the_moment_at_which_it_shows_all_that_the_other_does(self) -> None:
        async def story(keys: Keys, feed: ListFeed) -> None:
            store = RedisDocuments(self.client(), keys)
            live, reads = await followed(store, feed), DocumentQueries(RedisReads(self.client(), keys, NoBacklog()))
            version = store.beside(feed)
            builder = Projector(feed, feed, version, batch_max=2)
            await version.begin()
            for _ in range(2):
                assert [(await reads.answer(query)).position for query in QUERIES] == [await live.position()] * 4
                assert not await version.switch(), "it covers less"
                await builder.step()
            feed.events += STORY[5:8]
            await live.step()
            before = [await reads.answer(query) for query in QUERIES]
            await builder.step()
            assert not await version.switch(), "the other went on meanwhile"
            while not await version.switch():
                await builder.step()
            assert [await reads.answer(query) for query in QUERIES] == before
            feed.events += STORY[8:]
            await live.step()
            await version.drop()
            assert b"cancelled" in ((await reads.answer(ListOrders(CUSTOMER, 9))).body or b"")

        self.run(story)
        assert self.contents() == self.alone(STORY)

    def test_a_projector_that_writes_at_the_moment_of_the_switch_undoes_it(self) -> None:
        async def story(keys: Keys, feed: ListFeed) -> None:
            live = await followed(RedisDocuments(self.client(), keys), feed)
            client = self.client()
            version = RedisDocuments(client, keys).beside(feed)
            await version.begin()
            await Projector(feed, feed, version).step()
            feed.events += STORY[5:]
            write = client.write

            async def late(*commands: Command) -> bool:
                await live.step()
                return await write(*commands)

            client.write = late  # type: ignore[method-assign]
            assert not await version.switch()
            await version.drop()

        self.run(story)
        assert self.contents() == self.alone(STORY)

    @pytest.mark.parametrize("mishap", ["poison", "emptied", "another", "nothing there"])
    def test_what_cannot_take_the_place_of_the_other_leaves_nothing_behind(self, mishap: str) -> None:
        said = {
            "poison": f"The present views stay: the new ones cannot show order-{FIRST} from version 2 on \\(poison\\)",
            "emptied": "The new views are gone, as the read store was emptied while they were built: start again.",
            "another": "The new views are gone",
            "nothing there": "There are no views that answer yet: wait until they are built, or leave out --live.",
        }

        async def story(keys: Keys, feed: ListFeed) -> None:
            if mishap != "nothing there":
                await followed(RedisDocuments(self.client(), keys), feed)
            feed.poison = {4} if mishap == "poison" else set()

            def progress(done: int, total: int) -> None:
                with redis.Redis.from_url(self.url) as other:
                    if mishap == "emptied":
                        other.delete(*other.keys(f"{keys.namespace}*"))
                    elif mishap == "another":
                        other.set(keys.building, Checkpoint.begin("", 9).text)

            builder = Projector(feed, feed, RedisDocuments(self.client(), keys))
            with pytest.raises(WorkerError, match=said[mishap]):
                await builder.rebuild_live(progress)
            with redis.Redis.from_url(self.url) as other:
                other.delete(*[keys.building] * (mishap == "another"), "none")

        self.run(story)
        assert self.contents() == ({} if mishap in ("emptied", "nothing there") else self.alone(STORY[:5]))


class Reader(threading.Thread):
    """Reads with the last token it got, and notes what failed and what went back."""

    def __init__(self, url: str, paths: list[str]) -> None:
        super().__init__()
        self.url, self.paths, self.stopped = url, paths, threading.Event()
        self.reads, self.wrong = 0, list[str]()

    def run(self) -> None:
        shown, token = dict[str, Any](), ""
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while not self.stopped.is_set():
                for path in self.paths:
                    answer = client.get(path, headers={"Consistency-Token": token} if token else {})
                    self.reads += 1
                    if answer.status_code != 200:
                        self.wrong.append(f"{path}: {answer.status_code} {answer.text}")
                        continue
                    body, new = answer.json(), answer.headers["Consistency-Token"]
                    now = body["version"] if "version" in body else sum(map(len, body.values()))
                    if now < shown.get(path, 0) or (token and not covers(position_of(new), position_of(token))):
                        self.wrong.append(f"{path} went back from {shown[path]} to {now}")
                    shown[path], token = now, new


def test_no_read_fails_or_goes_back_while_the_views_are_rebuilt_under_commands(
    fresh_target: Callable[..., Target],
) -> None:
    target = fresh_target("cqrs")
    name = target.env["CROSSOVER_NAMESPACE"]
    with httpx.Client(base_url=target.url) as client:
        shop = Shop(client)
        ann, tea = shop.customer("Ann"), shop.product(name="Tea", stock=100_000)
        fill(target, 4_000)
        orders = [shop.order(ann, tea) for _ in range(3)]
        settle(client)
        paths = [*(f"/orders/{order}" for order in orders), f"/customers/{ann}", f"/products/{tea}"]
        readers = [Reader(target.url, [*paths, "/search/orders?q=ann%20tea&limit=100"]) for _ in range(2)]
        rebuilding = threading.Thread(target=lambda: target.rebuild(live=True))
        for thread in (*readers, rebuilding):
            thread.start()
        number = 0
        while rebuilding.is_alive():
            number += 1
            shop.order(ann, tea, then=("pay",))
            client.post(f"/products/{tea}/reprice", json={"price_cents": number}).raise_for_status()
            client.post(f"/customers/{ann}/rename", json={"name": f"Ann {number}"}).raise_for_status()
        for reader in readers:
            reader.stopped.set()
            reader.join()
        assert [reader.wrong for reader in readers] == [[], []] and min(reader.reads for reader in readers) > 100
        settle(client)
        live = contents(target.env["REDIS_URL"], name)
        with redis.Redis.from_url(target.env["REDIS_URL"]) as store:
            assert Checkpoint.of(store.get(Keys(name).checkpoint)).version == 2  # type: ignore[arg-type]
        target.rebuild()
        assert contents(target.env["REDIS_URL"], name) == live


@pytest.mark.parametrize(
    ("ended", "at"), [(signal.SIGKILL, "built"), (signal.SIGKILL, "switched"), (signal.SIGTERM, "built")]
)
def test_one_that_is_ended_at_any_point_is_begun_anew_and_nothing_stays_of_it(
    ended: signal.Signals, at: str, fresh_target: Callable[..., Target], processes: Processes
) -> None:
    target = fresh_target("cqrs")
    name, url = target.env["CROSSOVER_NAMESPACE"], target.env["REDIS_URL"]
    keys, builder = Keys(name), f"builder of {name}"
    fill(target, 6_000)
    with httpx.Client(base_url=target.url) as client, redis.Redis.from_url(url) as store:
        settle(client)
        before = contents(url, name)
        pid = processes.start(builder, ladder_command("rebuild", "cqrs", "live"), env=process_env(target.env))
        if at == "built":
            wait_until(lambda: Checkpoint.of(store.get(keys.building) or b"").counted > 0)  # type: ignore[operator]
        else:
            wait_until(lambda: Checkpoint.of(store.get(keys.checkpoint)).version == 2)  # type: ignore[arg-type]
        os.kill(pid, ended)
        wait_until(lambda: processes.poll() or builder in processes.ended)
        if ended == signal.SIGTERM:
            assert contents(url, name) == before, "it has dropped what it had built"
        else:
            assert len(contents(url, name)) > len(before), "what is killed drops nothing"
        assert client.get("/reports/top-products").status_code == 200
        target.rebuild(live=True)
        assert contents(url, name) == before


def fill(target: Target, count: int) -> None:
    """Events in the outbox, of which nobody knows but the projector."""
    options = f"-c search_path={target.env['CROSSOVER_NAMESPACE']}"
    story = events(Random(3), 10, ("place", "place", "advance", "deliver"))
    with psycopg.connect(target.env["DATABASE_URL"], options=options) as connection:
        copy_events(connection, [next(story) for _ in range(count)])


def test_who_cannot_be_rebuilt_live_is_told_so_in_one_sentence(
    fresh_target: Callable[..., Target], postgres_url: str, redis_url: str
) -> None:
    target = fresh_target("cqrs")
    with httpx.Client(base_url=target.url) as client:
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
    with pytest.raises(UserError, match=r"^No projector is running here: start the service, or leave out --live\.$"):
        target.rebuild(live=True)
    with pytest.raises(UserError, match=r"^The commands of views write its views themselves: leave out --live\.$"):
        fresh_target("views").rebuild(live=True)
    with pytest.raises(UserError, match=r"^crud derives no views from its write model, so there is nothing to rebuild"):
        fresh_target("crud").rebuild(live=True)
    with pytest.raises(UserError, match=r"^There is nothing of cqrs on these servers: serve it there first\.$"):
        rebuild_views("cqrs", {"postgres": postgres_url, "redis": redis_url}, quiet, live=True)
