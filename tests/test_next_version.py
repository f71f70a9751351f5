"""The next version of views in Redis: built beside those that answer, whose place it takes in one step for all."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import redis

from contract.errors import StoreGone, WorkerError
from contract.messages import GetOrder, ListOrders, SearchOrders, TopProducts
from contract.position import BEGINNING, Position
from cqrs_impl.documents.redis import FOLD, HELD_MS, Keys, RedisDocuments
from cqrs_impl.documents.redis_client import Command
from cqrs_impl.documents.redis_reads import RedisReads
from cqrs_impl.projector import Projector
from cqrs_impl.queries import DocumentQueries
from tests.documents import NoBacklog, OfRedis
from tests.service import PATIENCE_S
from tests.story import CUSTOMER, FIRST, STORY, ListFeed, contents, followed

QUERIES = (GetOrder(FIRST), ListOrders(CUSTOMER, 9), TopProducts(9), SearchOrders(("tea",), 9))
GONE = "The new views are gone, as the read store was emptied while they were built: start again."
REFUSED = {  # what befalls it → the sentence, and how much of the story the views show then
    "poison": (f"The present views stay: the new ones cannot show order-{FIRST} from version 2 on (poison), which", 5),
    "emptied": (GONE, 0),
    "nothing there": ("There are no views that answer yet: wait until they are built, or leave out --live.", 0),
}


async def following(projector: Projector) -> None:
    """A batch, as soon as no version is about to take the place of the projector's."""
    async with asyncio.timeout(PATIENCE_S):
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
