"""Connections to PostgreSQL: single statements on kept connections, and transactions from a pool.

Reads run in autocommit. SQLAlchemy otherwise ends each use of a connection with a ROLLBACK, at which psycopg forgets
its prepared statements, and every read is planned anew: 513 µs instead of 110. The pools are small and do not grow,
there is no ping before use (+260 µs), and whoever finds no free connection in time gets an error, not a queue.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any, TypeVar

from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from contract.errors import StoreGone, Unavailable

T = TypeVar("T")
Rows = Callable[[str, dict[str, Any]], Awaitable[Sequence[Any]]]
"""Runs one statement by itself and returns all its rows."""

SCHEMA = files("crud_impl").joinpath("schema.sql").read_text("utf-8")
SERIALIZATION_FAILURE, DEADLOCK = "40001", "40P01"
TRIES_MAX = 5
CONNECT_TIMEOUT_S = 2


def open_engine(url: str, schema: str, *, connections: int, timeout_s: float, **settings: Any) -> AsyncEngine:
    """An engine whose connections find their tables in `schema`; nothing is opened before first use."""
    options = {"options": f"-c search_path={schema}", "prepare_threshold": 1, "connect_timeout": CONNECT_TIMEOUT_S}
    return create_async_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeout_s,
        connect_args=options,
        **settings,
    )


class Database:
    """The write model's database, with as many connections for reading as for writing."""

    def __init__(
        self, url: str, schema: str, *, connections: int, timeout_s: float, isolation: str = "READ COMMITTED"
    ) -> None:
        self._size, self._timeout_s = connections, timeout_s
        self._reading = open_engine(
            url,
            schema,
            connections=connections,
            timeout_s=timeout_s,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
        )
        self._writing = open_engine(
            url, schema, connections=connections, timeout_s=timeout_s, isolation_level=isolation
        )
        # Returning a connection to SQLAlchemy's pool and taking it again costs as much as a statement, so the readers
        # stay checked out. The one used last is used first, which keeps few backends warm. None: not opened yet.
        self._idle: asyncio.LifoQueue[AsyncConnection | None] = asyncio.LifoQueue()
        for _ in range(connections):
            self._idle.put_nowait(None)

    async def rows(self, sql: str, params: dict[str, Any]) -> Sequence[Any]:
        """All rows of one statement; `StoreGone` when no connection is free in time or the server is away."""
        try:
            connection = self._idle.get_nowait()
        except asyncio.QueueEmpty:
            connection = await self._wait_for_one()
        kept: AsyncConnection | None = None
        try:
            if connection is None:
                connection = await self._reading.connect()
            rows = (await connection.exec_driver_sql(sql, params)).fetchall()
            kept = connection
            return rows
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise StoreGone("The database cannot be asked right now.") from error
        finally:
            if kept is None and connection is not None:
                await _discard(connection)
            self._idle.put_nowait(kept)

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in one transaction; again after a deadlock or serialization failure, at most five times."""
        for attempt in range(TRIES_MAX):
            try:
                async with self._writing.begin() as connection:
                    return await work(connection)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in (SERIALIZATION_FAILURE, DEADLOCK):
                    if isinstance(error, OperationalError | InterfaceError):
                        raise StoreGone("The database cannot be asked right now.") from error
                    raise
            except PoolTimeout as error:
                raise StoreGone("All database connections are busy.") from error
            await asyncio.sleep(random.uniform(0, 0.005 * 2**attempt))  # jitter, so that two do not meet again
        raise Unavailable("The command kept meeting others; try again.")

    def in_use(self) -> tuple[int, int]:
        """Connections (in use, at most)."""
        writing: int = self._writing.pool.checkedout()  # type: ignore[attr-defined]
        return writing + self._size - self._idle.qsize(), 2 * self._size

    async def close(self) -> None:
        while not self._idle.empty():
            if connection := self._idle.get_nowait():
                await connection.close()
        await self._reading.dispose()
        await self._writing.dispose()

    async def _wait_for_one(self) -> AsyncConnection | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._idle.get()
        except TimeoutError:
            raise StoreGone("All database connections are busy.") from None


async def _discard(connection: AsyncConnection) -> None:
    """Never reuse a connection whose statement failed or was cancelled: its next answer could be another's."""
    await connection.invalidate()
    await connection.close()


async def run(connection: AsyncConnection, sql: str, **params: Any) -> None:
    """One statement of a transaction."""
    await connection.exec_driver_sql(sql, params)


async def first(connection: AsyncConnection, sql: str, **params: Any) -> Any:
    """The first row of one statement of a transaction, None if there is none."""
    return (await connection.exec_driver_sql(sql, params)).first()
