"""The search of orders in a search engine: one request, which brings the checkpoint of what it saw."""

import asyncio
import time
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from contract.errors import StoreGone, Unavailable
from contract.messages import (
    BestOrders,
    FoundOrders,
    OrderItem,
    QueryResult,
    RankedOrder,
    RankedOrders,
    Readiness,
    SearchOrders,
)
from contract.position import Position, covers
from cqrs_impl import dead_letters
from cqrs_impl.followed import Followed
from cqrs_impl.ports import Backlog
from cqrs_impl.search.indexes import Indexes, refused
from cqrs_impl.search.layout import FIRST, Source

NOT_BUILT = "The search index has not been built yet."
NO_SHARD = "all shards failed"
NEWEST = {"place": "desc"}
NO_ORDERS: dict[str, Any] = {"must_not": [{"match_all": {}}]}
ABOVE_ALL = 1e6  # the score of the checkpoint, where orders are sorted by theirs
POLL_S = 0.01  # from one read of the checkpoint to the next, while anybody waits


class Hit(Struct):
    source: Source = msgspec.field(name="_source")
    highlight: dict[str, tuple[str, ...]] = {}


class Hits(Struct):
    hits: list[Hit] = []


class Found(Struct):
    hits: Hits = msgspec.field(default_factory=Hits)


_encode = msgspec.json.Encoder().encode
_found = msgspec.json.Decoder(Found).decode


class SearchReads:
    def __init__(self, indexes: Indexes, backlog: Backlog, *, forced: bool = False) -> None:
        """`forced`: what an answer must reflect is made searchable at once, and not waited for until it is."""
        self._indexes, self._followed, self._forced = indexes, Followed(backlog), forced
        self._shown: Position | None = None  # by the last search or poll
        self._polling: asyncio.Task[Position | None] | None = None
        self._next_poll_s = 0.0

    async def search(self, query: SearchOrders) -> QueryResult:
        """The newest orders with all of the words, newest first."""
        wanted = [{"term": {"words": word}} for word in query.words]
        newest = {"sort": [NEWEST], "track_total_hits": False, "_source": ["checkpoint", "item"]}
        seen, *found = await self._search({"filter": wanted}, query.limit, newest)
        orders = FoundOrders(tuple(item_of(hit) for hit in found))
        self._shown = await self._followed.shown(seen.source.text)
        return QueryResult(_encode(orders), self._shown)

    async def search_at(self, query: SearchOrders, wanted: Position) -> QueryResult:
        """As `search`, where an answer must reflect a position. Nothing is searched before it can: a search costs the
        engine several times what a read of the checkpoint does, and all who wait share one poll."""
        if self._is_behind(self._shown, wanted):
            written = await self._poll()
            if self._is_behind(written, wanted):
                return QueryResult(None, written)
            if self._forced:
                await self._indexes.make_searchable(self._indexes.namespace)
        return await self.search(query)

    @staticmethod
    def _is_behind(shown: Position | None, wanted: Position) -> bool:
        """Of one that is unknown, or of another history, only an answer can tell."""
        return shown is not None and shown.history == wanted.history and not covers(shown, wanted)

    async def _poll(self) -> Position | None:
        """What can be found; what is written, where that can be made to be found. None where there is no checkpoint."""
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._polled())
        return await asyncio.shield(self._polling)  # who goes away does not take it from the others

    async def _polled(self) -> Position | None:
        await asyncio.sleep(self._next_poll_s - time.monotonic())
        self._next_poll_s = time.monotonic() + POLL_S
        found = await self._indexes.checkpoint(self._indexes.namespace, searchable=not self._forced)
        shown = await self._followed.shown(found.source.text) if found and found.found else None
        if not self._forced:
            self._shown = shown
        return shown

    async def best(self, asked: BestOrders) -> QueryResult:
        """The orders that fit the words best, misspelt ones too; of equals the newest first."""
        fit = {"match": {"names": {"query": " ".join(asked.words), "fuzziness": "AUTO"}}}
        ranked = {
            "sort": ["_score", NEWEST],
            "_source": ["checkpoint", "item"],
            "highlight": {"fields": {"names": {}}, "encoder": "html"},
        }
        seen, *found = await self._search({"must": [fit]}, asked.limit, ranked)
        items = ((item_of(hit), hit.highlight.get("names", ())) for hit in found)
        orders = RankedOrders(tuple(RankedOrder(**asdict(item), highlights=names) for item, names in items))
        return QueryResult(_encode(orders), await self._followed.shown(seen.source.text))

    async def readiness(self) -> Readiness:
        """Of what can be found, not of what is written."""
        (seen,) = await self._search(NO_ORDERS, 0, {"_source": ["checkpoint", "dead_letters"]})
        lag_events, lag_seconds = await self._followed.behind(seen.source.text)
        parked = dead_letters.count(seen.source.letters)
        return Readiness(lag_events, lag_seconds, parked, unwritable=await self._unwritable())

    async def _unwritable(self) -> str | None:
        """What the engine says to a write that changes nothing: it may be full or read-only, and still answer."""
        try:
            await self._indexes.try_to_write()
        except StoreGone as gone:
            return gone.reason
        return None

    async def _search(self, orders: dict[str, Any], limit: int, rest: dict[str, Any]) -> list[Hit]:
        """The checkpoint, which all that follows it reflects, then orders."""
        checkpoint = {"constant_score": {"filter": {"term": {"place": FIRST}}, "boost": ABOVE_ALL}}
        query = {"query": {"bool": {"should": [checkpoint, {"bool": orders}]}}, "size": limit + 1, **rest}
        path = f"/{self._indexes.namespace}/_search"
        try:
            reply = await self._indexes.client.ask("POST", path, query)
        except StoreGone as gone:
            if NO_SHARD not in gone.reason:
                raise
            if await self._indexes.is_starting():
                raise Unavailable(NOT_BUILT) from gone
            reply = await self._indexes.client.ask("POST", path, query)  # it may have started since
        if reply.status not in (200, 404):
            raise refused(reply)
        found = _found(reply.body).hits.hits
        if not found or not found[0].source.checkpoint:
            raise Unavailable(NOT_BUILT)
        return found

    async def close(self) -> None:
        await self._indexes.client.close()


def item_of(hit: Hit) -> OrderItem:
    assert hit.source.item is not None, "only orders and the checkpoint have a place"
    return hit.source.item
