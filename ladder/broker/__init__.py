"""New: a relay publishes the outbox to a message broker, and projectors share the partitions that it carries."""

from collections.abc import Mapping
from functools import partial

from contract.ports import OrderSystem, Worker
from cqrs_impl.commands import Commands
from cqrs_impl.documents.redis_parts import PartReads
from cqrs_impl.feeds.outbox.recorder import Outbox
from cqrs_impl.feeds.relay import RelayedBacklog
from cqrs_impl.queries import DocumentQueries
from cqrs_impl.system import CqrsOrders
from ladder.broker.processes import claim, keys, processes, rebuild, relay_name, worker_names
from ladder.broker.transports import TRANSPORTS
from ladder.connections import database, redis_client
from ladder.cqrs import Cqrs
from ladder.environment import Environment
from ladder.rung import CONSUMER, Progress
from servers.postgres import POSTGRES
from servers.redis import REDIS, STREAMS
from servers.server import Server


class Broker(Cqrs):
    name, parent = "broker", "cqrs"
    idea = "A message broker carries the events, in partitions, to projectors that share them."
    cost = "One hop and one process more; events keep their order only within a partition."
    servers: tuple[Server, ...] = (POSTGRES, REDIS, STREAMS)
    worker_names = worker_names(1)
    options = {
        "transport": tuple(TRANSPORTS),
        "partitions": ("1", "2", "4", "8"),
        "projectors": ("1", "2", "4"),
        "": (CONSUMER,),
    }
    worker_names_in = {f"{count}-projectors": worker_names(count) for count in (1, 2, 4)}
    servers_in = {name: (POSTGRES, REDIS, one.server) for name, one in TRANSPORTS.items()}

    def prepare(self, env: Environment) -> None:
        POSTGRES.create_schema(env.url(POSTGRES), env.namespace, self.schema)
        claim(env, self)

    def system(self, env: Environment) -> OrderSystem:
        tables = database(env)
        read = PartReads(redis_client(env), keys(env, self), RelayedBacklog(tables.rows, relay_name(self)))
        return CqrsOrders(tables, Commands(tables, Outbox(env.namespace), env.clock), DocumentQueries(read), read.leads)

    def workers(self, env: Environment) -> Mapping[str, Worker]:
        return processes(env, self)

    def rebuild(self, env: Environment, progress: Progress) -> int:
        return rebuild(env, self, partial(progress, f"building views of {self.name}"))


RUNG = Broker()
