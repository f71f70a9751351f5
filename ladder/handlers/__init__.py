"""New: command handlers and query handlers part ways; tables do not."""

from contract.ports import OrderSystem
from cqrs_impl.commands import Commands, NoRecorder
from cqrs_impl.system import CqrsOrders, WriteModelQueries
from crud_impl.connections import SCHEMA
from ladder.connections import database
from ladder.environment import Environment
from ladder.rung import Rung
from servers.postgres import POSTGRES


class Handlers(Rung):
    name, parent = "handlers", "crud"
    idea = "Command handlers and query handlers part ways; the tables do not."
    servers = (POSTGRES,)

    def prepare(self, env: Environment) -> None:
        POSTGRES.create_schema(env.url(POSTGRES), env.namespace, SCHEMA)

    def system(self, env: Environment) -> OrderSystem:
        tables = database(env)
        return CqrsOrders(tables, Commands(tables, NoRecorder(), env.clock), WriteModelQueries(tables))


RUNG = Handlers()
