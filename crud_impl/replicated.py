"""CRUD with streaming standbys: the primary executes commands, the standbys answer queries in turn.

Whatever is wrong with a standby, and too long a lag, sends its reads to the others, and from the last to the primary.
They come back once it has replayed all that the primary had flushed after that: nobody who was answered by the primary
sees the past.
"""

import contextlib
from collections.abc import Sequence

from contract.errors import StoreGone
from contract.messages import Command, CommandResult, Query, QueryResult, Readiness
from contract.ports import Clock
from contract.position import Position
from crud_impl.connections import Database
from crud_impl.standby import Standby, now
from crud_impl.system import CrudOrders


class ReplicatedOrders(CrudOrders):
    def __init__(self, primary: Database, standbys: Sequence[Standby], clock: Clock) -> None:
        super().__init__(primary, clock)
        self._standbys, self._turn, self._on_primary = standbys, 0, 0

    async def execute(self, command: Command) -> CommandResult:
        done = await super().execute(command)
        position = await now(self._database)
        for standby in self._standbys:
            standby.committed(position)
        return done._replace(position=position)

    async def answer(self, query: Query, wanted: Position | None = None) -> QueryResult:
        usable = await self._usable()
        self._turn += 1
        for place in range(len(usable)):
            standby = usable[(self._turn + place) % len(usable)]
            try:
                return await standby.answer(query, wanted)
            except StoreGone as gone:
                if not (gone.reason or standby.unused):  # all connections are busy, as on any rung
                    raise
        self._on_primary += 1
        result = await super().answer(query)
        return QueryResult(result.body, await now(self._database))  # taken after it: the standby is not asked earlier

    answer_at = answer

    async def leads(self, token: Position, shown: Position) -> bool:
        return any(standby.leads(token, shown) for standby in self._standbys)

    async def _usable(self) -> list[Standby]:
        for standby in self._standbys:
            await standby.watched(self._database)
        return [standby for standby in self._standbys if not standby.unused]

    async def readiness(self) -> Readiness:
        """The longest lag of the standbys that are read from; if none is, of all."""
        asked = await self._usable()
        flushed = await now(self._database)
        for standby in self._standbys:
            standby.flushed(flushed)
        for standby in asked:
            with contextlib.suppress(StoreGone):
                await standby.ask_replayed()
        usable = [standby for standby in self._standbys if not standby.unused]
        events, lags_s, lags_bytes = zip(*[standby.lag() for standby in usable or self._standbys], strict=True)
        return Readiness(
            max(events) if usable else 0,  # otherwise reads do not lag
            max(lags_s),
            0,
            lag_bytes=max(lags_bytes),
            reads_on_primary=self._on_primary,
            reason=self._reason(to="the other standbys" if usable else "the primary"),
        )

    def _reason(self, *, to: str) -> str | None:
        several = len(self._standbys) > 1
        why = [f"{one.name}: {one.unused}" if several else one.unused for one in self._standbys if one.unused]
        return f"Reads go to {to}: {'; '.join(why)}." if why else None

    def pool_use(self) -> tuple[int, int]:
        in_use, size = super().pool_use()
        for standby in self._standbys:
            reading, both = standby.in_use()
            in_use, size = in_use + reading, size + both // 2  # nobody writes there
        return in_use, size

    async def close(self) -> None:
        for standby in self._standbys:
            await standby.close()
        await super().close()
