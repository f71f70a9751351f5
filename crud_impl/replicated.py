"""CRUD with a streaming standby: the primary executes commands, the standby answers queries.

Whatever is wrong with the standby, and too long a lag, sends reads to the primary. They come back once it has replayed
all that the primary had flushed after that: nobody who was answered by the primary sees the past.
"""

import contextlib

from contract.errors import StoreGone
from contract.messages import Command, CommandResult, Query, QueryResult, Readiness
from contract.ports import Clock
from contract.position import Position
from crud_impl.connections import Database
from crud_impl.standby import Standby, now
from crud_impl.system import CrudOrders


class ReplicatedOrders(CrudOrders):
    def __init__(self, primary: Database, standby: "Standby", clock: Clock) -> None:
        super().__init__(primary, clock)
        self._standby, self._on_primary = standby, 0

    async def execute(self, command: Command) -> CommandResult:
        done = await super().execute(command)
        position = await now(self._database)
        self._standby.committed(position)
        return done._replace(position=position)

    async def answer(self, query: Query) -> QueryResult:
        return await self.answer_at(query, None)

    async def answer_at(self, query: Query, wanted: Position | None) -> QueryResult:
        standby = self._standby
        await standby.watched(self._database)
        if not standby.unused:
            try:
                return await standby.answer(query, wanted)
            except StoreGone as gone:
                if not gone.reason:  # all connections are busy, as on any rung
                    raise
        self._on_primary += 1
        result = await super().answer(query)
        return QueryResult(result.body, await now(self._database))  # taken after it: the standby is not asked earlier

    async def leads(self, token: Position, shown: Position) -> bool:
        return self._standby.leads(token, shown)

    async def readiness(self) -> Readiness:
        standby = self._standby
        await standby.watched(self._database)
        standby.flushed(await now(self._database))
        if not standby.unused:
            with contextlib.suppress(StoreGone):
                await standby.ask_replayed()
        events, lag_s, lag_bytes = standby.lag()
        return Readiness(
            0 if standby.unused else events,  # otherwise reads do not lag
            lag_s,
            0,
            lag_bytes=lag_bytes,
            reads_on_primary=self._on_primary,
            reason=f"Reads go to the primary: {standby.unused}." if standby.unused else None,
        )

    def pool_use(self) -> tuple[int, int]:
        (in_use, size), (reading, both) = super().pool_use(), self._standby.in_use()
        return in_use + reading, size + both // 2  # nobody writes there

    async def close(self) -> None:
        await self._standby.close()
        await super().close()
