"""Keeping views in a Redis that is configured as a cache.

With a `maxmemory-policy` such as allkeys-lru or allkeys-lfu a full Redis makes room by throwing keys away: right for a
cache, silent loss for a view. The document is gone, the checkpoint says that it is there, and no error was raised.

The remedy is `noeviction`: the write is refused, the projector says so, and goes on where it was once there is room.
Crossover refuses to start on any other policy.
"""

from contract.errors import StoreGone
from contract.messages import CustomerView
from crossover.gallery.environment import DemoEnvironment, Evidence

ROUNDS = 60
ROOM_BYTES = 800_000  # for more than two megabytes of views
REGISTER = """
INSERT INTO outbox (stream, version, body)
SELECT 'customer-' || id, 1,
       format('{"type":"CustomerRegistered","id":"%%s","version":1,"name":"%%s"}', id, repeat('日', 200))
FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 40)) AS customer RETURNING substr(stream, 10)"""

WRONG, RIGHT = "allkeys-lfu", "noeviction"


async def show(env: DemoEnvironment, policy: str) -> Evidence:
    customers: list[str] = []
    used = (await env.redis.info("memory"))["used_memory"]
    try:
        await env.redis.config_set("maxmemory-policy", policy)
        await env.redis.config_set("maxmemory", used + ROOM_BYTES)
        for _ in range(ROUNDS):
            customers += [id for (id,) in await env.rows(REGISTER)]
            try:
                await env.project()
            except StoreGone:
                await env.redis.config_set("maxmemory", 0)  # somebody hears of it, and gives it more
                await env.project()
        missing = await env.missing(CustomerView, customers)
    finally:
        await env.redis.config_set("maxmemory", 0)
        await env.redis.config_set("maxmemory-policy", "noeviction")
    return Evidence(missing, len(customers), "views gone without a word")
