"""New: read tables shaped like the answers, updated in the command's own transaction."""

from cqrs_impl.read.table_queries import TableQueries
from cqrs_impl.system import CqrsOrders
from cqrs_impl.write.commands import Commands
from cqrs_impl.write.view_tables import REBUILD, VIEW_TABLES, ViewTables
from crud_impl.connections import SCHEMA
from ladder.environment import Environment
from ladder.rung import Rung

PARENT: str | None = "handlers"
IDEA = "Read tables shaped like the answers, updated in the command's own transaction."
NEEDS = frozenset({"postgres"})
TABLES = SCHEMA + VIEW_TABLES
REBUILD_SQL = REBUILD
WORKERS: tuple[str, ...] = ()


def build(env: Environment) -> Rung:
    database = env.database()
    commands = Commands(database, ViewTables(), env.clock)
    queries = TableQueries(database.rows)
    return Rung(CqrsOrders(database, commands, queries))
