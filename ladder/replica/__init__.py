"""New: streaming standbys answer the queries; a token is a position in the primary's log."""

from datetime import datetime

from contract.ports import DataSet, OrderSystem
from crud_impl.replicated import ReplicatedOrders
from ladder.connections import database, follow, standbys
from ladder.crud import Crud
from ladder.environment import Environment
from ladder.rung import Progress
from servers.postgres import POSTGRES
from servers.replica import FOLLOW_S_MAX, LOAD_S_MAX, REPLICAS
from servers.server import Server


class Replica(Crud):
    name, parent = "replica", "crud"
    idea = "Queries go to a streaming standby of the same database."
    cost = "Reads lag behind writes; every write is done twice."
    servers: tuple[Server, ...] = (POSTGRES, REPLICAS[0])
    servers_in = {str(count): (POSTGRES, *REPLICAS[:count]) for count in range(1, len(REPLICAS) + 1)}
    options = {"replicas": tuple(servers_in)}

    def prepare(self, env: Environment) -> None:
        super().prepare(env)
        follow(env, self, FOLLOW_S_MAX)

    def system(self, env: Environment) -> OrderSystem:
        return ReplicatedOrders(database(env), standbys(env, self), env.clock)

    def load(self, env: Environment, data: DataSet, until: datetime, progress: Progress) -> None:
        super().load(env, data, until, progress)
        follow(env, self, LOAD_S_MAX)


RUNG = Replica()
