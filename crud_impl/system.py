"""CRUD: one model, one database, for both directions; what was written can be read at once."""

from contract.connections import Reader, Writer
from contract.messages import Command, CommandResult, Query, QueryResult, Readiness
from contract.ports import Clock, recorded_at
from contract.truth import carry_out
from contract.truth_reads import TruthReads


class CrudOrders:
    def __init__(self, writer: Writer, reader: Reader, clock: Clock) -> None:
        self._writer, self._reader, self._clock = writer, reader, clock
        self._reads = TruthReads(reader.rows)

    async def execute(self, command: Command) -> CommandResult:
        now = recorded_at(self._clock, command)
        effect = await self._writer.transact(lambda connection: carry_out(connection, command, now))
        return CommandResult(effect.receipt, effect.created)

    async def answer(self, query: Query) -> QueryResult:
        return await self._reads.answer(query)

    async def readiness(self) -> Readiness:
        await self._reader.rows("SELECT 1", {})
        return Readiness(0, 0.0, 0)

    def pool_use(self) -> tuple[int, int]:
        (writing, writers), (reading, readers) = self._writer.in_use(), self._reader.in_use()
        return writing + reading, writers + readers

    async def close(self) -> None:
        await self._reader.close()
