"""Connections to PostgreSQL, alike on every rung: kept ones for reading, transactions for writing."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from contract.errors import Unavailable

T = TypeVar("T")
Params = dict[str, Any]

SERIALIZATION_FAILURE, DEADLOCK = "40001", "40P01"
TRIES_MAX = 5


class Reader:
    """Runs single statements on a few connections that stay checked out.

    Handing a connection back to SQLAlchemy's pool and asking for it again costs about as much as the statement
    itself, so the reader keeps its own; an idle one used last is used first, which keeps the backends warm.
    """

    def __init__(self, engine: AsyncEngine, *, connections: int, timeout_s: float) -> None:
        self._engine, self._size, self._timeout_s = engine, connections, timeout_s
        self._idle: asyncio.LifoQueue[AsyncConnection | None] = asyncio.LifoQueue()
        for _ in range(connections):
            self._idle.put_nowait(None)  # opened when first needed

    async def rows(self, sql: str, params: Params) -> Sequence[Any]:
        """All rows of one statement; `Unavailable` when no connection is free in time or the server is gone."""
        try:
            connection = self._idle.get_nowait()
        except asyncio.QueueEmpty:
            connection = await self._wait_for_one()
        kept: AsyncConnection | None = None
        try:
            if connection is None:
                connection = await self._engine.connect()
            rows = (await connection.exec_driver_sql(sql, params)).fetchall()
            kept = connection
            return rows
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise Unavailable("The database cannot be asked right now.") from error
        finally:
            if kept is None and connection is not None:
                await _discard(connection)
            self._idle.put_nowait(kept)

    async def _wait_for_one(self) -> AsyncConnection | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._idle.get()
        except TimeoutError:
            raise Unavailable("All database connections are busy.") from None

    def in_use(self) -> tuple[int, int]:
        return self._size - self._idle.qsize(), self._size

    async def close(self) -> None:
        while not self._idle.empty():
            if connection := self._idle.get_nowait():
                await connection.close()


async def _discard(connection: AsyncConnection) -> None:
    """Never reuse a connection whose statement failed or was cancelled: its next answer could be another's."""
    await connection.invalidate()
    await connection.close()


class Writer:
    """Runs a unit of work in one transaction, again after a deadlock or serialization failure, at most five times."""

    def __init__(self, engine: AsyncEngine, *, connections: int) -> None:
        self._engine, self._size = engine, connections

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        for attempt in range(TRIES_MAX):
            try:
                async with self._engine.begin() as connection:
                    return await work(connection)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in (SERIALIZATION_FAILURE, DEADLOCK):
                    if isinstance(error, (OperationalError, InterfaceError)):
                        raise Unavailable("The database cannot be asked right now.") from error
                    raise
            except PoolTimeout as error:
                raise Unavailable("All database connections are busy.") from error
            await asyncio.sleep(random.uniform(0, 0.005 * 2**attempt))  # jitter, so that two do not meet again
        raise Unavailable("The command kept meeting others; try again.")

    def in_use(self) -> tuple[int, int]:
        pool = self._engine.pool
        return pool.checkedout(), self._size  # type: ignore[attr-defined]
