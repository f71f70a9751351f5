"""How every rung connects to its servers: same settings, all explicit, as a default would be a hidden variable."""

from cqrs_impl.documents.clients.idiomatic import RedisPy
from cqrs_impl.documents.clients.lean import SharedConnection
from cqrs_impl.documents.redis_client import RedisClient
from crud_impl.clients.idiomatic import SqlAlchemy
from crud_impl.clients.lean import Psycopg
from crud_impl.connections import Connect, Database
from ladder.environment import Environment
from servers.postgres import POSTGRES
from servers.redis import REDIS

ISOLATION = "READ COMMITTED"
POOL_CONNECTIONS = 4
POOL_TIMEOUT_S = 1.0
REDIS_CONNECTIONS = 256  # maximum of the idiomatic client, which runs one command at a time on each
REDIS_TIMEOUT_S = 1.0


def connect(env: Environment) -> Connect:
    client = SqlAlchemy if env.clients == "idiomatic" else Psycopg
    return client(env.url(POSTGRES), env.namespace, isolation=ISOLATION)


def database(env: Environment) -> Database:
    return Database(connect(env), connections=POOL_CONNECTIONS, timeout_s=POOL_TIMEOUT_S)


def connections_of(env: Environment, *, feeds: int = 0, redis_clients: int = 0) -> dict[str, int]:
    """How many a target opens at most on each server: the pool, one for each feed, and those of its Redis clients."""
    each = 1 if env.clients == "lean" else REDIS_CONNECTIONS
    opened = {POSTGRES.name: 2 * POOL_CONNECTIONS + feeds}
    if redis_clients:  # of which one serves requests; others do one thing at a time
        opened[REDIS.name] = each + 2 * (redis_clients - 1)
    return opened


def redis_client(env: Environment) -> RedisClient:
    if env.clients == "idiomatic":
        return RedisPy(env.url(REDIS), connections=REDIS_CONNECTIONS, timeout_s=REDIS_TIMEOUT_S)
    return SharedConnection(env.url(REDIS), timeout_s=REDIS_TIMEOUT_S)
