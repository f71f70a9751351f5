"""The doors of a system: what each rung must offer, and what it is offered."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Protocol

from contract.messages import Command, CommandResult, PlaceOrder, Query, QueryResult, Readiness, Transition

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def recorded_at(clock: Clock, command: Command) -> datetime:
    """The time a command is recorded with, read once; only what happens to orders is recorded with a time."""
    return clock() if isinstance(command, PlaceOrder | Transition) else datetime.min


class OrderSystem(Protocol):
    async def execute(self, command: Command) -> CommandResult:
        """Carry out a command, or recognise it as a repeat; raises a `Refusal` otherwise."""
        ...

    async def answer(self, query: Query) -> QueryResult:
        """Answer from what is known now; raises `Unavailable` when a store cannot be asked."""
        ...

    async def readiness(self) -> Readiness:
        """Computed when asked; zeros where nothing can lag. Raises `Unavailable` when a store is gone."""
        ...

    def pool_use(self) -> tuple[int, int]:
        """Database connections (in use, at most)."""
        ...

    async def close(self) -> None:
        """Close the connections of the system; it is not used afterwards."""
        ...


class Worker(Protocol):
    """Background work that a rung needs, run as a process of its own so that its CPU is counted."""

    name: str

    async def run(self) -> None:
        """Work until cancelled."""
        ...


# (id, customer's id, lines of (product's id, pieces), what happened after it was placed, age in µs at the data's end)
OrderRow = tuple[str, str, tuple[tuple[str, int], ...], tuple[str, ...], int]


class DataSet(Protocol):
    """The data that a rung loads before it serves. It gives the same rows whenever it is asked."""

    @property
    def seed(self) -> int: ...
    @property
    def size(self) -> tuple[int, int, int]:
        """How many customers, products and orders."""
        ...

    def customer_id(self, index: int) -> str:
        """Depends on seed and index alone; the customer at `size` tells a larger data set of the same seed."""
        ...

    def order_id(self, index: int) -> str: ...
    def customers(self) -> Iterator[tuple[str, str]]:
        """(id, name)"""
        ...

    def products(self) -> Iterator[tuple[str, str, int, int]]:
        """(id, name, price in cents, stock)"""
        ...

    def orders(self) -> Iterator[OrderRow]:
        """Oldest first."""
        ...
