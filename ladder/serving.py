"""Serving a rung: prepare its stores, run its app, run a worker, rebuild its views; each a process of its own.

`python -m ladder.serving prepare|app|worker|rebuild RUNG …`, told everything else by the environment. What the
user can mend ends with one sentence on the error output and exit code 2.
"""

import argparse
import asyncio
import json
import signal
import socket
import sys
from typing import Any

import psycopg
import redis
import redis.exceptions as redis_errors
import uvicorn
import uvloop
from psycopg import sql

from contract.http.app import make_app
from cqrs_impl.projector import Projector
from cqrs_impl.read.checkpoint import AnotherSource, Checkpoint, clearing
from cqrs_impl.read.keys import Keys
from ladder.arrival import Arrival
from ladder.environment import BadSetting, Environment, redis_address
from ladder.rungs import RUNGS, rung_module

POSTGRES_VERSION_MIN = 14
OURS = "made by Crossover"  # the mark on a schema: without it, a schema and its tables are somebody else's
ANOTHER_SOURCE = "The read store at REDIS_URL follows another database by now: give each database a Redis of its own."
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def needs(rung: str) -> set[str]:
    """The servers a rung needs: of "postgres" and "redis"."""
    return set(rung_module(rung).NEEDS)


def workers_of(rung: str) -> tuple[str, ...]:
    return tuple(rung_module(rung).WORKERS)


def needs_rebuild(rung: str) -> bool:
    """Whether views of its own have to be built after the truth was filled behind its back."""
    return bool(workers_of(rung)) or hasattr(rung_module(rung), "REBUILD_SQL")


def prepare(rung: str, env: Environment) -> None:
    """Create the rung's tables in a schema of our own, and refuse stores that cannot be used. Repeatable."""
    module = rung_module(rung)
    if "postgres" in module.NEEDS:
        _prepare_postgres(env, module.TABLES)
    if "redis" in module.NEEDS:
        check_redis(env)
    if module.WORKERS:
        _claim_read_store(env)


def _prepare_postgres(env: Environment, tables: str) -> None:
    try:
        connection = psycopg.connect(env.libpq_url(), autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[-1]
        raise BadSetting(
            f"DATABASE_URL cannot be reached ({reason}): start the server or correct the address."
        ) from None
    with connection:
        if connection.info.server_version < POSTGRES_VERSION_MIN * 10_000:
            raise BadSetting(
                f"DATABASE_URL is PostgreSQL {connection.info.server_version // 10_000}: 14 or newer is needed."
            )
        schema = sql.Identifier(env.namespace)
        found = connection.execute(
            "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = %s",
            [env.namespace],
        ).fetchone()
        if found is not None and found[0] != OURS:
            raise BadSetting(
                f"DATABASE_URL has a schema {env.namespace} that Crossover did not make; nothing was touched:"
                " rename that schema or give another database."
            )
        with connection.transaction():  # the schema and its mark, or neither
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
            connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, sql.Literal(OURS)))
            connection.execute(sql.SQL("SET LOCAL search_path = {}").format(schema))
            connection.execute(tables)


def check_redis(env: Environment) -> None:
    """A read store that may evict loses views silently, so it is refused."""
    if not env.redis_url:
        raise BadSetting("Set REDIS_URL: this rung keeps its views in Redis.")
    try:
        with redis.Redis.from_url(redis_address(env.redis_url), socket_timeout=5, socket_connect_timeout=5) as client:
            memory = client.info("memory")
    except (redis_errors.RedisError, ValueError, OSError) as error:
        raise BadSetting(f"REDIS_URL cannot be reached ({error}): start the server or correct the address.") from None
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise BadSetting(f"The Redis at REDIS_URL evicts ({policy}): set its maxmemory-policy to noeviction.")


def _claim_read_store(env: Environment) -> None:
    """Views of another database are dropped, and replayed from this one; a projector of the other is refused then."""
    assert env.redis_url is not None, "checked before"
    keys, of_namespace = Keys(env.namespace), f"-c search_path={env.namespace}"
    with psycopg.connect(env.libpq_url(), options=of_namespace) as one, redis.Redis.from_url(env.redis_url) as client:
        row = one.execute("SELECT id::text FROM outbox_identity").fetchone()
        assert row is not None, "made with the tables"
        found: Any = client.get(keys.checkpoint)
        if found is None:
            client.set(keys.checkpoint, Checkpoint.begin(row[0]).text, nx=True)
        elif not found.decode().endswith(row[0]):
            client.set(keys.checkpoint, clearing(row[0]))  # a projector finds it, and empties the views


async def serve_app(rung: str, env: Environment, host: str, port: int, fd: int | None) -> None:
    if host not in LOOPBACK and not env.token:
        raise BadSetting(f"Binding {host} needs a token: set CROSSOVER_TOKEN, or bind 127.0.0.1.")
    system = rung_module(rung).build(env).system
    app = make_app(system, token=env.token, rung=rung, on_stop=env.close)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=Arrival,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
    )
    await uvicorn.Server(config).serve(sockets=None if fd is None else [socket.socket(fileno=fd)])


async def run_worker(rung: str, name: str, env: Environment) -> None:
    worker = next((worker for worker in rung_module(rung).build(env).workers if worker.name == name), None)
    if worker is None:
        raise BadSetting(f"The rung {rung} has no worker '{name}'.")
    running = asyncio.ensure_future(worker.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        await env.close()
    except AnotherSource:
        raise BadSetting(ANOTHER_SOURCE) from None


async def rebuild(rung: str, env: Environment) -> None:
    """Views in tables are filled from the truth by SQL, views elsewhere by replaying the events."""
    module = rung_module(rung)
    if hasattr(module, "REBUILD_SQL"):
        with psycopg.connect(env.libpq_url(), options=f"-c search_path={env.namespace} -c statement_timeout=0") as one:
            one.execute(module.REBUILD_SQL)
            row = one.execute("SELECT count(*) FROM order_views").fetchone()
        print(json.dumps({"done": row and row[0], "total": row and row[0]}), flush=True)
        return
    projector = projector_of(rung, env)
    await projector.rebuild(lambda done, total: print(json.dumps({"done": done, "total": total}), flush=True))
    await env.close()


def projector_of(rung: str, env: Environment) -> Projector:
    projector = next((w for w in rung_module(rung).build(env).workers if isinstance(w, Projector)), None)
    if projector is None:
        raise BadSetting(f"The rung {rung} has no projector: it follows no events, parks none and rebuilds from none.")
    return projector


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ladder.serving", description=__doc__)
    parser.add_argument("what", choices=("prepare", "app", "worker", "rebuild"))
    parser.add_argument("rung", choices=RUNGS)
    parser.add_argument("worker", nargs="?", default="")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int)
    wish = parser.parse_args()
    try:
        env = Environment.from_environ()
        match wish.what:
            case "prepare":
                prepare(wish.rung, env)
            case "app":
                uvloop.run(serve_app(wish.rung, env, wish.host, wish.port, wish.fd))
            case "worker":
                uvloop.run(run_worker(wish.rung, wish.worker, env))
            case "rebuild":
                uvloop.run(rebuild(wish.rung, env))
    except BadSetting as reason:
        sys.exit(_refuse(str(reason)))


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
