"""New: a streaming standby answers the queries; a token is a position in the primary's log."""

from datetime import datetime

from contract.ports import DataSet, OrderSystem
from crud_impl.replicated import ReplicatedOrders
from ladder.connections import database, standby
from ladder.crud import Crud
from ladder.environment import Environment
from ladder.rung import Progress
from servers.postgres import POSTGRES
from servers.replica import LOAD_S_MAX, REPLICA
from servers.server import Server


class Replica(Crud):
    name, parent = "replica", "crud"
    idea = "Queries go to a streaming standby of the same database."
    cost = "Reads lag behind writes; every write is done twice."
    servers: tuple[Server, ...] = (POSTGRES, REPLICA)

    def prepare(self, env: Environment) -> None:
        super().prepare(env)
        REPLICA.follow(env.url(REPLICA), env.url(POSTGRES))

    def system(self, env: Environment) -> OrderSystem:
        return ReplicatedOrders(database(env), standby(env), env.clock)

    def load(self, env: Environment, data: DataSet, until: datetime, progress: Progress) -> None:
        super().load(env, data, until, progress)
        REPLICA.follow(env.url(REPLICA), env.url(POSTGRES), LOAD_S_MAX)


RUNG = Replica()
