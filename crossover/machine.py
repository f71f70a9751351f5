"""The fingerprint of a run: machine, servers, commit. It is an allow-list, so that no secret gets into a result."""

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossover.targets import Target
from ladder.rung import rung

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


def placement(ours: Sequence[str], elsewhere: Sequence[str]) -> str:
    """What is known of where everything ran: nothing of what others started."""
    on = f"on the same {cores()} cores, nothing pinned"
    here = ", ".join(["the load generator", *ours])
    return f"{here} {on}; where {', '.join(elsewhere)} ran is not known" if elsewhere else f"everything {on}"


def fingerprint(targets: list[Target], elsewhere: Sequence[str] = ()) -> dict[str, Any]:
    """Versions and settings as the servers themselves report them; `elsewhere`: what others started, and where."""
    head, dirty = commit()
    servers: dict[str, Any] = {}
    durability: dict[str, str] = {}
    for target in targets:
        for server in rung(target.rung).servers:
            facts = server.check(target.env[server.variable])
            servers |= {server.name: facts.version, f"{server.name}_settings": facts.settings}
            durability |= facts.durability
    return {
        "commit": head,
        "dirty": dirty,
        "placement": placement([target.name for target in targets], elsewhere),
        "durability": durability,
        "servers": servers,
        "machine": machine(),
    }
