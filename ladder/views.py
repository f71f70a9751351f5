"""New: read tables shaped like the answers, updated in the command's own transaction."""

from contract.tables import TRUTH
from cqrs_impl.read.table_queries import TableQueries
from cqrs_impl.split import Split
from cqrs_impl.write.commands import Commands
from cqrs_impl.write.view_tables import REBUILD, VIEW_TABLES, ViewTables
from ladder.environment import Environment
from ladder.rung import Rung

PARENT: str | None = "handlers"
IDEA = "Read tables shaped like the answers, updated in the command's own transaction."
NEEDS = frozenset({"postgres"})
TABLES = TRUTH + VIEW_TABLES
REBUILD_SQL = REBUILD
WORKERS: tuple[str, ...] = ()


def build(env: Environment) -> Rung:
    commands = Commands(env.writer(), ViewTables(), env.clock)
    queries = TableQueries(env.reader())
    return Rung(Split(commands, queries))
