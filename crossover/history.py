"""The life of an order: its events, and what each of them changed in which view.

All events are folded anew, in memory, by the fold of every view: what one changed depends on those before it.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from pydantic_core import PydanticCustomError
from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from contract.http.bodies import uuid
from contract.messages import Event, HistoryView, OfOrder, OrderItem, OrderView
from contract.position import BEGINNING, Position
from contract.text import time_text
from cqrs_impl.batch import StagedDocuments, apply
from cqrs_impl.documents.memory import MemoryDocuments
from cqrs_impl.fold import Missing
from cqrs_impl.ports import FeedOfLog, Heartbeat, Unreadable, Unshown
from crossover.errors import Fallen, UserError
from crossover.parked import ask_log
from crossover.targets import Progress, known_rung
from ladder.rung import rung, rungs

BATCH = 1000


class ViewChange(NamedTuple):
    """What an event changed in a document, a text for each field, or the lists that gained and lost so many entries."""

    view: str
    new: bool
    fields: Mapping[str, str]


class LifeStep(NamedTuple):
    event: Event
    at: datetime
    changes: Sequence[ViewChange]
    others: int  # documents of other orders that changed with them


def order_id(text: str) -> str:
    try:
        return uuid(text)
    except PydanticCustomError:
        raise UserError(f"'{text}' is no id of an order: give a hyphenated UUID.") from None


def keeping_events(rung_name: str) -> str:
    if not rung(known_rung(rung_name)).worker_names:
        keeping = ", ".join(name for name, one in rungs().items() if one.worker_names)
        raise UserError(f"{rung_name} keeps no events, so it cannot tell what happened: choose one of {keeping}.")
    return rung_name


def life_of(rung_name: str, order: str, env: Mapping[str, str], progress: Progress) -> list[LifeStep]:
    async def read(log: FeedOfLog) -> list[LifeStep]:
        return [step async for step in life(log, order, progress)]

    steps = ask_log(rung_name, env, read)
    if not steps:
        raise UserError(f"{rung_name} has no order {order} on these servers.")
    return steps


async def recorded(log: FeedOfLog, progress: Progress) -> AsyncIterator[tuple[Event, datetime]]:
    """All events and when they happened, in the order of the log; `Fallen` at one that cannot be read."""
    at, done, total = Position(BEGINNING, await log.present()), 0, await log.count()
    while events := (await log.read(at, BATCH)).events:
        for position, event, recorded_s, _ in events:
            at = position
            match event:
                case Unreadable(stream, version, reason):
                    raise Fallen(f"Version {version} of {stream} cannot be read: {reason}.")
                case OfOrder():
                    yield event, event.at
                case Unshown() | Heartbeat():
                    pass
                case _:
                    yield event, datetime.fromtimestamp(recorded_s or 0.0, UTC)
        done += len(events)
        progress("reading events", done, max(done, total))


async def life(log: FeedOfLog, order: str, progress: Progress) -> AsyncIterator[LifeStep]:
    """The events of an order, and those of others that changed it."""
    views, waiting = ViewsInMemory(), list[tuple[Event, datetime]]()
    async for one in recorded(log, progress):
        waiting.append(one)
        more = True
        while more:  # an event that was applied may be what another waits for
            more = False
            for event, at in waiting.copy():
                if staged := await views.staged(event):
                    waiting.remove((event, at))
                    more = bool(waiting)
                    if f"order:{order}" in staged.documents:
                        yield await views.step(event, at, order, staged)
                    views.take(staged)
    if waiting:
        raise Fallen(f"{waiting[0][0].stream} has events that wait for others, which were never recorded.")


class ViewsInMemory(MemoryDocuments):
    """All views, in memory."""

    async def fetch(self, keys: Mapping[str, type]) -> Mapping[str, Any]:
        return {key: await self.get(kind, id_of(key)) for key, kind in keys.items()}

    async def staged(self, event: Event) -> StagedDocuments | None:
        """What an event changes; None while it waits for another."""
        staged = StagedDocuments(self, {})
        try:
            await apply(event, staged)
        except Missing:
            return None
        staged.keep()
        return staged

    async def step(self, event: Event, at: datetime, order: str, staged: StagedDocuments) -> LifeStep:
        own = {
            key: document
            for key, document in staged.documents.items()
            if not isinstance(document, OrderView | OrderItem | HistoryView) or id_of(key) == order
        }
        changes = []
        for key, document in own.items():
            before = await self.get(type(document), id_of(key))
            if fields := different(before, document):
                changes.append(ViewChange(key, before is None, fields))
        moved = defaultdict[str, list[str]](list)
        for name, entries in sorted(staged.lists().items()):
            if signs := self.moved(name, entries):
                moved[signs].append(name)
        if moved:
            changes.append(ViewChange("lists", False, {signs: ", ".join(names) for signs, names in moved.items()}))
        return LifeStep(event, at, changes, len(staged.documents) - len(own))

    def moved(self, name: str, entries: Mapping[str, bool]) -> str:
        """How many entries a list gains and loses."""
        news = [present for entry, present in entries.items() if present != self.holds(name, entry)]
        return " ".join(f"{sign}{news.count(way)}" for sign, way in (("−", False), ("+", True)) if way in news)

    def take(self, staged: StagedDocuments) -> None:
        for key, document in staged.documents.items():
            self.put(id_of(key), document)
        for name, entries in staged.lists().items():
            for entry, present in entries.items():
                (self.list if present else self.drop)(name, entry)


def id_of(key: str) -> str:
    return key.partition(":")[2]


def different(before: Struct | None, after: Struct) -> dict[str, str]:
    """The fields of a document that changed; of a new one, all."""
    if before is None:
        return {field: value(getattr(after, field)) for field in after.__struct_fields__}
    pairs = {field: (getattr(before, field), getattr(after, field)) for field in after.__struct_fields__}
    return {field: changed(was, now) for field, (was, now) in pairs.items() if was != now}


def changed(was: Any, now: Any) -> str:
    if isinstance(was, tuple) and now[: len(was)] == was:
        return f"+ {value(now[len(was) :])}"
    return f"{value(was)} → {value(now)}"


def value(of: object) -> str:
    if isinstance(of, tuple):
        return "\n".join(map(value, of))
    if isinstance(of, str):
        return of
    return msgspec.json.format(msgspec.json.encode(of), indent=0).decode()  # spaces, at which a line can be broken


def show_life(console: Console, rung_name: str, order: str, life: Sequence[LifeStep]) -> None:
    console.print(Text(f"Order {order} of {rung_name}", "bold"))
    for step in life:
        event = step.event
        whose = "" if event.id == order else f" of {event.stream}"
        console.print(Text(f"\n{type(event).__name__}{whose}, version {event.version}, {time_text(step.at)}", "bold"))
        for change in step.changes:
            console.print(Padding(Text(change.view + " (new)" * change.new), (0, 0, 0, 2), expand=False))
            rows = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2, 0, 0))
            for field, text in change.fields.items():
                rows.add_row(field, Text(text))
            console.print(Padding(rows, (0, 0, 0, 4), expand=False))
        if step.others:
            console.print(f"  and documents of other orders: {step.others:,}")
