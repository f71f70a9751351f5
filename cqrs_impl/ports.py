"""The seams of the read/write split. Each is small enough to fake in a page."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from contract.messages import Answer, Command, Event, Position, Query, Readiness


class Placed(NamedTuple):
    """An event at its place in the order of events."""

    position: Position
    event: Event


class Batch(NamedTuple):
    """What a feed gives: events that nothing can come before any more; `more_soon` when others are on their way."""

    events: Sequence[Placed]
    more_soon: bool


class Journal(Protocol):
    """Where a command's event goes inside the command's own transaction."""

    async def record(self, connection: AsyncConnection, event: Event) -> Position:
        """Keep the event, whole with the command or not at all."""
        ...

    async def position_of(self, connection: AsyncConnection, command: Command) -> Position:
        """The place of the last event of the thing that a repeated command is about."""
        ...


class Feed(Protocol):
    """Events in the order of their positions, none skipped, whatever was committed when."""

    async def read(self, after: Position, limit: int) -> Batch: ...
    async def wait(self, timeout_s: float) -> None:
        """Return when there may be news, or after the timeout."""
        ...


class Queries(Protocol):
    async def answer(self, query: Query) -> Answer: ...
    async def readiness(self) -> Readiness: ...
    def in_use(self) -> tuple[int, int]:
        """Database connections (in use, at most)."""
        ...


class Views(Protocol):
    """A read store that follows a feed. Its position moves in the same atomic unit as its data."""

    async def position(self) -> Position: ...
    async def apply(self, batch: Sequence[Placed]) -> Position:
        """Apply what can be applied, ignore what was; returns the position reached, which is before the first
        event that has to wait for one still missing."""
        ...

    async def clear(self) -> None: ...
