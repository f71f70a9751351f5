"""Documents in this process's memory: no store, no lag, lost when it ends. No method suspends."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from contract.messages import OrderItem, Readiness
from cqrs_impl.fold import TIME_WIDTH, key_of, listed, with_word
from cqrs_impl.ports import V

_encode = msgspec.json.Encoder().encode


class MemoryDocuments:
    """Implements both `Documents` and `DocumentReads`."""

    def __init__(self) -> None:
        self._documents: dict[str, Any] = {}
        self._lists: dict[str, list[str]] = defaultdict(list)

    async def get(self, kind: type[V], id: str) -> V | None:
        return self._documents.get(key_of(kind, id))

    def put(self, id: str, document: Struct) -> None:
        key = key_of(type(document), id)
        if (before := self._documents.get(key)) is not None and (entry := listed(before)):
            self.drop(*entry)
        if entry := listed(document):
            self.list(*entry)
        self._documents[key] = document

    async def entries(self, name: str) -> Sequence[str]:
        return tuple(self._lists[name])

    def list(self, name: str, entry: str) -> None:
        if not self.holds(name, entry):
            insort(self._lists[name], entry)

    def drop(self, name: str, entry: str) -> None:
        if self.holds(name, entry):
            del self._lists[name][bisect_left(self._lists[name], entry)]

    def holds(self, name: str, entry: str) -> bool:
        entries = self._lists[name]
        at = bisect_left(entries, entry)
        return at < len(entries) and entries[at] == entry

    async def document(self, kind: type, id: str) -> tuple[bytes | None, None]:
        found = self._documents.get(key_of(kind, id))
        return None if found is None else _encode(found), None

    async def first(self, name: str, limit: int) -> tuple[Sequence[bytes], None]:
        return [entry.encode() for entry in self._lists[name][:limit]], None

    async def last(self, name: str, limit: int) -> tuple[Sequence[bytes], None]:
        return [entry.encode() for entry in self._lists[name][: -limit - 1 : -1]], None

    async def page(
        self, name: str, before: str | None, limit: int, *, kind: type, id: str
    ) -> tuple[Sequence[bytes] | None, None]:
        if key_of(kind, id) not in self._documents:
            return None, None
        entries = self._lists[name]
        end = len(entries) if before is None else bisect_left(entries, before)
        return [entry.encode() for entry in reversed(entries[max(0, end - limit) : end])], None

    async def search(self, words: Iterable[str], limit: int) -> tuple[Sequence[bytes], None]:
        names = sorted(map(with_word, words), key=lambda name: len(self._lists[name]))
        found: list[bytes] = []
        for entry in reversed(self._lists[names[0]]):
            if all(self.holds(name, entry) for name in names[1:]):
                found.append(_encode(self._documents[key_of(OrderItem, entry[TIME_WIDTH:])]))
                if len(found) == limit:
                    break
        return found, None

    async def readiness(self) -> Readiness:
        return Readiness(0, 0.0, 0)
