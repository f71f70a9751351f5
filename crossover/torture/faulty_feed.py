"""A worker with a faulty feed, run beside the correct worker or in its place.

`python -m crossover.torture.faulty_feed FAULT RUNG WORKER`, configured by the environment. The feed of `second` works;
`duplicate` and `reorder` go back and give events twice or in random order; `poison` makes the registrations of some
customers unreadable. It prints a line at its first read.
"""

import asyncio
import random
import sys
from typing import Any

from contract.messages import CustomerRegistered
from contract.position import Position
from cqrs_impl.ports import Batch, RecordedEvent, Unreadable
from ladder.environment import Environment
from ladder.rung import rung

POISONED = "Mallory"  # customers of this name
EARLIER = 50  # events that it goes back at most


class FaultyFeed:
    def __init__(self, feed: Any, fault: str) -> None:
        self._feed, self._fault = feed, fault
        self._positions: list[Position] = []  # of the latest events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    async def read(self, after: Position, limit: int) -> Batch:
        earlier = [one for one in self._positions if one.history == after.history]
        goes_back = self._fault in ("duplicate", "reorder") and earlier
        batch: Batch = await self._feed.read(random.choice(earlier) if goes_back else after, limit)
        if not self._positions:
            print("reading", flush=True)
        self._positions = [*self._positions, after, *(event.position for event in batch.events)][-EARLIER:]
        events = [poisoned(event) if self._fault == "poison" else event for event in batch.events]
        if self._fault == "duplicate":
            events *= 2
        elif self._fault == "reorder":
            random.shuffle(events)
        return Batch(events, more_soon=batch.more_soon)


def poisoned(recorded: RecordedEvent) -> RecordedEvent:
    event = recorded.event
    if isinstance(event, CustomerRegistered) and event.name.startswith(POISONED):
        return recorded._replace(event=Unreadable(event.stream, event.version, "poisoned for a test"))
    return recorded


def main(fault: str, rung_name: str, worker_name: str) -> None:
    worker: Any = rung(rung_name).workers(Environment())[worker_name]
    worker.feed_through(lambda feed: FaultyFeed(feed, fault))
    asyncio.run(worker.run())


if __name__ == "__main__":
    main(*sys.argv[1:])
