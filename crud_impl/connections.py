"""The write model's interface to its database. The clients that implement it are in `crud_impl.clients`.

Connections stay open; there are few, and the same number for every client. The last one used is reused first, which
keeps a few backends warm. A caller that gets no connection within the timeout gets `StoreGone`.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Protocol, TypeVar

import psycopg

from contract.errors import Refusal, StoreGone, Unavailable
from contract.stores import gone
from crud_impl.session import message_of

T = TypeVar("T")
Rows = Callable[[str, dict[str, Any]], Awaitable[Sequence[Any]]]
"""Runs one statement by itself and returns all its rows."""

SCHEMA = files("crud_impl").joinpath("schema.sql").read_text("utf-8")
AWAY = "The database cannot be asked right now."
SERIALIZATION_FAILURE, DEADLOCK, UNIQUE_VIOLATION, READ_ONLY = "40001", "40P01", "23505", "25006"
ORDER_KEYS = ("orders_pkey", "order_lines_pkey")  # two commands that place the same order violate one of these
TRIES_MAX = 5


class Transaction(Protocol):
    """Statements of one transaction, in order. A client may send several of them together."""

    async def rows(self, sql: str, **params: Any) -> Sequence[Any]: ...
    async def first(self, sql: str, **params: Any) -> Any:
        """The first row, None if there is none."""

    async def send(self, sql: str, **params: Any) -> Callable[[], Any]:
        """A statement whose result the next ones do not need, so that a client may send them together. The returned
        function gives its first row after the commit. An error is raised at the commit at the latest."""


class Connection(Protocol):
    """One connection, for reads or for writes. Raises psycopg's errors, and those of the network."""

    async def rows(self, sql: str, params: dict[str, Any]) -> Sequence[Any]:
        """Run one statement outside a transaction and return all its rows."""

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in one transaction; roll back if it fails."""

    @property
    def driver(self) -> psycopg.AsyncConnection:
        """The driver's own connection, for LISTEN."""

    async def close(self) -> None: ...


class Connect(Protocol):
    async def __call__(self, *, writing: bool) -> Connection: ...


class Database:
    """The write model's database, with as many connections for reading as for writing."""

    def __init__(
        self,
        connect: Connect,
        *,
        connections: int,
        timeout_s: float,
        away: str = AWAY,
        keys: Collection[str] = ORDER_KEYS,
    ) -> None:
        """`away` is what clients are told when it cannot be asked. `keys` are the unique keys of which two commands at
        the same time may violate one."""
        self._connect, self._size, self._timeout_s, self._away = connect, connections, timeout_s, away
        self._keys = keys
        self._idle: dict[bool, asyncio.LifoQueue[Connection | None]] = {}
        for writing in (False, True):
            self._idle[writing] = asyncio.LifoQueue()
            for _ in range(connections):
                self._idle[writing].put_nowait(None)  # not opened yet

    async def rows(self, sql: str, params: dict[str, Any]) -> Sequence[Any]:
        """All rows of one statement; `StoreGone` if no connection is free in time or the server cannot be reached."""
        return await self.read(lambda connection: connection.rows(sql, params))

    async def read(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """What `work` reads with one connection, outside a transaction."""
        try:
            async with self._kept(writing=False) as connection:
                return await work(connection)
        except psycopg.Error as error:  # a collision, which a statement alone does not try again
            raise gone(self._away, message_of(error)) from error

    async def transact(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run `work` in one transaction: it gets a `Transaction`, or the ORM's session. After a collision with another
        transaction, try again: five times in all."""
        for attempt in range(TRIES_MAX):
            try:
                async with self._kept(writing=True) as connection:
                    return await connection.transact(work)
            except psycopg.Error as error:
                if not self._collided(error):
                    raise
            await asyncio.sleep(random.uniform(0, 0.005 * 2**attempt))  # jitter, so that the two do not collide again
        raise Unavailable("The command kept meeting others; try again.")

    def idle(self) -> bool:
        """Whether a read would get a connection at once."""
        return self._idle[False].qsize() > 0

    def in_use(self) -> tuple[int, int]:
        """Connections: (in use, maximum)."""
        return 2 * self._size - sum(idle.qsize() for idle in self._idle.values()), 2 * self._size

    async def close(self) -> None:
        for idle in self._idle.values():
            while not idle.empty():
                if connection := idle.get_nowait():
                    await connection.close()

    @asynccontextmanager
    async def _kept(self, *, writing: bool) -> AsyncIterator[Connection]:
        """Lend an idle connection. After a failure other than a refusal or a collision it is closed, because a late
        response could be taken for the response to its next user. Whatever else the database says means that it is
        away: there is no list of what that may be."""
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
        except (psycopg.Error, OSError) as error:
            sqlstate = getattr(error, "sqlstate", None)
            if isinstance(error, psycopg.Error) and self._collided(error):
                sound = True
                raise
            if connection is not None and (connection.driver.closed or sqlstate == READ_ONLY):
                await self._forget()  # the others have probably been closed too, or lead to the same standby
            raise gone(self._away, message_of(error)) from error
        finally:
            if connection is not None and not sound:
                await connection.close()
            idle.put_nowait(connection if sound else None)

    async def _forget(self) -> None:
        """Close all idle connections; each is opened again at its next use."""
        for idle in self._idle.values():
            kept = [idle.get_nowait() for _ in range(idle.qsize())]
            for _ in kept:
                idle.put_nowait(None)
            for connection in filter(None, kept):
                await connection.close()

    async def _wait_for_one(self, idle: "asyncio.LifoQueue[Connection | None]") -> Connection | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await idle.get()
        except TimeoutError:
            raise StoreGone("All database connections are busy.") from None

    def _collided(self, error: psycopg.Error) -> bool:
        """Whether two transactions collided. The second starts over and then sees the first's rows."""
        if error.sqlstate == UNIQUE_VIOLATION:
            return error.diag.constraint_name in self._keys
        return error.sqlstate in (SERIALIZATION_FAILURE, DEADLOCK)
