"""Where a run happens: machine, servers, commit; an allow-list, so that no secret lands in a result."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import redis

from crossover.servers import POSTGRES_SETTINGS
from crossover.targets import Target

SAID_OF_POSTGRES = tuple(key for key in POSTGRES_SETTINGS if key not in ("listen_addresses", "unix_socket_permissions"))
SAID_OF_REDIS = ("maxmemory", "maxmemory-policy", "save", "appendonly", "io-threads")
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")
PROJECT = Path(__file__).resolve().parent.parent


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gib": round(memory_gib(), 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def commit() -> tuple[str | None, bool | None]:
    """The commit the code is at and whether it was changed since; None where there is no repository."""
    try:
        head = _git("rev-parse", "HEAD")
        return head, bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", PROJECT, *words], capture_output=True, text=True, check=True).stdout.strip()


def servers(target: Target) -> dict[str, Any]:
    """Versions and settings as the servers themselves tell them."""
    said: dict[str, Any] = {}
    if url := target.env.get("DATABASE_URL"):
        with psycopg.connect(url, connect_timeout=5) as connection:
            said["postgres"] = connection.info.parameter_status("server_version")
            rows = connection.execute(
                "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s) ORDER BY name",
                [list(SAID_OF_POSTGRES)],
            ).fetchall()
            said["postgres_settings"] = dict(rows)
    if url := target.env.get("REDIS_URL"):
        with redis.Redis.from_url(url, socket_timeout=5, decode_responses=True) as client:
            info: Any = client.info()
            said["redis"] = f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info['redis_version']}"
            try:
                settings: Any = client.config_get(*SAID_OF_REDIS)
            except redis.ResponseError:  # hosted servers often forbid CONFIG
                settings = {"maxmemory-policy": info.get("maxmemory_policy")}
            said["redis_settings"] = dict(sorted(settings.items()))
    return said


def fingerprint(targets: list[Target]) -> dict[str, Any]:
    head, dirty = commit()
    said: dict[str, Any] = {}
    for target in targets:
        said |= servers(target)
    settings = said.get("postgres_settings", {})
    return {
        "commit": head,
        "dirty": dirty,
        "placement": f"everything on the same {cores()} cores, nothing pinned",
        "durability": {key: settings[key] for key in DURABILITY if key in settings},
        "servers": said,
        "machine": machine(),
    }
