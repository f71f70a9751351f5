"""The split itself: one object for commands, another for queries."""

from contract.messages import Command, CommandResult, Query, QueryResult, Readiness
from cqrs_impl.ports import Queries
from cqrs_impl.write.commands import Commands


class Split:
    def __init__(self, commands: Commands, queries: Queries) -> None:
        self._commands, self._queries = commands, queries

    async def execute(self, command: Command) -> CommandResult:
        return await self._commands.execute(command)

    async def answer(self, query: Query) -> QueryResult:
        return await self._queries.answer(query)

    async def readiness(self) -> Readiness:
        return await self._queries.readiness()

    def pool_use(self) -> tuple[int, int]:
        (writing, writers), (reading, readers) = self._commands.in_use(), self._queries.in_use()
        return writing + reading, writers + readers

    async def close(self) -> None:
        """Nothing to do: the environment closes the connections that it handed out."""
