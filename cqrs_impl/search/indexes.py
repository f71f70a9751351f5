"""The indexes of a namespace, NAMESPACE.NUMBER: an alias names the one that answers.

Writes go by a second alias of each index: a request for an alias that is gone is refused, where one for an index would
make another, without our mapping. What replaces an index names it, so that of two that do only one succeeds.
"""

import msgspec
from msgspec import Struct

from contract import stores
from contract.errors import StoreGone
from cqrs_impl.search.client import AWAY, Reply, SearchClient
from cqrs_impl.search.layout import CHECKPOINT, MAPPING, Source, settings


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


def writes_to(index: str) -> str:
    return f"{index}.writes"


def number_of(index: str) -> int:
    return int(index.rpartition(".")[2])


class Indexes:
    def __init__(self, client: SearchClient, namespace: str, refresh: str) -> None:
        """`refresh` as in `settings`, of indexes that are made."""
        self.client, self.namespace, self._refresh = client, namespace, refresh

    async def checkpoint(self, index: str) -> Got | None:
        """As it is now, searchable or not; None if there is no such index or alias."""
        reply = await self.client.ask("GET", f"/{index}/_doc/{CHECKPOINT}")
        found = got(reply.body) if reply.status in (200, 404) else None
        if found is None:
            raise refused(reply)
        return found if found.index else None

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
            "settings": settings(self._refresh),
            "mappings": MAPPING,
            "aliases": {alias: {} for alias in (writes_to(index), *aliases)},
        }
        reply = await self.client.ask("PUT", f"/{index}", body)
        if reply.status == 400 and b"resource_already_exists" in reply.body:
            return None
        self._require(reply)
        return index

    async def replace(self, index: str, by: str, *, delete: bool) -> bool:
        """Let another index answer, in one step. False if that index did not answer any more."""
        first = (
            {"remove_index": {"index": index}}
            if delete
            else {"remove": {"index": index, "alias": self.namespace, "must_exist": True}}
        )
        actions = [first, {"add": {"index": by, "alias": self.namespace}}]
        reply = await self.client.ask("POST", "/_aliases", {"actions": actions})
        if reply.status == 404:
            return False
        self._require(reply)
        return True

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


def refused(reply: Reply) -> StoreGone:
    return stores.gone(AWAY, reply.reason)
