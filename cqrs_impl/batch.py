"""Applies a batch of events to documents in memory: checks versions, lets events wait for events they need, and adds
dead letters. It writes nothing; the projector writes the changes of a batch in one step."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from contract.errors import StoreGone
from contract.messages import BaseEvent, CustomerView, Event, OrderView, ProductView
from contract.position import Position, covers
from cqrs_impl.dead_letters import DeadLetters, Retries
from cqrs_impl.fold import TOTALS, Missing, fold, key_of, listed, touched
from cqrs_impl.part import WHOLE, Part
from cqrs_impl.ports import Documents, DocumentSource, Heartbeat, RecordedEvent, Unreadable, Unshown, V

Apply = Callable[[Event, Documents], Awaitable[None]]
SUBJECTS: dict[str, type[CustomerView] | type[ProductView] | type[OrderView]] = {
    "customer": CustomerView,
    "product": ProductView,
    "order": OrderView,
}
SHOW_NOTHING = (Heartbeat, Unshown)


async def apply(event: Event, documents: Documents, part: Part = WHOLE) -> None:
    """Fold the event if it is the next of its stream. An older one is a repeat and changes nothing; a newer one waits.
    No feed guarantees the order of versions within a stream."""
    subject = await documents.get(SUBJECTS[event.kind], event.id)
    version = subject.version if subject else 0
    if event.version > version + 1:
        raise Missing(event.stream)
    if event.version == version + 1:
        await fold(event, documents, part)


class StagedDocuments:
    """Documents over a store. The changes of an event are kept only after the whole event was applied."""

    def __init__(self, store: DocumentSource, copies: dict[str, Any], part: Part = WHOLE) -> None:
        """`copies` caches documents as the store has them; fetched documents are added."""
        self._store, self._copies, self._part = store, copies, part
        self.documents: dict[str, Struct] = {}  # changed by the batch
        self._lists: dict[str, dict[str, bool]] = defaultdict(dict)  # name → entry → in or out
        self._staged: dict[str, Struct] = {}  # changed by the current event
        self._moved: list[tuple[str, str, bool]] = []  # entries that the current event lists or drops

    async def get(self, kind: type[V], id: str) -> V | None:
        key = key_of(kind, id)
        changed: Any = self._staged.get(key) or self.documents.get(key)
        if changed is not None:
            return changed  # type: ignore[no-any-return]
        if key not in self._copies:
            self._copies |= await self._store.fetch({key: kind})
        return self._copies[key]  # type: ignore[no-any-return]

    def put(self, id: str, document: Struct) -> None:
        self._staged[key_of(type(document), id)] = document

    async def entries(self, name: str) -> Sequence[str]:
        there = set(await self._store.entries(name))
        moved = {entry: present for of, entry, present in self._moved if of == name}
        for entry, present in (self._lists[name] | moved).items():
            (there.add if present else there.discard)(entry)
        return sorted(there)

    def list(self, name: str, entry: str) -> None:
        self._moved.append((name, entry, True))

    def drop(self, name: str, entry: str) -> None:
        self._moved.append((name, entry, False))

    def keep(self) -> None:
        self.documents |= self._staged
        for name, entry, present in self._moved:
            self._lists[name][entry] = present
        self.undo()

    def undo(self) -> None:
        self._staged.clear()
        self._moved.clear()

    async def prefetch(self, events: Sequence[RecordedEvent]) -> None:
        wanted = {
            key_of(kind, id): kind
            for _, event, *_ in events
            if isinstance(event, BaseEvent)
            for kind, id in touched(event, self._part)
        }
        if missing := {key: kind for key, kind in wanted.items() if key not in self._copies}:
            self._copies |= await self._store.fetch(missing)

    def lists(self) -> Mapping[str, Mapping[str, bool]]:
        """The entries that lists gain and lose. The entry of a total changes once per batch."""
        for key, total in self.documents.items():
            if not isinstance(total, TOTALS):
                continue
            for document, present in ((self._copies.get(key), False), (total, True)):
                if document is not None and (entry := listed(document)):
                    self._lists[entry[0]][entry[1]] = present
        return self._lists


class EventBatch:
    """Without `retries` each event gets a single try: used for the replay of dead letters."""

    def __init__(
        self, documents: StagedDocuments, letters: DeadLetters, retries: Retries | None, apply: Apply = apply
    ) -> None:
        self.documents, self.letters = documents, letters
        self._retries, self._apply = retries, apply

    async def run(self, events: Sequence[RecordedEvent], start: Position) -> Position:
        """Apply what can be applied. An event that needs a later one of the batch waits for it. Returns the position
        reached, which is before the first event that still waits."""
        await self.documents.prefetch(events)
        positions = sorted(one.position for one in events)  # of one feed, so each covers the ones before it

        def before(position: Position) -> Position:
            return max((one for one in positions if one < position), default=start)

        waiting, failed = list(events), list[RecordedEvent]()
        while True:
            still = []
            for recorded in waiting:
                if isinstance(recorded.event, SHOW_NOTHING) or self.letters.hold(recorded):
                    continue
                try:
                    if isinstance(recorded.event, Unreadable):
                        raise ValueError(recorded.event.reason)
                    await self._apply(recorded.event, self.documents)
                    self.documents.keep()
                except Missing as missing:
                    self.documents.undo()
                    if self._retries is None or self.letters.begin(missing.stream):
                        self.letters.add(recorded, before(recorded.position), f"it waits for {missing.stream}")
                    else:
                        still.append(recorded)
                except StoreGone:
                    raise
                except Exception as failure:  # noqa: BLE001
                    # The one place that continues after a bug: one bad event must not stop the others. It is not
                    # skipped: the error is logged, and its stream is blocked, counted and can be replayed.
                    self.documents.undo()
                    if self._retries is None or self._retries.exhausted(recorded.position):
                        reason = str(failure) or type(failure).__name__
                        self.letters.add(recorded, before(recorded.position), reason)
                    else:
                        failed.append(recorded)
            if not still or len(still) == len(waiting):
                break
            waiting = still
        left = min((one.position for one in still + failed), default=None)
        return max([start, *positions]) if left is None else before(left)


def uncovered(events: Sequence[RecordedEvent], position: Position) -> list[RecordedEvent]:
    return [one for one in events if not covers(position, one.position)]
