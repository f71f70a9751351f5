"""New: read tables shaped like the answers, updated in the command's own transaction."""

from contract.ports import OrderSystem
from cqrs_impl.commands import Commands
from cqrs_impl.read_tables.queries import TableQueries
from cqrs_impl.read_tables.recorder import READ_TABLES, ReadTables, rebuild
from cqrs_impl.system import CqrsOrders
from crud_impl.connections import SCHEMA
from ladder.connections import database
from ladder.environment import Environment
from ladder.handlers import Handlers
from ladder.rung import Progress
from servers.postgres import POSTGRES


class Views(Handlers):
    name, parent = "views", "handlers"
    idea = "Read tables shaped like the answers, updated in the command's transaction."
    cost = "Slower writes; a rename updates many rows."
    schema = SCHEMA + READ_TABLES

    def system(self, env: Environment) -> OrderSystem:
        tables = database(env)
        return CqrsOrders(tables, Commands(tables, ReadTables(), env.clock), TableQueries(tables.rows))

    def rebuild(self, env: Environment, progress: Progress) -> int:
        return rebuild(env.url(POSTGRES), env.namespace)


RUNG = Views()
