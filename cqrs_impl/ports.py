"""The seams of the read/write split. Each is small enough to fake in a page."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.messages import Event, Query, QueryResult, Readiness
from contract.position import Position


class Unreadable(NamedTuple):
    """What is known of an event whose body is none."""

    stream: str
    version: int
    reason: str


class RecordedEvent(NamedTuple):
    """An event at its place in the order of events."""

    position: Position
    event: Event | Unreadable
    recorded_s: float | None = None  # by the database's clock when the event was written, shortly before its commit


class Batch(NamedTuple):
    """What a feed gives: events that nothing can come before any more; `more_soon` when others are on their way."""

    events: Sequence[RecordedEvent]
    more_soon: bool


class Parked(Struct, frozen=True):
    """A stream whose events from `version` to `last` wait, because the first of them could not be applied."""

    stream: str
    version: int
    last: int
    before: Position  # of all that come before the first that waits
    reason: str

    @property
    def events(self) -> int:
        return self.last - self.version + 1


class Recorder(Protocol):
    """Where a command's event goes inside the command's own transaction."""

    async def record(self, connection: AsyncConnection, event: Event) -> Position:
        """Keep the event, whole with the command or not at all."""
        ...

    async def latest(self, connection: AsyncConnection) -> Position:
        """For a repeat: a place that covers what it did, and no earlier one than any answer told before."""
        ...


class Feed(Protocol):
    """Events in the order of their positions, none skipped, whatever was committed when."""

    async def read(self, after: Position, limit: int) -> Batch: ...
    async def wait(self, timeout_s: float) -> None:
        """Return when there may be news, or after the timeout."""
        ...


class Queries(Protocol):
    async def answer(self, query: Query) -> QueryResult: ...
    async def readiness(self) -> Readiness: ...


class Views(Protocol):
    """A read store that follows a feed. Its position moves in the same atomic unit as its data."""

    async def position(self) -> Position: ...
    async def apply(self, after: Position, batch: Sequence[RecordedEvent]) -> Position:
        """Apply what can be applied of the events that follow `after`, ignore what was; returns the position reached,
        which is before the first event that has to wait for one still missing. Views that have gone back to before
        `after` apply nothing and say where they are. A stream whose event fails again and again is parked."""
        ...

    async def parked(self) -> tuple[Sequence[Parked], Position]:
        """The parked streams in the order of their first waiting events, and the position of the views."""
        ...

    async def replay(self, stream: str, events: Sequence[RecordedEvent], at: Position) -> int | None:
        """Apply a parked stream's events, which are all up to `at`; returns how many could be, the others staying
        parked with their new reason, or None where the views are at another position by now."""
        ...

    async def clear(self) -> None: ...
