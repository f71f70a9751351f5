"""New: the views move to Redis; an outbox carries the events, and a projector process applies them."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from contract.ports import OrderSystem, Worker
from cqrs_impl.commands import Commands
from cqrs_impl.documents.redis import Keys, RedisDocuments, claim
from cqrs_impl.documents.redis_reads import RedisReads
from cqrs_impl.feeds.outbox.feed import OutboxFeed
from cqrs_impl.feeds.outbox.recorder import OUTBOX, Outbox, OutboxBacklog, copy_events, history_of
from cqrs_impl.projector import Projector
from cqrs_impl.queries import DocumentQueries
from cqrs_impl.system import CqrsOrders
from crud_impl.connections import SCHEMA
from crud_impl.load import Copies, Tables
from ladder.connections import connect, database, redis_client
from ladder.consumers import consumers
from ladder.environment import Environment
from ladder.rung import CONSUMER, Progress
from ladder.views import Views
from ladder.workers import rebuild
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import Server


class Cqrs(Views):
    name, parent = "cqrs", "views"
    idea = "The views move to Redis, fed by an outbox and a projector process."
    cost = "Reads lag behind writes; one more process that can stop."
    servers: tuple[Server, ...] = (POSTGRES, REDIS)
    schema = SCHEMA + OUTBOX
    worker_names: tuple[str, ...] = ("projector",)
    options: Mapping[str, tuple[str, ...]] = {"": (CONSUMER,)}
    copies: Callable[[], Copies] = partial(Tables, copy_events)

    def prepare(self, env: Environment) -> None:
        POSTGRES.create_schema(env.url(POSTGRES), env.namespace, self.schema)
        claim(env.url(REDIS), Keys(env.namespace), partial(history_of, env.url(POSTGRES), env.namespace))

    def system(self, env: Environment) -> OrderSystem:
        tables = database(env)
        read = RedisReads(redis_client(env), Keys(env.namespace), OutboxBacklog(tables.rows))
        return CqrsOrders(tables, Commands(tables, Outbox(env.namespace), env.clock), DocumentQueries(read), read.leads)

    def workers(self, env: Environment) -> Mapping[str, Worker]:
        feed = OutboxFeed(connect(env), env.namespace)
        documents = RedisDocuments(redis_client(env), Keys(env.namespace), feed.present)
        return {"projector": Projector(feed, feed, documents), **consumers(self, env)}

    def rebuild(self, env: Environment, progress: Progress) -> int:
        return asyncio.run(rebuild(self.workers(env).values(), partial(progress, f"building views of {self.name}")))


RUNG = Cqrs()
