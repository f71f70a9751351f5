"""Keeping the projector's checkpoint in another store than the data it speaks of.

The checkpoint says: everything up to here is in the views. Kept in PostgreSQL beside the outbox, it goes on saying so
after Redis came back empty. The projector reads on from there, and all that came before is missing forever. A crash
between the two writes does the opposite: events are applied twice.

The remedy keeps the checkpoint in the read store and moves it in one MULTI with the data. An emptied store has lost
its checkpoint too, so it replays itself.
"""

from contract.messages import CustomerView
from cqrs_impl.documents.redis import Keys
from crossover.gallery.environment import DemoEnvironment, Evidence

BEFORE, AFTER = 60, 20


class CheckpointElsewhere(Keys):
    """A name outside the views stands for a store outside Redis: what empties the views leaves it alone."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.checkpoint = f"elsewhere-{self.checkpoint}"


WRONG, RIGHT = CheckpointElsewhere, Keys


async def show(env: DemoEnvironment, keys_class: type[Keys]) -> Evidence:
    keys = keys_class(env.namespace)
    customers = await env.customers(BEFORE)
    await env.project(keys)
    await env.redis.delete(*await env.redis.keys(f"{env.namespace}:*"))  # Redis restarts empty, once
    customers += await env.customers(AFTER)
    await env.project(keys)
    missing = await env.missing(CustomerView, customers)
    return Evidence(missing, len(customers), "customers missing from the views forever")
