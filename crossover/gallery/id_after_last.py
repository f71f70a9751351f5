"""Polling the outbox by `id > last`.

A sequence number is taken when the row is written, but the row is seen when its transaction commits. Number 7 may
commit before number 6; a reader that has seen 7 then asks for `id > 7`, and 6 is passed over forever. With one writer
at a time this cannot happen, which is why small tests never see it.

The remedy gives a row only once every transaction that could still write before it has ended: those below the
snapshot's xmin. Horizon and rows come from one statement, hence from one snapshot.
"""

import asyncio
from collections.abc import Callable
from random import uniform

import msgspec

from contract.messages import Event, RegisterCustomer
from contract.position import BEGINNING, Position
from cqrs_impl.feeds.outbox.feed import READ, OutboxFeed
from cqrs_impl.feeds.outbox.recorder import Outbox
from cqrs_impl.ports import Batch, RecordedEvent
from crossover.gallery.environment import DemoEnvironment, Evidence, crowd, fresh_id
from crud_impl.connections import Transaction
from ladder.connections import connect

WRITERS, EACH = 4, 60


class Polling(OutboxFeed):
    async def read(self, after: Position, limit: int) -> Batch:
        ((_, sequence),) = after.components
        rows = await self._rows(
            "SELECT id, body FROM outbox WHERE id > %(id)s ORDER BY id LIMIT %(limit)s", id=sequence, limit=limit
        )
        found = [RecordedEvent(Position(((0, id),)), msgspec.json.decode(body, type=Event)) for id, body in rows]
        return Batch(found, more_soon=bool(found))


WRONG, RIGHT, SHOWN = Polling, OutboxFeed, READ


class BusyOutbox(Outbox):
    """As in real commands, something is still to be done between the outbox row and the commit."""

    async def record(self, transaction: Transaction, event: Event) -> Callable[[], Position]:
        position = await super().record(transaction, event)
        await asyncio.sleep(uniform(0, 0.01))
        return position


async def show(env: DemoEnvironment, feed_class: type[OutboxFeed]) -> Evidence:
    feed, seen = feed_class(connect(env.ladder), env.namespace), 0
    at = Position(BEGINNING, await feed.present())
    execute = env.commands(BusyOutbox(env.namespace)).execute
    writing = asyncio.ensure_future(crowd(WRITERS, EACH, lambda _: execute(RegisterCustomer(fresh_id(), "Ann"))))
    while True:
        quiet = writing.done()
        batch = await feed.read(at, 100)
        seen += len(batch.events)
        at = batch.events[-1].position if batch.events else at
        if quiet and not batch.events and not batch.more_soon:
            break
    await writing
    await feed.close()
    return Evidence(WRITERS * EACH - seen, WRITERS * EACH, "events never seen by the reader")
