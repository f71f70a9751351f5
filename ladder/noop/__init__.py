"""The contract in memory alone: what HTTP and the load generator cost without any store."""

from contract.ports import OrderSystem
from ladder.environment import Environment
from ladder.noop.system import MemoryOrders
from ladder.rung import Rung


class Noop(Rung):
    name = "noop"
    idea = "No store at all: what HTTP and the load generator cost."
    cost = "Loses everything at a restart; a yardstick, not a rival."

    def system(self, env: Environment) -> OrderSystem:
        return MemoryOrders(env.clock)


RUNG = Noop()
