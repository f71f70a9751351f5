"""The seams between the two directions. Each is small enough to fake in a page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from contract.messages import Event, Query, QueryResult, Readiness
from contract.position import Position
from cqrs_impl.checkpoint import Checkpoint
from crud_impl.connections import Transaction

V = TypeVar("V")


# Events on their way


class Unreadable(NamedTuple):
    """What is known of a recorded event whose body cannot be read."""

    stream: str
    version: int
    reason: str


class RecordedEvent(NamedTuple):
    """An event and the position that covers it and all before it."""

    position: Position
    event: Event | Unreadable
    recorded_s: float | None = None  # by the database's clock when the event was written, shortly before its commit


class Batch(NamedTuple):
    """Events that no other event can come before any more; `more_soon` when others are on their way."""

    events: Sequence[RecordedEvent]
    more_soon: bool


class Recorder(Protocol):
    """Where a command's event goes, inside the command's own transaction."""

    async def record(self, transaction: Transaction, event: Event) -> Callable[[], Position]:
        """Keep the event, whole with the command or not at all. Its position is known after the commit."""

    async def latest(self, transaction: Transaction) -> Callable[[], Position]:
        """For a repeat: a position that covers what it did, and none before any that was answered already."""


class Feed(Protocol):
    """Carries events in the order of their positions and skips none. Raises `StoreGone` when it cannot be reached."""

    async def read(self, after: Position, limit: int) -> Batch: ...
    async def wait(self, timeout_s: float) -> None:
        """Return when there may be news, or after the timeout."""

    async def close(self) -> None:
        """Close the connection; the next use opens another."""


class EventLog(Protocol):
    """The events as they were recorded, which are kept. Raises `StoreGone` when it cannot be reached."""

    async def identity(self) -> str:
        """Tells this log from any other."""

    async def count(self) -> int: ...
    async def stream(self, stream: str, version: int, upto: Position) -> Sequence[RecordedEvent]:
        """The events of one stream from a version on, as far as `upto` covers them, in the order of versions."""


class Backlog(Protocol):
    async def behind(self, position: Position) -> tuple[int, float]:
        """How many events a position does not cover, at most about 100,000, and the age of the oldest in seconds."""


# Documents, where the views live


class Documents(Protocol):
    """What the fold reads and changes. A document is found by its kind, which is its type, and an id; a list holds
    entries, which are texts sorted by their code points."""

    async def get(self, kind: type[V], id: str) -> V | None: ...
    def put(self, id: str, document: Struct) -> None: ...
    async def entries(self, name: str) -> Sequence[str]: ...
    def list(self, name: str, entry: str) -> None: ...
    def drop(self, name: str, entry: str) -> None: ...


class DocumentReads(Protocol):
    """What queries ask, each in one round trip: JSON, and the position that it reflects, None where nothing can lag."""

    async def document(self, kind: type, id: str) -> tuple[bytes | None, Position | None]: ...
    async def first(self, name: str, limit: int) -> tuple[Sequence[bytes], Position | None]:
        """The first entries of a list."""

    async def last(self, name: str, limit: int) -> tuple[Sequence[bytes], Position | None]:
        """The last entries of a list, the last one first."""

    async def page(
        self, name: str, before: str | None, limit: int, *, kind: type, id: str
    ) -> tuple[Sequence[bytes] | None, Position | None]:
        """The last entries of a list before a place, the last one first; None if the document does not exist that
        the list belongs to."""

    async def search(self, words: Iterable[str], limit: int) -> tuple[Sequence[bytes], Position | None]:
        """The items of the last entries that all the words' lists hold, the last one first."""

    async def readiness(self) -> Readiness: ...


class Changes(NamedTuple):
    """What one batch of events changes in a store: all of it or nothing."""

    documents: Mapping[str, Struct]  # by key
    lists: Mapping[str, Mapping[str, bool]]  # name → entry → whether it is in the list
    dead_letters: bytes | None  # None leaves them as they are
    ages: bytes  # how long events took from their recording to here


class Contents(NamedTuple):
    """How far a store is, and the dead letters beside its documents."""

    checkpoint: Checkpoint
    dead_letters: bytes | None


class DocumentStore(Protocol):
    """Documents that follow a feed. The checkpoint moves in one atomic unit with them.

    Raises `StoreGone` when it cannot be reached, `AnotherSource` when it follows another log by now.
    """

    async def open(self) -> Contents:
        """From here on, `write` fails if somebody else writes first."""

    async def fetch(self, keys: Mapping[str, type]) -> Mapping[str, Any]:
        """Documents by key, None where there is none."""

    async def entries(self, name: str) -> Sequence[str]: ...
    async def write(self, checkpoint: Checkpoint, changes: Changes) -> bool:
        """False when somebody else wrote first: nothing was changed."""

    async def clear(self) -> None:
        """Empty the store, also under the hands of those who write to it."""


class Queries(Protocol):
    async def answer(self, query: Query) -> QueryResult: ...
    async def readiness(self) -> Readiness: ...
