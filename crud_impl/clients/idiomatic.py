"""SQLAlchemy Core over psycopg: its engines, connections and transactions; the connections are kept by `Database`.

Reads run in autocommit. By default SQLAlchemy ends each use of a connection with a ROLLBACK, and psycopg then discards
its prepared statements: every read is planned again, 513 µs instead of 110. No ping before use: it would add 260 µs.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import NullPool
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from crud_impl.connections import T, Transaction
from crud_impl.session import address_of, open_session


def open_engine(url: str, schema: str, *, standby: bool = False, **settings: Any) -> AsyncEngine:
    """An engine whose connections find their tables in `schema`. It connects at first use. SQLAlchemy does not parse
    the address: it knows neither a socket in the host part nor several hosts."""
    address = address_of(url)

    async def connect() -> psycopg.AsyncConnection:
        driver = await open_session(address, schema, standby=standby)
        await driver.set_autocommit(False)  # how SQLAlchemy expects one
        return driver

    return create_async_engine("postgresql+psycopg://", async_creator=connect, **settings)


class SqlAlchemy:
    """Opens connections for a `Database`, which pools them: SQLAlchemy's own pool costs as much as a statement for
    each checkout."""

    def __init__(self, url: str, schema: str, *, isolation: str, standby: bool = False) -> None:
        self._engine = open_engine(url, schema, standby=standby, poolclass=NullPool)
        self._isolation = isolation

    async def __call__(self, *, writing: bool) -> "SqlAlchemyConnection":
        isolation = self._isolation if writing else "AUTOCOMMIT"
        engine = self._engine.execution_options(isolation_level=isolation)
        with drivers_errors():
            connection = await engine.connect()
            return SqlAlchemyConnection(connection, await connection.get_raw_connection())


class SqlAlchemyConnection:
    def __init__(self, connection: AsyncConnection, raw: Any) -> None:
        self.sqlalchemy = self._connection = connection
        self.driver: psycopg.AsyncConnection = raw.driver_connection

    async def rows(self, sql: str, params: dict[str, Any]) -> Sequence[Any]:
        with drivers_errors():
            result = await self._connection.exec_driver_sql(sql, params)
            return result.fetchall() if result.returns_rows else ()

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        with drivers_errors():
            async with self._connection.begin():
                return await work(SqlAlchemyTransaction(self._connection))

    async def close(self) -> None:
        await self._connection.invalidate()  # works even if the server hangs
        await self._connection.close()


class SqlAlchemyTransaction:
    """Each statement is a round trip."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def rows(self, sql: str, **params: Any) -> Sequence[Any]:
        return (await self._connection.exec_driver_sql(sql, params)).fetchall()

    async def first(self, sql: str, **params: Any) -> Any:
        return (await self._connection.exec_driver_sql(sql, params)).first()

    async def send(self, sql: str, **params: Any) -> Callable[[], Any]:
        result = await self._connection.exec_driver_sql(sql, params)
        row = result.first() if result.returns_rows else None
        return lambda: row


@contextmanager
def drivers_errors() -> Iterator[None]:
    """Raise psycopg's error instead of SQLAlchemy's wrapper; if it wraps none, an OperationalError."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise cause if isinstance(cause, psycopg.Error) else psycopg.OperationalError(str(cause)) from error
