"""New: command handlers and query handlers part ways; tables do not."""

from contract.tables import TRUTH
from cqrs_impl.read.truth_queries import TruthQueries
from cqrs_impl.split import Split
from cqrs_impl.write.commands import Commands, NoRecorder
from ladder.environment import Environment
from ladder.rung import Rung

PARENT: str | None = "crud"
IDEA = "Command handlers and query handlers part ways; the tables do not."
NEEDS = frozenset({"postgres"})
TABLES = TRUTH
WORKERS: tuple[str, ...] = ()


def build(env: Environment) -> Rung:
    commands = Commands(env.writer(), NoRecorder(), env.clock)
    queries = TruthQueries(env.reader())
    return Rung(Split(commands, queries))
