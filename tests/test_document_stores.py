"""What a store of documents must promise, wherever they live; one subclass an adapter."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import islice
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from contract.messages import Event
from contract.position import covers
from cqrs_impl.checkpoint import AnotherHistory
from cqrs_impl.documents.redis import Keys, RedisDocuments
from cqrs_impl.documents.redis_parts import PartDocuments, PartKeys
from cqrs_impl.part import Part
from cqrs_impl.ports import Changes, DocumentStore
from cqrs_impl.projector import Projector
from cqrs_impl.search.store import IndexedDocuments
from tests.documents import Closing, OfRedis
from tests.index import OfSearch
from tests.story import STORY, ListFeed, contents, events, followed, place, views


class StoreSuite(Closing, ABC):
    """Promises of `DocumentStore`."""

    examples, events = 60, 150  # as many as the store is quick

    @abstractmethod
    def store(self, name: str, history: str = "") -> DocumentStore:
        """Documents that all who know the name share, of a log with this present history."""

    @abstractmethod
    def contents(self, name: str) -> dict[str, object]:
        """Everything they hold, but how it came about."""

    @abstractmethod
    def name(self) -> str: ...

    async def follow(self, store: Any, feed: ListFeed, *, batch_max: int = 500) -> Projector:
        return await followed(store, feed, batch_max=batch_max)

    def after(self, story: Iterable[Event], batch_max: int = 500) -> dict[str, object]:
        name = self.name()
        self.run(self.follow(self.store(name), ListFeed(story), batch_max=batch_max))
        return self.contents(name)

    def test_any_permutation_with_repeats_gives_the_same_documents(self) -> None:
        expected = self.after(STORY)
        assert expected

        @settings(max_examples=self.examples, deadline=None, suppress_health_check=list(HealthCheck))
        @example([*STORY[:3], STORY[4], STORY[3], *STORY[5:]], [], 1)  # of one order, version 2 and then version 1
        @given(st.permutations(STORY), st.lists(st.sampled_from(STORY), max_size=4), st.integers(1, 12))
        def same(order: list[Event], repeats: list[Event], batch_max: int) -> None:
            assert self.after([*order, *repeats], batch_max) == expected

        same()

    def test_of_two_that_write_at_once_one_is_refused_and_changes_nothing(self) -> None:
        name = self.name()

        async def race() -> list[bool]:
            one, other = self.store(name), self.store(name)
            checkpoints = [(await store.open()).checkpoint for store in (one, other)]
            nothing = Changes({}, {}, None, b"[]")
            return [
                await store.write(at._replace(position=place(n), writes=at.writes + 1), nothing)
                for n, (store, at) in enumerate(zip((one, other), checkpoints, strict=True), 1)
            ]

        assert self.run(race()) == [True, False]
        assert self.run(self.store(name).open()).checkpoint.position == place(1)

    def test_two_projectors_count_every_event_once(self) -> None:
        name, feed = self.name(), ListFeed(islice(events(Random(1)), self.events))

        async def both() -> None:
            await asyncio.gather(*(self.follow(self.store(name), feed, batch_max=size) for size in (3, 5)))

        self.run(both())
        assert self.contents(name) == self.after(feed.events)

    def test_a_store_that_is_cleared_under_a_projector_is_replayed_from_the_start(self) -> None:
        name, feed = self.name(), ListFeed(islice(events(Random(2)), self.events))

        async def cleared() -> None:
            projector = await self.follow(self.store(name), ListFeed(feed.events[: self.events * 2 // 3]))
            await self.store(name).clear()
            assert not covers(await projector.position(), place(1))
            following = asyncio.ensure_future(self.follow(self.store(name), feed, batch_max=4))
            for _ in range(3):
                await asyncio.sleep(0)
                await self.store(name).clear()
            await following
            await self.follow(self.store(name), feed)

        self.run(cleared())
        assert self.contents(name) == self.after(feed.events)

    def test_a_store_of_another_log_is_rebuilt_at_the_start_and_given_up_when_it_was_taken(self) -> None:
        name, one, other = self.name(), ListFeed(STORY, history="one"), ListFeed(STORY[:3], history="other")

        async def taken() -> None:
            first = await self.follow(self.store(name, "one"), one)
            await self.follow(self.store(name, "other"), other)
            with pytest.raises(AnotherHistory, match="follows another database by now"):
                await first.step()

        self.run(taken())
        assert self.contents(name) == self.after(STORY[:3])


class TestRedisStore(OfRedis, StoreSuite):
    def name(self) -> str:
        return self.namespace()

    def store(self, name: str, history: str = "") -> RedisDocuments:
        return RedisDocuments(self.client(), Keys(name), ListFeed([], history=history).present)

    def contents(self, name: str) -> dict[str, object]:
        return contents(self.url, name)


class TestRedisPartStore(TestRedisStore):
    """Of a part that is the only one."""

    def store(self, name: str, history: str = "") -> RedisDocuments:
        return PartDocuments(self.client(), PartKeys(name, Part(0, 1)), ListFeed([], history=history).present)

    def contents(self, name: str) -> dict[str, object]:
        return views(self.url, name, 1)


class TestIndexedStore(OfSearch, StoreSuite):
    examples, events = 2, 30

    def store(self, name: str, history: str = "") -> IndexedDocuments:
        return IndexedDocuments(self.indexes(name), ListFeed([], history=history).present)

    def contents(self, name: str) -> dict[str, object]:
        found: dict[str, object] = self.run(self.held(name))
        return found
