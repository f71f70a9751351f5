"""New: command handlers and query handlers part ways; tables do not."""

from cqrs_impl.system import CqrsOrders, WriteModelQueries
from cqrs_impl.write.commands import Commands, NoRecorder
from crud_impl.connections import SCHEMA
from ladder.environment import Environment
from ladder.rung import Rung

PARENT: str | None = "crud"
IDEA = "Command handlers and query handlers part ways; the tables do not."
NEEDS = frozenset({"postgres"})
TABLES = SCHEMA
WORKERS: tuple[str, ...] = ()


def build(env: Environment) -> Rung:
    database = env.database()
    commands = Commands(database, NoRecorder(), env.clock)
    queries = WriteModelQueries(database)
    return Rung(CqrsOrders(database, commands, queries))
