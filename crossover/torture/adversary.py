"""A second projector whose feed lies: it delivers everything twice, or in any order, and keeps going back.

`python -m crossover.torture.adversary duplicate|reorder RUNG`, told everything else by the environment.
"""

import asyncio
import random
import sys

from contract.position import Position
from cqrs_impl.carry.outbox_feed import OutboxFeed
from cqrs_impl.ports import Batch
from cqrs_impl.projector import Projector
from ladder.environment import Environment
from ladder.rungs import rung_module


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
    assert env.database_url, "an adversary is started with the environment of a projector"
    LyingFeed.lie = lie
    for worker in rung_module(rung).build(env).workers:
        if isinstance(worker, Projector):
            worker._feed = LyingFeed(env.database_url, env.namespace)
            asyncio.run(worker.run())


if __name__ == "__main__":
    main(*sys.argv[1:])
