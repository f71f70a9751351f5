"""Claiming a read store for one database: the views of another are dropped, and replayed from this one."""

from typing import Any

import psycopg
import redis

from cqrs_impl.read.checkpoint import Checkpoint, clearing
from cqrs_impl.read.keys import Keys


def claim_read_store(database_url: str, redis_url: str, namespace: str) -> None:
    """A projector of the other database is refused from then on."""
    keys, of_namespace = Keys(namespace), f"-c search_path={namespace}"
    with psycopg.connect(database_url, options=of_namespace) as one, redis.Redis.from_url(redis_url) as client:
        row = one.execute("SELECT id::text FROM outbox_identity").fetchone()
        assert row is not None, "made with the tables"
        found: Any = client.get(keys.checkpoint)
        if found is None:
            client.set(keys.checkpoint, Checkpoint.begin(row[0]).text, nx=True)
        elif not found.decode().endswith(row[0]):
            client.set(keys.checkpoint, clearing(row[0]))  # a projector finds it, and empties the views
