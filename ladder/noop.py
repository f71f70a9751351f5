"""The contract over memory alone: what HTTP and the load generator cost before any store does."""

from contract.memory import MemoryOrders
from ladder.environment import Environment
from ladder.rung import Rung

PARENT: str | None = None
IDEA = "No store at all: what HTTP and the load generator cost. Plotted beside the others, never subtracted."
NEEDS: frozenset[str] = frozenset()
TABLES = ""
WORKERS: tuple[str, ...] = ()


def build(env: Environment) -> Rung:
    return Rung(MemoryOrders(env.clock))
