"""The split itself: one object for commands, another for queries."""

from collections.abc import Awaitable, Callable

from contract.messages import Command, CommandResult, Query, QueryResult, Readiness
from contract.position import Position
from cqrs_impl.commands import Commands
from cqrs_impl.ports import Queries
from crud_impl import system as crud
from crud_impl.connections import Database

Leads = Callable[[Position, Position], Awaitable[bool]]


async def no_history_leads(token: Position, shown: Position) -> bool:
    return False


class CqrsOrders:
    def __init__(
        self, database: Database, commands: Commands, queries: Queries, leads: Leads = no_history_leads
    ) -> None:
        """`leads` is as in `contract.ports.Leading`; only a read side that can lag needs it."""
        self._database, self._commands, self._queries, self.leads = database, commands, queries, leads

    async def execute(self, command: Command) -> CommandResult:
        return await self._commands.execute(command)

    async def answer(self, query: Query) -> QueryResult:
        return await self._queries.answer(query)

    async def readiness(self) -> Readiness:
        return await self._queries.readiness()

    def pool_use(self) -> tuple[int, int]:
        return self._database.in_use()

    async def close(self) -> None:
        await self._database.close()


class WriteModelQueries:
    """Queries over the write model's own tables: separate from the commands in code only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answer(self, query: Query) -> QueryResult:
        return await crud.answer(self._database.rows, query)

    async def readiness(self) -> Readiness:
        await self._database.rows("SELECT 1", {})
        return Readiness(0, 0.0, 0)
