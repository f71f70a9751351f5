"""What the write model asks of its database, whichever client carries it: `crud_impl.clients` holds the clients.

Connections are kept open, few and alike for every client. The one used last is used first, which keeps few backends
warm. Whoever finds none free in time gets an error, not a queue.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Protocol, TypeVar

import psycopg

from contract.errors import Refusal, StoreGone, Unavailable

T = TypeVar("T")
Rows = Callable[[str, dict[str, Any]], Awaitable[Sequence[Any]]]
"""Runs one statement by itself and returns all its rows."""

SCHEMA = files("crud_impl").joinpath("schema.sql").read_text("utf-8")
SERIALIZATION_FAILURE, DEADLOCK, UNIQUE_VIOLATION = "40001", "40P01", "23505"
COLLISIONS = (SERIALIZATION_FAILURE, DEADLOCK, UNIQUE_VIOLATION)  # two met: the second starts over, and sees the first
TRIES_MAX = 5
CONNECT_TIMEOUT_S = 2


class Transaction(Protocol):
    """Statements of one transaction, in order. What a client sends together is the client's business."""

    async def rows(self, sql: str, **params: Any) -> Sequence[Any]: ...
    async def first(self, sql: str, **params: Any) -> Any:
        """The first row, None if there is none."""

    async def send(self, sql: str, **params: Any) -> Callable[[], Any]:
        """A statement that the next ones do not depend on, so that it may travel with them. Its first row can be had
        when the transaction has committed; its failure is raised by then."""


class Connection(Protocol):
    """One connection, for reading or for writing. Raises psycopg's errors."""

    async def rows(self, sql: str, params: dict[str, Any]) -> Sequence[Any]:
        """One statement by itself."""

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """One transaction, which a failure of `work` rolls back."""

    @property
    def driver(self) -> psycopg.AsyncConnection:
        """The driver's own connection, for LISTEN."""

    async def close(self) -> None: ...


class Connect(Protocol):
    async def __call__(self, *, writing: bool) -> Connection: ...


class Database:
    """The write model's database, with as many connections for reading as for writing."""

    def __init__(self, connect: Connect, *, connections: int, timeout_s: float) -> None:
        self._connect, self._size, self._timeout_s = connect, connections, timeout_s
        self._idle: dict[bool, asyncio.LifoQueue[Connection | None]] = {}
        for writing in (False, True):
            self._idle[writing] = asyncio.LifoQueue()
            for _ in range(connections):
                self._idle[writing].put_nowait(None)  # not opened yet

    async def rows(self, sql: str, params: dict[str, Any]) -> Sequence[Any]:
        """All rows of one statement; `StoreGone` when no connection is free in time or the server is away."""
        async with self._kept(writing=False) as connection:
            return await connection.rows(sql, params)

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in one transaction; again after it met another, at most five times."""
        for attempt in range(TRIES_MAX):
            try:
                async with self._kept(writing=True) as connection:
                    return await connection.transact(work)
            except psycopg.Error as error:
                if error.sqlstate not in COLLISIONS:
                    raise
            await asyncio.sleep(random.uniform(0, 0.005 * 2**attempt))  # jitter, so that two do not meet again
        raise Unavailable("The command kept meeting others; try again.")

    def in_use(self) -> tuple[int, int]:
        """Connections (in use, at most)."""
        return 2 * self._size - sum(idle.qsize() for idle in self._idle.values()), 2 * self._size

    async def close(self) -> None:
        for idle in self._idle.values():
            while not idle.empty():
                if connection := idle.get_nowait():
                    await connection.close()

    @asynccontextmanager
    async def _kept(self, *, writing: bool) -> AsyncIterator[Connection]:
        """A connection of which the last user is known to have had all its answers: an answer that comes late would
        be taken for the next user's, so that one whose statement failed or was cancelled is closed."""
        idle = self._idle[writing]
        connection = idle.get_nowait() if idle.qsize() else await self._wait_for_one(idle)
        sound = False
        try:
            if connection is None:
                connection = await self._connect(writing=writing)
            yield connection
            sound = True
        except Refusal:
            sound = True
            raise
        except psycopg.Error as error:
            sound = error.sqlstate in COLLISIONS
            if sound or not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                raise
            raise StoreGone("The database cannot be asked right now.") from error
        finally:
            if connection is not None and not sound:
                await connection.close()
            idle.put_nowait(connection if sound else None)

    async def _wait_for_one(self, idle: "asyncio.LifoQueue[Connection | None]") -> Connection | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await idle.get()
        except TimeoutError:
            raise StoreGone("All database connections are busy.") from None
