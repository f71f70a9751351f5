"""The baseline: one normalised model in one database, read where it was written."""

from contract.ports import OrderSystem
from crud_impl.connections import SCHEMA
from crud_impl.system import CrudOrders
from ladder.connections import database
from ladder.environment import Environment
from ladder.rung import Rung
from servers.postgres import POSTGRES


class Crud(Rung):
    name = "crud"
    idea = "One normalised model for reads and writes, written well."
    servers = (POSTGRES,)

    def prepare(self, env: Environment) -> None:
        POSTGRES.create_schema(env.url(POSTGRES), env.namespace, SCHEMA)

    def system(self, env: Environment) -> OrderSystem:
        return CrudOrders(database(env), env.clock)


RUNG = Crud()
