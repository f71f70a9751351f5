"""The command side: decide, save the write model and record the event, in one transaction."""

from collections.abc import Callable
from datetime import datetime

from contract.messages import Command, CommandResult, Event
from contract.ports import Clock, recorded_at
from contract.position import START, Position
from cqrs_impl.ports import Recorder
from crud_impl.connections import Database, Transaction
from crud_impl.effect import Effect
from crud_impl.system import execute


class Commands:
    def __init__(self, database: Database, recorder: Recorder, clock: Clock) -> None:
        self._database, self._recorder, self._clock = database, recorder, clock

    async def execute(self, command: Command) -> CommandResult:
        now = recorded_at(self._clock, command)
        effect, position = await self._database.transact(lambda transaction: self.write(transaction, command, now))
        return CommandResult(effect.receipt, effect.created, position())

    async def write(
        self, transaction: Transaction, command: Command, now: datetime
    ) -> tuple[Effect, Callable[[], Position]]:
        """In the caller's transaction; the position is known after its commit."""
        effect = await execute(transaction, command, now)
        if effect.event is None:
            return effect, await self._recorder.latest(transaction)
        return effect, await self._recorder.record(transaction, effect.event)


class NoRecorder:
    """Records nothing: the queries read the write model itself."""

    async def record(self, transaction: Transaction, event: Event) -> Callable[[], Position]:
        return lambda: START

    async def latest(self, transaction: Transaction) -> Callable[[], Position]:
        return lambda: START
