"""The fingerprint of a run: machine, servers, commit. It is an allow-list, so that no secret gets into a result."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossover.revisions import current
from crossover.targets import Target
from ladder.rung import rung
from loadtests.limits import read_limits


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores() -> int:
    """Whole cores that a container's quota lets us use at a time."""
    return max(1, min(affinity(), int(read_limits().cores or affinity())))


def limits() -> dict[str, float]:
    """Those of a container, where it has any below the machine's own."""
    found = read_limits()
    quota = {"cpu_quota_cores": round(found.cores, 2)} if found.cores and found.cores < affinity() else {}
    limit_gib = (found.memory_bytes or 2**63) / 2**30
    return quota | ({"memory_limit_gib": round(limit_gib, 1)} if limit_gib < memory_gib() else {})


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gib": round(memory_gib(), 1),
        **limits(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def placement(ours: Sequence[str], elsewhere: Sequence[str]) -> str:
    """What is known of where everything ran: nothing of what others started."""
    on = f"on the same {cores()} cores, nothing pinned"
    here = ", ".join(["the load generator", *ours])
    return f"{here} {on}; where {', '.join(elsewhere)} ran is not known" if elsewhere else f"everything {on}"


def fingerprint(targets: list[Target], elsewhere: Sequence[str] = ()) -> dict[str, Any]:
    """Versions and settings as the servers themselves report them; `elsewhere`: what others started, and where."""
    head, dirty = current()
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
