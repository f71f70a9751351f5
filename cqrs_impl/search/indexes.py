"""The indexes of a namespace, NAMESPACE.NUMBER: an alias names the one that answers.

Writes go by a second alias of each index: a request for an alias that is gone is refused, where one for an index would
make another, without our mapping. What replaces an index names it, so that of two that do only one succeeds.
"""

import msgspec
from msgspec import Struct

from contract import messages, stores, text
from contract.errors import StoreGone, WorkerError
from cqrs_impl import batch
from cqrs_impl import fold as views
from cqrs_impl.program import digest_of
from cqrs_impl.search import fold, layout
from cqrs_impl.search.client import AWAY, Reply, SearchClient
from cqrs_impl.search.layout import CHECKPOINT, MAPPING, Source, settings

MADE_BY = digest_of(batch, views, messages, text, fold, layout)
NEVER = "-1"  # is what is written made searchable before somebody asks for it


class Got(Struct, rename={"id": "_id", "index": "_index", "version": "_version", "source": "_source"}):
    """A document as the engine gives it by its id. One that is not there has version 0."""

    id: str = ""
    index: str = ""
    version: int = 0
    seq_no: int = msgspec.field(default=-1, name="_seq_no")
    primary_term: int = msgspec.field(default=0, name="_primary_term")
    found: bool = False
    source: Source = msgspec.field(default_factory=Source)


got = msgspec.json.Decoder(Got).decode
_decode = msgspec.json.Decoder().decode

NOTHING: dict[str, str] = {}


class ForeignIndex(WorkerError):
    def __init__(self, index: str) -> None:
        super().__init__(f"The search engine has an index {index} that is not ours: delete it, or give another engine.")


def writes_to(index: str) -> str:
    return f"{index}.writes"


def held(index: str) -> str:
    """An alias, there while another index may take the place of this one."""
    return f"{index}.held"


def number_of(index: str) -> int:
    return int(index.rpartition(".")[2])


