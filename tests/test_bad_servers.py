"""A server on which a rung cannot work is refused in one sentence before anything is served or filled, whatever the
reason, and nothing of the trial stays; one on which it can work gives the same answers as any other."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import redis
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from crossover.targets import LOOPBACK
from crud_impl.session import SETTINGS
from ladder import connections
from ladder.environment import LEVELS, Environment
from ladder.run import try_out
from ladder.rung import rungs
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import fresh_namespace
from servers.supervisor import Processes
from tests.conftest import LONG_LEVELS, SYSTEMS
from tests.test_cli import outcome_of
from tests.threads import listening
from tests.trying import env_of, socket_and_port, tried

KNOWN = {POSTGRES, REDIS}  # a cache and a standby are tried in suites of their own
WITH_SQL = [(name, level) for name, level in SYSTEMS if {POSTGRES} <= {*rungs()[name].servers} <= KNOWN]
# What a role, a database, PGOPTIONS or the address may say by default.
DEFAULTS = {
    "search_path": "public, pg_temp",
    "timezone": "Asia/Kathmandu",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "client_encoding": "SQL_ASCII",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "2s",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "2s",
    "idle_session_timeout": "2s",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "row_security": "off",
    "xmloption": "document",
    "plan_cache_mode": "force_generic_plan",
    "enable_indexscan": "off",
    "jit": "on",
    "synchronous_commit": "off",
}


@pytest.fixture
def role(postgres_url: str) -> Iterator[Callable[..., str]]:
    """`role(options, **defaults)`: the address for a new role that may create schemas, with these defaults."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        made: list[str] = []

        def make(options: str = "", grant: bool = True, **defaults: str) -> str:
            name = fresh_namespace("role")
            made.append(name)
            admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'canary-role' {options}".encode())
            if grant:
                admin.execute(f"GRANT CREATE ON DATABASE {admin.info.dbname} TO {name}".encode())
            for key, value in defaults.items():
                admin.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(*map(sql.Identifier, (name, key)), value))
            return make_conninfo(postgres_url, user=name)

        yield make
        assert not [*POSTGRES.namespaces(postgres_url, "crossover_trial_")], "a trial leaves nothing"
        for name in made:
            admin.execute(f"DROP OWNED BY {name}".encode())
            admin.execute(f"DROP ROLE {name}".encode())


