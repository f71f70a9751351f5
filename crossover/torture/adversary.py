"""A second projector whose feed lies: it delivers everything twice, or in any order, and keeps going back.

`python -m crossover.torture.adversary duplicate|reorder RUNG`, told everything else by the environment.
"""

import asyncio
import random
import sys

from contract.position import Position
from cqrs_impl.feeds.outbox.feed import OutboxFeed
from cqrs_impl.ports import Batch
from cqrs_impl.projector import Projector
from ladder.environment import Environment
from ladder.rung import rung as rung_of
from servers.postgres import POSTGRES


class LyingFeed(OutboxFeed):
    """Batches of the right feed from up to 50 transactions earlier, doubled or shuffled."""

    lie = "duplicate"

    async def read(self, after: Position, limit: int) -> Batch:
        ((transaction, _),) = after
        earlier = ((max(0, transaction - random.randrange(50)), 0),)
        batch = await super().read(earlier, limit)
        events = list(batch.events) * (2 if self.lie == "duplicate" else 1)
        if self.lie == "reorder":
            random.shuffle(events)
        return Batch(events, more_soon=batch.more_soon)


def main(lie: str, rung: str) -> None:
    env = Environment.from_environ()
    LyingFeed.lie = lie
    for worker in rung_of(rung).workers(env).values():
        if isinstance(worker, Projector):
            worker._feed = LyingFeed(env.url(POSTGRES), env.namespace)
            asyncio.run(worker.run())


if __name__ == "__main__":
    main(*sys.argv[1:])
