"""How every rung connects to its servers, alike: a default would be a hidden variable of the experiment."""

from cqrs_impl.documents.redis_client import RedisClient
from crud_impl.connections import Database
from ladder.environment import Environment
from servers.postgres import POSTGRES
from servers.redis import REDIS

POOL_CONNECTIONS = 4
POOL_TIMEOUT_S = 1.0
REDIS_TIMEOUT_S = 1.0


def database(env: Environment) -> Database:
    return Database(env.url(POSTGRES), env.namespace, connections=POOL_CONNECTIONS, timeout_s=POOL_TIMEOUT_S)


def redis_client(env: Environment) -> RedisClient:
    return RedisClient(env.url(REDIS), timeout_s=REDIS_TIMEOUT_S)
