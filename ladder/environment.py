"""What a rung is built from: connections and settings, read from the environment in this one place."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg
import redis
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from contract.ports import Clock, utc_now
from cqrs_impl.documents.redis_client import RedisClient
from crud_impl.connections import Database

# Alike on every rung: a default would be a hidden variable of the experiment.
POOL_CONNECTIONS = 4
POOL_TIMEOUT_S = 1.0
REDIS_TIMEOUT_S = 1.0


class BadSetting(Exception):
    """A setting or a store that cannot be used; its text is the one sentence the user reads."""


@dataclass
class Environment:
    """Hands out connections that open on first use; `close` closes those that did."""

    database_url: str | None = None
    redis_url: str | None = None
    namespace: str = "crossover"
    token: str | None = None
    clock: Clock = utc_now
    _databases: list[Database] = field(default_factory=list)
    _lines: list[RedisClient] = field(default_factory=list)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Environment":
        return cls(
            database_url=environ.get("DATABASE_URL"),
            redis_url=environ.get("REDIS_URL"),
            namespace=environ.get("CROSSOVER_NAMESPACE", "crossover"),
            token=environ.get("CROSSOVER_TOKEN"),
            clock=_clock(environ.get("CROSSOVER_CLOCK")),
        )

    def database(self) -> Database:
        self._databases.append(
            Database(self.libpq_url(), self.namespace, connections=POOL_CONNECTIONS, timeout_s=POOL_TIMEOUT_S)
        )
        return self._databases[-1]

    def redis(self) -> RedisClient:
        if not self.redis_url:
            raise BadSetting("Set REDIS_URL: this rung keeps its views in Redis.")
        self._lines.append(RedisClient(redis_address(self.redis_url), timeout_s=REDIS_TIMEOUT_S))
        return self._lines[-1]

    def libpq_url(self) -> str:
        """The database's address for psycopg itself."""
        if not self.database_url:
            raise BadSetting("Set DATABASE_URL: this rung keeps its write model in PostgreSQL.")
        return postgres_address(self.database_url)

    async def close(self) -> None:
        for database in self._databases:
            await database.close()
        for line in self._lines:
            await line.close()


def _clock(setting: str | None) -> Clock:
    """The system's clock, or for tests `step:<time>`: that time first, a millisecond later at each call; or
    `shift:<seconds>`: a clock that goes wrong by so much."""
    if setting is None:
        return utc_now
    kind, _, start = setting.partition(":")
    if kind == "shift":
        wrong_by = timedelta(seconds=float(start))
        return lambda: utc_now() + wrong_by
    if kind != "step":
        raise BadSetting("CROSSOVER_CLOCK must be step:<RFC 3339 time> or shift:<seconds>.")
    now = datetime.fromisoformat(start)

    def step() -> datetime:
        nonlocal now
        at, now = now, now + timedelta(milliseconds=1)
        return at

    return step


# What is wrong with an address is never said in the libraries' words: they repeat it, and with it the password.


def postgres_address(url: str) -> str:
    try:
        conninfo_to_dict(url)
        make_url(url)
    except (psycopg.ProgrammingError, ArgumentError, ValueError):
        raise BadSetting("DATABASE_URL is no address: give postgresql://user:password@host:5432/database.") from None
    return url


def redis_address(url: str) -> str:
    try:
        redis.Redis.from_url(url)
    except (redis.RedisError, ValueError):
        raise BadSetting("REDIS_URL is no address: give redis://:password@host:6379/0.") from None
    return url
