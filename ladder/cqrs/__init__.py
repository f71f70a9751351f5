"""New: the views move out to Redis and follow; an outbox carries the events, a projector process applies them."""

import asyncio
from collections.abc import Mapping

from contract.ports import OrderSystem
from cqrs_impl.carry.outbox_feed import OutboxFeed
from cqrs_impl.claim import claim_read_store
from cqrs_impl.projector import Projector
from cqrs_impl.read.keys import Keys
from cqrs_impl.read.redis_queries import RedisQueries
from cqrs_impl.read.redis_views import RedisViews
from cqrs_impl.system import CqrsOrders
from cqrs_impl.write.commands import Commands
from cqrs_impl.write.outbox import OUTBOX, Outbox, copy_events
from crud_impl.connections import SCHEMA
from ladder.connections import database, redis_client
from ladder.environment import Environment
from ladder.rung import Progress, Rung
from servers.postgres import POSTGRES
from servers.redis import REDIS


class Cqrs(Rung):
    name, parent = "cqrs", "views"
    idea = "The reads move to Redis views, fed by an outbox and a projector process."
    servers = (POSTGRES, REDIS)
    worker_names = ("projector",)
    record = staticmethod(copy_events)

    def prepare(self, env: Environment) -> None:
        POSTGRES.create_schema(env.url(POSTGRES), env.namespace, SCHEMA + OUTBOX)
        REDIS.check(env.url(REDIS))
        claim_read_store(env.url(POSTGRES), env.url(REDIS), env.namespace)

    def system(self, env: Environment) -> OrderSystem:
        tables = database(env)
        queries = RedisQueries(redis_client(env), Keys(env.namespace), tables.rows)
        return CqrsOrders(tables, Commands(tables, Outbox(env.namespace), env.clock), queries)

    def workers(self, env: Environment) -> Mapping[str, Projector]:
        feed = OutboxFeed(env.url(POSTGRES), env.namespace)
        return {"projector": Projector(feed, RedisViews(redis_client(env), Keys(env.namespace), feed.identity))}

    def rebuild(self, env: Environment, progress: Progress) -> int:
        seen = 0

        def count(done: int, total: int) -> None:
            nonlocal seen
            seen = done
            progress(f"building the views of {self.name}", done, total)

        async def rebuilt() -> None:
            await self.workers(env)["projector"].rebuild(count)
            await env.close()

        asyncio.run(rebuilt())
        return seen


RUNG = Cqrs()
