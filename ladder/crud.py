"""The baseline: one normalised model in one database, read where it was written."""

from crud_impl.connections import SCHEMA
from crud_impl.system import CrudOrders
from ladder.environment import Environment
from ladder.rung import Rung

PARENT: str | None = None
IDEA = "One normalised model for reads and writes, written well."
NEEDS = frozenset({"postgres"})
TABLES = SCHEMA
WORKERS: tuple[str, ...] = ()


def build(env: Environment) -> Rung:
    return Rung(CrudOrders(env.database(), env.clock))
