"""New: answers are kept in Redis, each until a command makes it stale."""

from contract.ports import OrderSystem
from crud_impl.cache.entries import Entries
from crud_impl.cache.system import CachedOrders
from ladder.connections import CACHE_TIMEOUT_S, database, redis_client
from ladder.crud import Crud
from ladder.environment import Environment
from servers.postgres import POSTGRES
from servers.redis import CACHE


class Cache(Crud):
    name, parent = "cache", "crud"
    idea = "Answers are kept in Redis, each until a command makes it stale."
    cost = "Each command must name all that it makes stale; a miss costs more than no cache."
    servers = (POSTGRES, CACHE)

    def system(self, env: Environment) -> OrderSystem:
        entries = Entries(redis_client(env, CACHE, CACHE_TIMEOUT_S), env.namespace)
        return CachedOrders(database(env), env.clock, entries)


RUNG = Cache()
