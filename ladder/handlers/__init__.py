"""New: separate handlers for commands and queries, over the same tables."""

from contract.ports import OrderSystem
from cqrs_impl.commands import Commands, NoRecorder
from cqrs_impl.system import CqrsOrders, WriteModelQueries
from ladder.connections import database
from ladder.crud import Crud
from ladder.environment import Environment


class Handlers(Crud):
    name, parent = "handlers", "crud"
    idea = "Commands and queries have separate handlers; the tables are the same."
    cost = "More code."

    def system(self, env: Environment) -> OrderSystem:
        tables = database(env)
        return CqrsOrders(tables, Commands(tables, NoRecorder(), env.clock), WriteModelQueries(tables))


RUNG = Handlers()
