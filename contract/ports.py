"""The interfaces of a system: what every rung implements, and the data set it loads."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from contract.messages import (
    AsOf,
    BestOrders,
    Command,
    CommandResult,
    GetEvents,
    PlaceOrder,
    Query,
    QueryResult,
    Readiness,
    Transition,
)
from contract.position import Position

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def recorded_at(clock: Clock, command: Command) -> datetime:
    """The time to record with a command. Only commands about orders have one, so only they read the clock."""
    return clock() if isinstance(command, PlaceOrder | Transition) else datetime.min


class OrderSystem(Protocol):
    async def execute(self, command: Command) -> CommandResult:
        """Execute a command, or recognise it as a repeat; raises a `Refusal` otherwise."""

    async def answer(self, query: Query) -> QueryResult:
        """Answer from the current state; raises `Unavailable` if a store cannot be reached."""

    async def readiness(self) -> Readiness:
        """Measured on each call; zeros where nothing can lag. Raises `Unavailable` if a store cannot be reached."""

    def pool_use(self) -> tuple[int, int]:
        """Database connections: (in use, maximum)."""

    async def close(self) -> None:
        """Close the connections. The system is not used afterwards."""


@runtime_checkable
class Leading(Protocol):
    """A system that gives tokens of several histories, and can tell which lead to which. Asked for by isinstance."""

    async def leads(self, token: Position, shown: Position) -> bool:
        """Whether a token of another history leads to that of an answer's position, so that both can be compared."""


@runtime_checkable
class Following(Protocol):
    """A system that can use what position an answer must reflect. Asked for by isinstance."""

    async def answer_at(self, query: Query, wanted: Position) -> QueryResult:
        """As `answer`. The answer of a position before the wanted one is not looked at."""


@runtime_checkable
class TimeTravel(Protocol):
    """A system that can answer as it would have answered before. Asked for by isinstance."""

    async def answer_as_of(self, asked: AsOf) -> QueryResult:
        """Without a body at a version that never was, or before the first event."""


@runtime_checkable
class Audit(Protocol):
    """A system that shows what it recorded. Asked for by isinstance."""

    async def events_of(self, asked: GetEvents) -> QueryResult:
        """The events of an order as an `EventsView`."""


@runtime_checkable
class RankedSearch(Protocol):
    """A system that finds what fits words best, not only what holds all of them. Asked for by isinstance."""

    async def best(self, asked: BestOrders) -> QueryResult:
        """The best first, as `RankedOrders`."""


CAPABILITIES: Mapping[str, type] = {"time-travel": TimeTravel, "audit": Audit, "ranked-search": RankedSearch}
"""What only some systems can do, by the names of the contract."""


class Worker(Protocol):
    """Background work that a rung needs, run as a process of its own so that its CPU is counted."""

    name: str

    async def run(self) -> None:
        """Work until cancelled."""


# (id, customer's id, lines of (product's id, pieces), what happened after it was placed, age in µs at the data's end)
OrderRow = tuple[str, str, tuple[tuple[str, int], ...], tuple[str, ...], int]


class DataSet(Protocol):
    """The data that a rung loads before it serves. Every iteration yields the same rows."""

    @property
    def seed(self) -> int: ...
    @property
    def size(self) -> tuple[int, int, int]:
        """How many customers, products and orders."""

    def customer_id(self, index: int) -> str:
        """Depends on seed and index alone; the customer at `size` tells a larger data set of the same seed."""

    def order_id(self, index: int) -> str: ...
    def customers(self) -> Iterator[tuple[str, str]]:
        """(id, name)"""

    def products(self) -> Iterator[tuple[str, str, int, int]]:
        """(id, name, price in cents, stock)"""

    def orders(self) -> Iterator[OrderRow]:
        """Oldest first."""
