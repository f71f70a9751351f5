"""The ORM's system: a session per request, on a connection that stays open between requests, as on the other rungs."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from contract.messages import Command, CommandResult, Query, QueryResult
from contract.ports import recorded_at
from crud_impl.clients.idiomatic import SqlAlchemy, SqlAlchemyConnection, drivers_errors
from crud_impl.connections import T
from crud_impl.orm.commands import execute
from crud_impl.orm.queries import answer
from crud_impl.system import CrudOrders, result_of


class Sessions:
    """Opens connections for a `Database` whose work gets a session instead of a transaction."""

    def __init__(self, connect: SqlAlchemy) -> None:
        self._connect = connect

    async def __call__(self, *, writing: bool) -> "OrmConnection":
        return OrmConnection(await self._connect(writing=writing))


class OrmConnection:
    def __init__(self, connection: SqlAlchemyConnection) -> None:
        self._bind = connection.sqlalchemy
        self.driver, self.rows, self.close = connection.driver, connection.rows, connection.close

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Nothing is read after the commit, so that nothing has to be loaded again."""
        with drivers_errors():
            async with AsyncSession(self._bind, expire_on_commit=False) as session:
                yield session

    async def transact(self, work: Callable[[Any], Awaitable[T]]) -> T:
        async with self.session() as session, session.begin():
            return await work(session)


class OrmOrders(CrudOrders):
    """`CrudOrders` over a `Database` of `Sessions`."""

    async def execute(self, command: Command) -> CommandResult:
        now = recorded_at(self._clock, command)
        effect = await self._database.transact(lambda session: execute(session, command, now))
        return CommandResult(effect.receipt, effect.created)

    async def answer(self, query: Query) -> QueryResult:
        async def work(connection: OrmConnection) -> Any:
            async with connection.session() as session:
                return await answer(session, query)

        return result_of(await self._database.read(work))
