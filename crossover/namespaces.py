"""Namespaces: each target keeps to a PostgreSQL schema and a Redis key prefix of its own; no other is touched."""

import os
import re
import secrets
import sys

import psycopg
import redis
from psycopg import sql

OURS = "crossover_"


def namespace_of(name: str) -> str:
    """The namespace of a target served under this name: the same each time, so that its data is found again."""
    return OURS + re.sub(r"[^a-z0-9]+", "_", name.lower())[:40]


def fresh_namespace(name: str) -> str:
    """A namespace nobody has used yet."""
    return f"{namespace_of(name)}_{secrets.token_hex(4)}"


def drop_namespace(namespace: str, database_url: str | None, redis_url: str | None) -> None:
    """Remove everything a target kept under its namespace."""
    assert namespace.startswith(OURS), "only namespaces of our own are ever dropped"
    if database_url:
        with psycopg.connect(database_url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(namespace)))
    if redis_url:
        with redis.Redis.from_url(redis_url, socket_timeout=30) as client:
            batch: list[bytes] = []
            for key in client.scan_iter(match=f"{namespace}:*", count=1000):
                batch.append(key)
                if len(batch) == 1000:
                    client.unlink(*batch)
                    batch = []
            if batch:
                client.unlink(*batch)


if __name__ == "__main__":  # what a keeper runs last, for a namespace that was to be there for one run alone
    drop_namespace(sys.argv[1], os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL"))