class Indexes:
    def __init__(self, client: SearchClient, namespace: str, refresh: str, *, in_bulk: bool = False) -> None:
        """`refresh` as in `settings`, of indexes that are followed. Those made `in_bulk` wait for who follows them."""
        self.client, self.namespace, self.in_bulk, self._refresh = client, namespace, in_bulk, refresh

    async def checkpoint(self, index: str, *, searchable: bool = False) -> Got | None:
        """As it is now, or as it can be found by now; None if there is no such index or alias."""
        reply = await self.client.ask("GET", f"/{index}/_doc/{CHECKPOINT}{'?realtime=false' if searchable else ''}")
        found = got(reply.body) if reply.status in (200, 404) else None
        if found is None:
            raise refused(reply)
        if found.index and not found.index.startswith(f"{self.namespace}."):
            raise ForeignIndex(found.index)
        return found if found.index else None

    async def write(self, at: Got, checkpoint: Source) -> Got | None:
        """A checkpoint in the place of another. None if that is not there any more, nor its index may be."""
        condition = f"if_seq_no={at.seq_no}&if_primary_term={at.primary_term}&require_alias=true"
        path = f"/{writes_to(at.index)}/_doc/{CHECKPOINT}?{condition}"
        reply = await self.client.ask("PUT", path, checkpoint)
        if reply.status in (404, 409):
            return None
        self._require(reply)
        return msgspec.structs.replace(got(reply.body), source=checkpoint)

    async def begin(self, index: str, checkpoint: bytes) -> None:
        """Write a checkpoint where there is none, to be found at once; another process may do the same."""
        path = f"/{writes_to(index)}/_create/{CHECKPOINT}?require_alias=true&refresh=true"
        await self.client.ask("PUT", path, Source(place="~", checkpoint=checkpoint.decode()))

    async def names(self) -> list[str]:
        reply = await self.client.ask("GET", f"/{self.namespace}.*/_alias")
        return sorted(_decode(reply.body), key=number_of) if reply.status == 200 else []

    async def make_first(self) -> None:
        """An index that answers, where there is none; another process may do the same."""
        await self._make(self.namespace)

    async def make_next(self) -> str:
        """An index that nobody knows yet."""
        while (index := await self._make()) is None:
            pass
        return index

    async def _make(self, *aliases: str) -> str | None:
        """None if another process made it first."""
        index = f"{self.namespace}.{max(map(number_of, await self.names()), default=0) + 1}"
        body = {
            "settings": settings(NEVER if self.in_bulk else self._refresh),
            "mappings": MAPPING | {"_meta": {"made_by": MADE_BY}},
            "aliases": {alias: {} for alias in (writes_to(index), *aliases)},
        }
        reply = await self.client.ask("PUT", f"/{index}", body)
        if reply.status == 400 and b"resource_already_exists" in reply.body:
            return None
        self._require(reply)
        return index

    async def is_starting(self) -> bool:
        """Whether the index that answers has no shard yet, as it was made, or its engine started, a moment ago."""
        reply = await self.client.ask("GET", f"/_cluster/health/{self.namespace}?timeout=1s")
        return reply.status == 200 and _decode(reply.body)["initializing_shards"] > 0

    async def is_ours(self, index: str) -> bool:
        """Whether this program makes the documents of an index."""
        reply = await self.client.ask("GET", f"/{index}/_mapping")
        meta = _decode(reply.body)[index]["mappings"].get("_meta", {}) if reply.status == 200 else {}
        return bool(meta.get("made_by") == MADE_BY)

    async def empty(self, index: str, by: str) -> bool:
        """Delete an index and let another answer, in one step. False if that index did not answer any more."""
        return await self._move({"remove_index": {"index": index}}, self._leads_to(by))

    async def hold(self, at: Got) -> bool:
        """Nobody writes a checkpoint to this index without letting go of it first. False if somebody just did."""
        await self._move({"add": {"index": at.index, "alias": held(at.index)}})
        return await self.write(at, msgspec.structs.replace(at.source, held=True)) is not None

    async def let_go(self, index: str) -> None:
        """No other index takes the place of this one then, if it has not."""
        await self._move(_remove(index, held(index)))

    async def replace(self, index: str, by: str) -> bool:
        """Let another index answer, in one step. False if that index does not answer, or is not held any more."""
        leaves = (_remove(index, alias) for alias in (self.namespace, held(index)))
        return await self._move(*leaves, self._leads_to(by))

    def _leads_to(self, index: str) -> dict[str, object]:
        return {"add": {"index": index, "alias": self.namespace}}

    async def _move(self, *actions: dict[str, object]) -> bool:
        """All of them or none, which is False."""
        reply = await self.client.ask("POST", "/_aliases", {"actions": actions})
        if reply.status == 404:
            return False
        self._require(reply)
        return True

    async def show(self, index: str) -> None:
        """Make what is written searchable as often as it should be."""
        reply = await self.client.ask("PUT", f"/{index}/_settings", {"refresh_interval": self._refresh})
        if reply.status != 404:
            self._require(reply)

    async def complete(self, index: str) -> None:
        """Make all that was written searchable, now and from now on, and keep it whatever happens."""
        await self.show(index)
        for what in ("refresh", "flush"):
            await self.post(f"/{index}/_{what}")

    async def delete(self, index: str) -> None:
        await self.client.ask("DELETE", f"/{index}?ignore_unavailable=true")

    async def delete_all_but(self, *indexes: str) -> None:
        for index in await self.names():
            if index not in indexes:
                await self.delete(index)

    async def make_searchable(self, index: str) -> None:
        await self.post(f"/{index}/_refresh")

    async def try_to_write(self) -> None:
        """A change that finds nothing to change."""
        await self.client.ask("POST", f"/{self.namespace}/_update/{CHECKPOINT}?require_alias=true", {"doc": NOTHING})

    async def post(self, path: str, body: object | None = None) -> bytes | None:
        """None if the index is gone."""
        reply = await self.client.ask("POST", path, body)
        if reply.status == 404:
            return None
        self._require(reply)
        return reply.body

    @staticmethod
    def _require(reply: Reply) -> None:
        if reply.status >= 300:
            raise refused(reply)


def _remove(index: str, alias: str) -> dict[str, object]:
    return {"remove": {"index": index, "alias": alias, "must_exist": True}}


def refused(reply: Reply) -> StoreGone:
    return stores.gone(AWAY, reply.reason)
