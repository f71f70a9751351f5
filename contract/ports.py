"""The one door every rung of the ladder must offer."""

from collections.abc import Callable
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


class Worker(Protocol):
    """Background work that a rung needs, run as a process of its own so that its CPU is counted."""

    name: str

    async def run(self) -> None:
        """Work until cancelled."""
        ...
