"""The baseline: one normalised model in one database, read where it was written."""

from contract.ports import OrderSystem
from crud_impl.connections import SCHEMA
from crud_impl.system import CrudOrders
from ladder.connections import database
from ladder.environment import Environment
from ladder.rung import Rung
from servers.postgres import POSTGRES
from servers.server import Server


class Crud(Rung):
    name = "crud"
    idea = "One normalised model for reads and writes, written well."
    cost = "Every read joins and aggregates again."
    servers: tuple[Server, ...] = (POSTGRES,)
    schema = SCHEMA

    def prepare(self, env: Environment) -> None:
        POSTGRES.create_schema(env.url(POSTGRES), env.namespace, self.schema)

    def system(self, env: Environment) -> OrderSystem:
        return CrudOrders(database(env), env.clock)


RUNG = Crud()
