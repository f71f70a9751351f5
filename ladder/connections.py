"""How every rung connects to its servers: same settings, all explicit, as a default would be a hidden variable.

A client library is loaded where it is used: the imports of all of them take longer than most steps of a rung.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from crud_impl.connections import ORDER_KEYS, Connect, Database
from crud_impl.standby import Standby
from ladder.environment import Environment
from ladder.rung import Rung
from servers.opensearch import OPENSEARCH
from servers.postgres import POSTGRES, Postgres
from servers.redis import CACHE, REDIS, STREAMS, Redis
from servers.replica import REPLICAS, Replica

if TYPE_CHECKING:
    from cqrs_impl.documents.redis_client import RedisClient
    from cqrs_impl.search.indexes import Indexes

ISOLATION = "READ COMMITTED"
POOL_CONNECTIONS = 4
POOL_TIMEOUT_S = 1.0
REDIS_CONNECTIONS = 256  # maximum of the idiomatic client, which runs one command at a time on each
REDIS_TIMEOUT_S = 1.0
BULK_TIMEOUT_S = 30.0
PARTITIONS = 2  # of what has any, unless others are chosen
SEARCH_TIMEOUT_S = 5.0  # it makes an index in the time that others answer in
REFRESH, REFRESH_SELDOM = "100ms", "1s"  # how often what an index has been given can be found
CACHE_TIMEOUT_S = 0.25  # then the database is asked


def connect(env: Environment, server: Postgres = POSTGRES) -> Connect:
    if env.clients == "idiomatic":
        from crud_impl.clients.idiomatic import SqlAlchemy

        return SqlAlchemy(env.url(server), env.namespace, isolation=ISOLATION, standby=server.standby)
    from crud_impl.clients.lean import Psycopg

    return Psycopg(env.url(server), env.namespace, isolation=ISOLATION, standby=server.standby)


def database(env: Environment, opened: Connect | None = None, keys: Collection[str] = ORDER_KEYS) -> Database:
    return Database(opened or connect(env), connections=POOL_CONNECTIONS, timeout_s=POOL_TIMEOUT_S, keys=keys)


def standbys(env: Environment, one: Rung) -> list[Standby]:
    return [
        Standby(connect(env, replica), connections=POOL_CONNECTIONS, timeout_s=POOL_TIMEOUT_S, name=replica.name)
        for replica in replicas(one)
    ]


def follow(env: Environment, one: Rung, within_s: float) -> None:
    """Wait until each standby has replayed all that the primary holds."""
    for replica in replicas(one):
        replica.follow(env.url(replica), env.url(POSTGRES), within_s)


def replicas(one: Rung) -> list[Replica]:
    return [server for server in one.servers if isinstance(server, Replica)]


def partitions(one: Rung) -> int:
    return int(one.chosen.get("partitions", PARTITIONS)) if "partitions" in one.options else 0


def connections_of(one: Rung, env: Environment) -> dict[str, int]:
    """How many connections a target opens at most, by server: those of its pools, and those of its workers, each of
    which does one thing at a time."""
    workers, pooled = len(one.worker_names), 1 if env.clients == "lean" else REDIS_CONNECTIONS
    parts = partitions(one)  # each has its own, and takes them along to another projector
    most = {POSTGRES.name: 2 * POOL_CONNECTIONS + workers + 2 * parts, CACHE.name: pooled}
    most |= {REDIS.name: pooled + 2 * workers + 4 * parts, STREAMS.name: 2 * workers + 4 * parts}
    most |= {replica.name: POOL_CONNECTIONS + 1 for replica in REPLICAS}  # nobody writes there; one is for the probe
    return {server.name: most.get(server.name, 0) for server in one.servers}


def redis_client(env: Environment, server: Redis = REDIS, timeout_s: float | None = None) -> "RedisClient":
    timeout_s = BULK_TIMEOUT_S if env.in_bulk else timeout_s or REDIS_TIMEOUT_S
    if env.clients == "idiomatic":
        from cqrs_impl.documents.clients.idiomatic import RedisPy

        return RedisPy(env.url(server), connections=REDIS_CONNECTIONS, timeout_s=timeout_s)
    from cqrs_impl.documents.clients.lean import SharedConnection

    return SharedConnection(env.url(server), timeout_s=timeout_s)


def indexes(env: Environment, one: Rung) -> "Indexes":
    """By the same client at both levels: there is no leaner one."""
    from cqrs_impl.search.client import SearchClient
    from cqrs_impl.search.indexes import Indexes

    address, timeout_s = OPENSEARCH.address(env.url(OPENSEARCH)), BULK_TIMEOUT_S if env.in_bulk else SEARCH_TIMEOUT_S
    refresh = REFRESH_SELDOM if "refresh" in one.chosen else REFRESH
    client = SearchClient(address.url, address.settings, timeout_s=timeout_s)
    return Indexes(client, env.namespace, refresh, in_bulk=env.in_bulk)
