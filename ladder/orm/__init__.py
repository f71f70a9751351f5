"""New: the same model through the entities and relationships of SQLAlchemy's ORM."""

from contract.ports import OrderSystem
from crud_impl.clients.idiomatic import SqlAlchemy
from crud_impl.orm.naive import NaiveOrders
from crud_impl.orm.system import OrmOrders, Sessions
from ladder.connections import ISOLATION, database
from ladder.crud import Crud
from ladder.environment import Environment
from servers.postgres import POSTGRES


class Orm(Crud):
    name, parent = "orm", "crud"
    idea = "The same model through an ORM: entities and relationships instead of SQL."
    cost = "The mapper's own CPU, on every read and write."
    options = {"orm": ("naive",)}

    def system(self, env: Environment) -> OrderSystem:
        if self.chosen:
            return NaiveOrders(env.url(POSTGRES), env.namespace, env.clock)
        # SQLAlchemy at both client levels: a mapper has no other.
        sessions = Sessions(SqlAlchemy(env.url(POSTGRES), env.namespace, isolation=ISOLATION))
        return OrmOrders(database(env, sessions), env.clock)


RUNG = Orm()
