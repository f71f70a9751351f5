"""New: the views move out to Redis and follow; an outbox carries the events, a projector process applies them."""

import asyncio
from collections.abc import Mapping
from functools import partial

from contract.ports import OrderSystem
from cqrs_impl.commands import Commands
from cqrs_impl.documents.redis import Keys, RedisDocuments, claim
from cqrs_impl.documents.redis_reads import RedisReads
from cqrs_impl.feeds.outbox.feed import OutboxFeed
from cqrs_impl.feeds.outbox.recorder import OUTBOX, Outbox, OutboxBacklog, copy_events, identity_of
from cqrs_impl.projector import Projector
from cqrs_impl.queries import DocumentQueries
from cqrs_impl.system import CqrsOrders
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
        claim(env.url(REDIS), Keys(env.namespace), identity_of(env.url(POSTGRES), env.namespace))

    def system(self, env: Environment) -> OrderSystem:
        tables = database(env)
        reads = RedisReads(redis_client(env), Keys(env.namespace), OutboxBacklog(tables.rows))
        return CqrsOrders(tables, Commands(tables, Outbox(env.namespace), env.clock), DocumentQueries(reads))

    def workers(self, env: Environment) -> Mapping[str, Projector]:
        feed = OutboxFeed(env.url(POSTGRES), env.namespace)
        documents = RedisDocuments(redis_client(env), Keys(env.namespace), feed.identity)
        return {"projector": Projector(feed, feed, documents)}

    def rebuild(self, env: Environment, progress: Progress) -> int:
        done = partial(progress, f"building the views of {self.name}")
        return asyncio.run(self.workers(env)["projector"].rebuild(done))


RUNG = Cqrs()