@contextlib.contextmanager
def database(postgres_url: str, made: str = "", **defaults: str) -> Iterator[str]:
    name = fresh_namespace("db")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} {made}".encode())
        for key, value in defaults.items():
            admin.execute(sql.SQL("ALTER DATABASE {} SET {} = {}").format(*map(sql.Identifier, (name, key)), value))
        yield make_conninfo(postgres_url, dbname=name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.mark.long
@pytest.mark.parametrize("name", DEFAULTS)
def test_no_default_of_a_role_changes_an_answer(name: str, role: Callable[..., str], redis_url: str) -> None:
    urls = {"postgres": role(**{name: DEFAULTS[name]}), "redis": redis_url}
    for rung, level in (("views", "lean"), ("cqrs", "idiomatic")):  # which between them run every statement
        try_out(rungs()[rung], Environment(env_of(rung, urls, level)), [])
    for level in LEVELS:

        async def asked(env: Environment) -> str:
            tables = connections.database(env)
            ((value,),) = await tables.rows("SELECT current_setting(%(name)s)", {"name": name})
            await tables.close()
            return str(value)

        if name in (ours := {key.lower(): value for key, value in SETTINGS.items()}):
            assert asyncio.run(asked(Environment(env_of("crud", urls, level)))).replace("1min", "60s") == ours[name]


@pytest.mark.parametrize(
    ("rung", "level"), [pytest.param(*one, marks=[pytest.mark.long] * (one[1] != LEVELS[0])) for one in WITH_SQL]
)
def test_all_defaults_at_once_change_no_answer_wherever_they_come_from(
    rung: str, level: str, role: Callable[..., str], redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = " ".join(f"-c {key}={value.replace(' ', chr(92) + ' ')}" for key, value in DEFAULTS.items())
    writable = {name: value for name, value in DEFAULTS.items() if name != "default_transaction_read_only"}
    with database(postgres_url, **writable) as other:
        for url in (role(**DEFAULTS), make_conninfo(postgres_url, options=options), other):
            with monkeypatch.context() as patched:
                patched.setenv("PGOPTIONS", options if url == other else "")
                env = env_of(rung, {"postgres": url, "redis": redis_url}, level)
                try_out(rungs()[rung], Environment(env), [])


@pytest.mark.parametrize("level", LONG_LEVELS)
def test_every_way_to_write_an_address_that_the_library_reads_is_served(
    level: str, postgres_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, port = socket_and_port(postgres_url)
    service = tmp_path / "services.conf"
    service.write_text(f"[shop]\nhost={folder}\nport={port}\nuser=crossover\ndbname=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    path = redis_url.removeprefix("unix://")
    sql_ways = (
        f"postgresql://crossover@{quote(folder, safe='')}:{port}/postgres",
        f"postgres://crossover@/postgres?host={folder}&port={port}",
        f"host={folder} port={port} user=crossover dbname=postgres",
        f"postgresql://crossover@127.0.0.1:1,{quote(folder, safe='')}:{port}/postgres?target_session_attrs=read-write",
        "postgresql:///?service=shop",
        f"postgresql://crossover@/postgres?host={folder}&port={port}&options=-c%20geqo%3Doff&application_name=mine",
    )
    redis_ways = cycle((redis_url, f"unix://{path}?db=0&client_name=mine&socket_timeout=3&decode_responses=yes"))
    for sql_way, redis_way in zip(sql_ways, redis_ways, strict=False):
        urls = {"postgres": sql_way, "redis": redis_way}
        try_out(rungs()["cqrs"], Environment(env_of("cqrs", urls, level)), [])


BAD_SQL: dict[str, tuple[dict[str, Any], str]] = {
    "may not create": ({"grant": False}, "GRANT CREATE ON DATABASE postgres TO"),
    "too few for one": ({"options": "CONNECTION LIMIT 5"}, "has 5 of 5 connections left (connection limit of the role"),
    "too few for two": ({"options": "CONNECTION LIMIT 12"}, "are needed: raise that limit, end other clients, or run"),
}


@pytest.mark.parametrize("kind", BAD_SQL)
def test_a_role_that_cannot_do_the_work_is_refused(kind: str, role: Callable[..., str], tmp_path: Path) -> None:
    settings, says = BAD_SQL[kind]
    urls = {"postgres": role(**settings)}
    sentence = tried("crud", urls, beside=("handlers",) if "two" in kind else ())
    assert says in sentence, sentence
    if "two" not in kind:
        assert sentence in outcome_of("doctor", DATABASE_URL=urls["postgres"])[1]
        assert sentence in outcome_of("serve", "crud", "--port", "0", DATABASE_URL=urls["postgres"])[1]
    else:
        words = ("compare", "--rungs", "crud,handlers", "--size", "empty", "--out", str(tmp_path / "run"))
        code, said = outcome_of(*words, DATABASE_URL=urls["postgres"])
        assert code == 2 and says in said, said


@pytest.mark.parametrize(
    ("made", "defaults", "says"),
    [
        ("ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'", {}, "is encoded in LATIN1: give one"),
        ("ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'", {}, "is encoded in SQL_ASCII: give one"),
        ("", {"default_transaction_read_only": "on"}, "is set read-only"),
        ("CONNECTION LIMIT 3", {}, "(connection limit of the database"),
    ],
)
def test_a_database_that_cannot_hold_it_is_refused(
    made: str, defaults: dict[str, str], says: str, postgres_url: str, role: Callable[..., str]
) -> None:
    with database(postgres_url, made, **defaults) as url:
        user = conninfo_to_dict(role())["user"]
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(f"GRANT CREATE ON DATABASE {admin.info.dbname} TO {user}".encode())
        for level in LEVELS:
            assert says in tried("crud", {"postgres": make_conninfo(url, user=user)}, level)


@pytest.mark.parametrize("level", LONG_LEVELS)
def test_a_standby_is_refused_and_of_several_hosts_the_primary_is_found(level: str, postgres_url: str) -> None:
    with Processes() as processes:
        standby = POSTGRES.start(processes, durability="none")
        processes.stop("postgres")
        (POSTGRES.data_folder(processes) / "standby.signal").touch()
        POSTGRES.restart(processes, durability="none")
        assert "leads to a standby" in tried("crud", {"postgres": standby}, level)
        both = ",".join(socket_and_port(url)[0] for url in (standby, postgres_url))
        url = f"postgresql://crossover@/postgres?host={both}"
        assert "add target_session_attrs=read-write" in tried("crud", {"postgres": url}, level)
        assert tried("crud", {"postgres": f"{url}&target_session_attrs=read-write"}, level) == ""


@pytest.mark.parametrize("port_of", ["redis", "http"])
def test_what_is_no_such_server_is_refused(port_of: str, postgres_url: str) -> None:
    def answer(connection: Any) -> None:
        connection.recv(100)
        connection.sendall(b"-ERR what\r\n" if port_of == "redis" else b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening(answer) as port:
        assert "DATABASE_URL cannot be reached" in tried("crud", {"postgres": f"postgresql://a@{LOOPBACK}:{port}/b"})
        sentence = tried("cqrs", {"postgres": postgres_url, "redis": f"redis://:canary@{LOOPBACK}:{port}/0"})
        assert "REDIS_URL cannot be reached" in sentence and "canary" not in sentence


def test_a_trial_that_was_killed_is_swept_by_a_later_one_and_one_that_runs_is_not(
    postgres_url: str, redis_url: str
) -> None:
    old, new = f"crossover_trial_{int(time.time()) - 700}_aa", f"crossover_trial_{int(time.time())}_bb"
    with redis.Redis.from_url(redis_url) as store:
        for name in (old, new):
            POSTGRES.create_schema(postgres_url, name, "SELECT 1")
            store.set(f"{name}:checkpoint", "1")
        try:
            urls = {"postgres": postgres_url, "redis": redis_url}
            try_out(rungs()["cqrs"], Environment(env_of("cqrs", urls)), [])
            assert [*POSTGRES.namespaces(postgres_url, "crossover_trial_")] == [new]
            assert {*REDIS.namespaces(redis_url, "crossover_trial_")} == {new}
        finally:
            for name in (old, new):
                POSTGRES.drop(postgres_url, name)
                REDIS.drop(redis_url, name)
