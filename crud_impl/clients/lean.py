"""psycopg alone, in pipeline mode: statements are sent together until one needs a result. A command that reads once
and then writes takes two round trips, BEGIN and COMMIT included."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from contract.errors import Refusal
from crud_impl.connections import T, Transaction
from crud_impl.session import address_of, open_session


class Psycopg:
    """Opens connections for a `Database`."""

    def __init__(self, url: str, schema: str, *, isolation: str, standby: bool = False) -> None:
        self._address, self._schema, self._standby = address_of(url), schema, standby
        self._begin = f"BEGIN ISOLATION LEVEL {isolation}"

    async def __call__(self, *, writing: bool) -> "PsycopgConnection":
        return PsycopgConnection(await open_session(self._address, self._schema, standby=self._standby), self._begin)


class PsycopgConnection:
    def __init__(self, driver: psycopg.AsyncConnection, begin: str) -> None:
        self.driver, self._begin = driver, begin

    async def rows(self, sql: str, params: dict[str, Any]) -> Sequence[Any]:
        cursor = await self.driver.execute(sql, params)
        return await cursor.fetchall() if cursor.rownumber is not None else ()  # `description` costs more than the rows

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        transaction = PsycopgTransaction(self.driver)
        try:
            async with self.driver.pipeline():
                await self.driver.execute(self._begin)
                result = await work(transaction)
                await self.driver.execute("COMMIT")
        except (Refusal, psycopg.Error):
            await self.driver.rollback()
            raise
        await transaction.receive()
        return result

    async def close(self) -> None:
        await self.driver.close()


class PsycopgTransaction:
    def __init__(self, driver: psycopg.AsyncConnection) -> None:
        self._driver = driver
        self._sent: list[tuple[psycopg.AsyncCursor[TupleRow], list[Any]]] = []

    async def rows(self, sql: str, **params: Any) -> Sequence[Any]:
        return await (await self._driver.execute(sql, params)).fetchall()

    async def first(self, sql: str, **params: Any) -> Any:
        return await (await self._driver.execute(sql, params)).fetchone()

    async def send(self, sql: str, **params: Any) -> Callable[[], Any]:
        row: list[Any] = []
        self._sent.append((await self._driver.execute(sql, params), row))
        return lambda: row[0]

    async def receive(self) -> None:
        """Fetch the first rows of the sent statements; their results have arrived once the transaction has ended."""
        for cursor, row in self._sent:
            if cursor.rownumber is not None:
                row.append(await cursor.fetchone())
