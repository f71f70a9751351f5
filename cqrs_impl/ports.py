"""The ports between the command side and the query side. Each is small enough for a fake of one page."""

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


class Unshown(NamedTuple):
    """An event that changes no view: only commands read it."""

    stream: str
    version: int


class Heartbeat(NamedTuple):
    """No event. A feed of some of the events tells so that up to here there are none but those it has given."""

    stream: str = ""
    version: int = 0


class RecordedEvent(NamedTuple):
    """An event and its position, which covers it and all events before it."""

    position: Position
    event: Event | Unreadable | Unshown | Heartbeat
    recorded_s: float | None = None  # by the database's clock when the row was written, shortly before the commit
    counted: int | None = None  # how many events of the log the position covers, where the feed gives only some


class Batch(NamedTuple):
    """Events in feed order; none can still appear before them. `more_soon`: more can be read without waiting long."""

    events: Sequence[RecordedEvent]
    more_soon: bool


class Recorder(Protocol):
    """Records a command's event inside the command's own transaction."""

    async def record(self, transaction: Transaction, event: Event) -> Callable[[], Position]:
        """Record the event: it commits or rolls back with the command. Its position is known after the commit."""

    async def latest(self, transaction: Transaction) -> Callable[[], Position]:
        """For a repeat: a position that covers the original command and every position returned so far."""


class Feed(Protocol):
    """Delivers events in the order of their positions and skips none. Raises `StoreGone` if it cannot be reached."""

    async def read(self, after: Position, limit: int) -> Batch:
        """Events of the present history; `AnotherHistory` if `after` is not one of its positions, which the log can
        then be asked to make of it. Noticed with each read, as a database can be restored under its readers."""

    async def wait(self, timeout_s: float) -> None:
        """Return when there may be new events, or after the timeout."""

    async def close(self) -> None:
        """Close the connection; the next use opens another."""


class Histories(Protocol):
    """What a log knows of its past."""

    async def history(self, position: Position, counted: int | None = None) -> str:
        """The id of the present history if the position leads to it: it is of this history or of an earlier one before
        it ended, its event is there and, if the reader has counted, as many events up to it. Else `AnotherHistory`."""


class EventLog(Histories, Protocol):
    """All events as they were recorded. Raises `StoreGone` if it cannot be reached."""

    async def present(self) -> str:
        """The id of the present history, which no other log has, nor this one after it lost events."""

    async def count(self, upto: Position | None = None) -> int:
        """How many events there are, or how many of them a position covers."""

    async def reserve(self) -> None:
        """Be the only one that rebuilds beside a projector, as long as this connection lasts. `WorkerError` if there
        is another, or if no projector reads this log."""

    async def stream(self, stream: str, version: int, upto: Position) -> Sequence[RecordedEvent]:
        """The events of one stream, from `version` on, that `upto` covers; ordered by version."""


class FeedOfLog(Feed, EventLog, Protocol):
    """A feed that is the log itself, such as that of the outbox."""


class Backlog(Histories, Protocol):
    async def behind(self, position: Position, counted: int | None = None) -> tuple[int, float]:
        """How many events a position does not cover (counted up to about 100,000); the age of the oldest in seconds.
        `AnotherHistory` as from `history`."""


# Documents, where the views live


class Documents(Protocol):
    """What the fold reads and changes. A document has a kind (its type) and an id. A list holds text entries, sorted
    by code point."""

    async def get(self, kind: type[V], id: str) -> V | None: ...
    def put(self, id: str, document: Struct) -> None: ...
    async def entries(self, name: str) -> Sequence[str]: ...
    def list(self, name: str, entry: str) -> None: ...
    def drop(self, name: str, entry: str) -> None: ...


class DocumentReads(Protocol):
    """The reads of queries, one round trip each: JSON and the position it reflects, None where nothing can lag."""

    async def document(self, kind: type, id: str) -> tuple[bytes | None, Position | None]: ...
    async def first(self, name: str, limit: int) -> tuple[Sequence[bytes], Position | None]:
        """The first entries of a list."""

    async def last(self, name: str, limit: int) -> tuple[Sequence[bytes], Position | None]:
        """The last entries of a list, last first."""

    async def page(
        self, name: str, before: str | None, limit: int, *, kind: type, id: str
    ) -> tuple[Sequence[bytes] | None, Position | None]:
        """The last entries of a list below `before`, last first. None if the document that owns the list does not
        exist."""

    async def search(self, words: Iterable[str], limit: int) -> tuple[Sequence[bytes], Position | None]:
        """The items of the last entries that are in the lists of all words, last first."""

    async def readiness(self) -> Readiness: ...


class Changes(NamedTuple):
    """What one batch of events changes in a store, all or nothing."""

    documents: Mapping[str, Struct]  # by key
    lists: Mapping[str, Mapping[str, bool]]  # name → entry → whether it is in the list
    dead_letters: bytes | None  # None leaves them as they are
    ages: bytes | None  # histogram of the time from recording to applying; None leaves it as it is


class Contents(NamedTuple):
    """The checkpoint of a store, and its dead letters."""

    checkpoint: Checkpoint
    dead_letters: bytes | None


class DocumentSource(Protocol):
    """What documents are changed on top of."""

    async def fetch(self, keys: Mapping[str, type]) -> Mapping[str, Any]:
        """Documents by key, None where there is none."""

    async def entries(self, name: str) -> Sequence[str]: ...


class DocumentStore(DocumentSource, Protocol):
    """Stores documents built from a feed, and writes the checkpoint atomically with them.

    Raises `StoreGone` if it cannot be reached. Whether its checkpoint is one of the log's is for the reader to ask.
    """

    async def open(self) -> Contents:
        """Read the contents. The next `write` fails if another process writes in between."""

    async def write(self, checkpoint: Checkpoint, changes: Changes) -> bool:
        """False if another process wrote in between: nothing was changed."""

    async def clear(self) -> None:
        """Empty the store, even while others write to it."""

    def beside(self, log: EventLog) -> "NextVersion":
        """The next version of the documents, which begins with none."""

    async def close(self) -> None: ...


class NextVersion(DocumentStore, Protocol):
    """Documents that are built beside those that answer, until they take their place."""

    async def begin(self) -> int:
        """Go on with what others have left if this program has begun it, else drop it and begin. Returns how many
        events are shown already; `WorkerError` if there are no documents that answer."""

    async def switch(self) -> bool:
        """Let these documents answer from now on, in one step for all readers and projectors. False if they do not
        show all yet that the others do, which then stand still for a moment, so that these catch up even under steady
        commands. If they never will they are dropped: `WorkerError`."""

    async def drop(self) -> None:
        """Delete the documents that do not answer."""


class Queries(Protocol):
    async def answer(self, query: Query) -> QueryResult: ...
    async def readiness(self) -> Readiness: ...
