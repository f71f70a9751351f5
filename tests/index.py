"""What tests of the search index share: indexes of their own, and what follows a story there."""

from collections.abc import Callable, Iterable

import msgspec
import pytest

from contract.messages import Event
from cqrs_impl.projector import Projector
from cqrs_impl.search.client import SearchClient
from cqrs_impl.search.indexes import Indexes
from cqrs_impl.search.reads import SearchReads
from cqrs_impl.search.store import IndexedDocuments
from servers.opensearch import OPENSEARCH
from tests.documents import Closing, NoBacklog
from tests.story import ListFeed, followed

NEVER = "1h"  # no refresh comes while a test runs


class OfSearch(Closing):
    @pytest.fixture(autouse=True)
    def given(self, opensearch_url: str, namespace: Callable[[], str]) -> None:
        self.address, self.namespace = OPENSEARCH.address(opensearch_url), namespace
        self.clients: list[SearchClient] = []

    def name(self) -> str:
        """Of an index that is there: one that another process has just made has no shard yet, for a moment."""
        name = self.namespace()
        self.run(IndexedDocuments(self.indexes(name)).open())
        return name

    def indexes(self, name: str, *, in_bulk: bool = False) -> Indexes:
        self.clients.append(SearchClient(self.address.url, self.address.settings, timeout_s=60))
        return Indexes(self.clients[-1], name, NEVER, in_bulk=in_bulk)

    async def close(self) -> None:
        for client in self.clients:
            await client.close()

    async def follow(self, store: IndexedDocuments, feed: ListFeed, *, batch_max: int = 500) -> Projector:
        return await followed(store, feed, apply=store.apply, batch_max=batch_max)

    async def held(self, name: str) -> dict[str, object]:
        """Every document of an index but the checkpoint."""
        indexes = self.indexes(name)
        await indexes.make_searchable(name)
        query = {"query": {"bool": {"must_not": {"ids": {"values": ["checkpoint"]}}}}, "size": 10_000}
        hits = msgspec.json.decode(await indexes.post(f"/{name}/_search", query) or b"")["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits}

    async def holds(self, name: str, story: Iterable[Event]) -> bool:
        """Whether an index has the documents that one projector makes of a story."""
        whole = self.namespace()
        await self.follow(IndexedDocuments(self.indexes(whole)), ListFeed(story))
        return await self.held(name) == await self.held(whole)

    async def indexed(self, story: Iterable[Event], batch_max: int = 7) -> tuple[str, Projector, SearchReads]:
        """A name, what follows the story there, and reads of it once all of it can be found."""
        name = self.namespace()
        projector = await self.follow(IndexedDocuments(self.indexes(name)), ListFeed(story), batch_max=batch_max)
        await self.indexes(name).make_searchable(name)
        return name, projector, SearchReads(self.indexes(name), NoBacklog())


def feed_of(projector: Projector) -> ListFeed:
    assert isinstance(projector.feed, ListFeed)
    return projector.feed
