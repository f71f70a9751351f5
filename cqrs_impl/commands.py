"""The command side: decide, save the write model and record the event, in one transaction."""

from sqlalchemy.ext.asyncio import AsyncConnection

from contract.messages import Command, CommandResult, Event
from contract.ports import Clock, recorded_at
from contract.position import START, Position
from cqrs_impl.ports import Recorder
from crud_impl.connections import Database
from crud_impl.system import execute


class Commands:
    def __init__(self, database: Database, recorder: Recorder, clock: Clock) -> None:
        self._database, self._recorder, self._clock = database, recorder, clock

    async def execute(self, command: Command) -> CommandResult:
        now = recorded_at(self._clock, command)

        async def work(connection: AsyncConnection) -> CommandResult:
            effect = await execute(connection, command, now)
            if effect.event is None:
                return CommandResult(effect.receipt, False, await self._recorder.latest(connection))
            return CommandResult(effect.receipt, effect.created, await self._recorder.record(connection, effect.event))

        return await self._database.transact(work)


class NoRecorder:
    """Nobody follows: the queries read the write model itself."""

    async def record(self, connection: AsyncConnection, event: Event) -> Position:
        return START

    async def latest(self, connection: AsyncConnection) -> Position:
        return START
