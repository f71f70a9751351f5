"""Documents in a search engine, which has no transactions: each is written against the version it was made from, and
the checkpoint when all of them are.

A process that ends in between leaves documents ahead of the checkpoint. Their events are then applied once more, which
changes no document that shows them. A document that another process has written meanwhile is not replaced: the batch is
begun again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from contract import stores
from contract.errors import StoreGone
from contract.messages import Event
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.fold import orders_of
from cqrs_impl.next_version import HELD_S
from cqrs_impl.ports import Changes, Contents, Documents, EventLog, NextVersion
from cqrs_impl.search.client import AWAY
from cqrs_impl.search.fold import index
from cqrs_impl.search.indexes import Got, Indexes, number_of, refused, writes_to
from cqrs_impl.search.layout import FIRST, Source, document_of, holds, source_of

ITEMS_MAX = 1_000  # of a request
ORDERS_MAX = 5_000
TRIES_MAX, TRY_AGAIN_S = 5, 0.05
KNOWN_MAX = 100_000
REPORTED = "filter_path=items.*.status,items.*._version,items.*.error.type,items.*.error.reason"


class Item(Struct):
    """What became of one document of a bulk request."""

    status: int
    error: dict[str, str] = {}

    @property
    def reason(self) -> str:
        return f"{self.error.get('type', f'status {self.status}')}: {self.error.get('reason', '')}"


class Report(Struct):
    items: list[dict[str, Item]]


class Many(Struct):
    docs: list[Got]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_many = msgspec.json.Decoder(Many).decode
_report = msgspec.json.Decoder(Report).decode


class IndexedDocuments:
    """A `DocumentStore` of customers and orders. It keeps no lists: orders are found by what they hold."""

    def __init__(self, indexes: Indexes, present: Callable[[], Awaitable[str]] | None = None) -> None:
        """`present` as in `RedisDocuments`."""
        self._indexes, self._present = indexes, present
        self._never: dict[str, str] = {}  # documents of the last write that the engine will never take, and why
        self._at = Got()  # the checkpoint that was opened
        self._versions: dict[str, int] = {}  # of the documents, as they were fetched or written last
        self._held, self._held_s = Got(), 0.0  # a checkpoint that is held, and until when we wait for that

    async def open(self) -> Contents:
        indexes = self._indexes
        while True:
            found = await indexes.checkpoint(indexes.namespace)
            if found is None:
                await indexes.make_first()
            elif not found.found:
                await self._begin(found.index)
            elif found.source.held and not _same(found, self._held):
                self._held, self._held_s = found, time.monotonic() + HELD_S
            elif found.source.held and time.monotonic() < self._held_s:
                raise StoreGone("The next index is about to take the place of this one.")
            elif found.source.held and self._held_s:
                await indexes.let_go(found.index)
                self._held_s = 0.0  # either it has not, and will not any more, or another answers now
            else:
                return await self._opened(found)

    async def _begin(self, index: str) -> None:
        history = await self._present() if self._present else ""
        await self._indexes.begin(index, Checkpoint.begin(history, number_of(index)).text)

    async def _opened(self, found: Got) -> Contents:
        if found.index != self._at.index and not self._indexes.in_bulk:
            await self._indexes.show(found.index)
        if not _same(found, self._at) or len(self._versions) > KNOWN_MAX:
            self._versions = {}
        self._at = found
        return Contents(Checkpoint.of(found.source.text), found.source.letters)

    # Nothing is found in an index that is gone meanwhile. What is written after that finds out.

    async def fetch(self, keys: Mapping[str, type]) -> Mapping[str, Any]:
        found: dict[str, Any] = dict.fromkeys(keys)
        path = f"/{writes_to(self._at.index)}/_mget?_source_includes=document"
        for some in parts([key for key, kind in keys.items() if holds(kind)]):
            body = await self._indexes.post(path, {"ids": some})
            for one in _many(body).docs if body else ():
                self._versions[one.id] = one.version
                if one.found:
                    found[one.id] = document_of(one.source, keys[one.id])
        return found

    async def entries(self, name: str) -> Sequence[str]:
        """Of a customer's orders, as they are now: what was written is made searchable first."""
        alias, found = writes_to(self._at.index), list[str]()
        await self._indexes.make_searchable(alias)
        query: dict[str, Any] = {
            "query": {"term": {"customer": name.removeprefix(orders_of(""))}},
            "sort": ["place"],
            "size": ORDERS_MAX,
            "_source": False,
        }
        while body := await self._indexes.post(f"/{alias}/_search", query):
            hits = _decode(body)["hits"]["hits"]
            found += [hit["sort"][0] for hit in hits]
            if len(hits) < ORDERS_MAX:
                break
            query["search_after"] = hits[-1]["sort"]
        return found

    async def write(self, checkpoint: Checkpoint, changes: Changes) -> bool:
        at, before = self._at, self._at.source
        for some in parts(list(changes.documents)):
            if not await self._put({key: changes.documents[key] for key in some}):
                return False
        letters = before.dead_letters if changes.dead_letters is None else changes.dead_letters.decode()
        ages = before.ages if changes.ages is None else changes.ages.decode()
        source = Source(place=FIRST, checkpoint=checkpoint.text.decode(), dead_letters=letters, ages=ages)
        written = await self._indexes.write(at, source)
        self._at = written or at
        return written is not None

    async def _put(self, documents: Mapping[str, Struct]) -> bool:
        """Write documents, each against the version that it was made from. False if another process wrote one of them,
        the index is gone, or the engine will never take one; the others may be written then."""
        left, alias = list(documents), writes_to(self._at.index)
        if any(key not in self._versions for key in left):  # forgotten, as there were too many
            return False
        for number in range(TRIES_MAX):
            if number:
                await asyncio.sleep(TRY_AGAIN_S * number)
            lines = [line for key in left for line in self._lines(alias, key, documents[key])]
            reply = await self._indexes.client.bulk(lines, f"/_bulk?require_alias=true&{REPORTED}")
            if reply.status != 200:
                raise refused(reply)
            items = [next(iter(item.values())) for item in _report(reply.body).items]
            again, self._never = [], {}
            for key, item in zip(left, items, strict=True):
                if item.status < 300:
                    self._versions[key] += 1
                elif item.status in (404, 409):
                    return False
                elif item.status == 429 or item.status >= 500:
                    again.append(key)
                elif item.status in (401, 403):
                    raise refused_item(item)
                else:
                    self._never[key] = item.reason
            if self._never:
                return False
            if not (left := again):
                return True
        raise refused_item(items[0])

    def _lines(self, alias: str, key: str, document: Struct) -> tuple[bytes, bytes]:
        version = self._versions[key] + 1
        where = {"_index": alias, "_id": key, "version": version, "version_type": "external"}
        return _encode({"index": where}), _encode(source_of(document))

    async def apply(self, event: Event, documents: Documents) -> None:
        """As `index`; an event whose document cannot be written fails like any that cannot be applied."""
        await index(event, documents, self._never)

    async def clear(self) -> None:
        """Replace the index by an empty one. If another process did so meanwhile, that one stays."""
        indexes = self._indexes
        found = await indexes.checkpoint(indexes.namespace)
        if found is None:
            return
        fresh = await indexes.make_next()
        await self._begin(fresh)
        if await indexes.empty(found.index, fresh):
            await indexes.delete_all_but(fresh)
        else:
            await indexes.delete(fresh)

    def beside(self, log: EventLog) -> NextVersion:
        from cqrs_impl.search.version import IndexedVersion

        return IndexedVersion(self._indexes, log)

    async def close(self) -> None:
        await self._indexes.client.close()


def _same(one: Got, other: Got) -> bool:
    """One write of a checkpoint: an engine that lost its last writes gives their numbers again, in another term."""
    return (one.index, one.primary_term, one.seq_no) == (other.index, other.primary_term, other.seq_no)


def parts(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[at : at + ITEMS_MAX] for at in range(0, len(keys), ITEMS_MAX)]


def refused_item(item: Item) -> StoreGone:
    return stores.gone(AWAY, item.reason)
