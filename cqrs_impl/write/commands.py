"""The command side: decide, save the truth and record the event, in one transaction."""

from sqlalchemy.ext.asyncio import AsyncConnection

from contract.connections import Writer
from contract.messages import Command, CommandResult, Event
from contract.ports import Clock, recorded_at
from contract.position import START, Position
from contract.truth import carry_out
from cqrs_impl.ports import Recorder


class Commands:
    def __init__(self, writer: Writer, journal: Recorder, clock: Clock) -> None:
        self._writer, self._journal, self._clock = writer, journal, clock

    async def execute(self, command: Command) -> CommandResult:
        now = recorded_at(self._clock, command)

        async def work(connection: AsyncConnection) -> CommandResult:
            effect = await carry_out(connection, command, now)
            if effect.event is None:
                return CommandResult(effect.receipt, False, await self._journal.latest(connection))
            return CommandResult(effect.receipt, effect.created, await self._journal.record(connection, effect.event))

        return await self._writer.transact(work)

    def in_use(self) -> tuple[int, int]:
        return self._writer.in_use()


class NoRecorder:
    """Nobody follows: the queries read the truth itself."""

    async def record(self, connection: AsyncConnection, event: Event) -> Position:
        return START

    async def latest(self, connection: AsyncConnection) -> Position:
        return START
