"""The limits of the container we run in: CPU, memory, and how long its processes were stopped for the first.

Read from the control groups (cgroup v2 and v1) of this process and those around it, of which the tightest counts.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Limits(NamedTuple):
    """None: no limit, or the kernel tells none."""

    cores: float | None
    memory_bytes: int | None
    throttled_us: int | None  # by the CPU quota, since the group was made


def read_limits(root: Path = Path("/")) -> Limits:
    cores, throttled_us, memory = [], [], []
    for group in _groups(root, "cpu"):
        quota, period = [*_text(group / "cpu.max").split(), "", ""][:2]
        quota, period = quota or _text(group / "cpu.cfs_quota_us"), period or _text(group / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():  # otherwise "max" or -1
            cores.append(int(quota) / int(period))
            stat = dict(line.split() for line in _text(group / "cpu.stat").splitlines())
            throttled_us.append(int(stat.get("throttled_usec") or int(stat.get("throttled_time", 0)) // 1_000))
    for group in _groups(root, "memory"):
        limit = _text(group / "memory.max") or _text(group / "memory.limit_in_bytes")
        if limit.isdigit():
            memory.append(int(limit))
    return Limits(min(cores, default=None), min(memory, default=None), sum(throttled_us) if cores else None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The group of this process that a controller looks after, then the groups around it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            mount = root / "sys/fs/cgroup" / controllers
            group = mount / path.strip("/")
            # Inside a container the path can be the host's, of which only the top is mounted here.
            yield from (step for step in (group, *group.parents) if step.is_relative_to(mount) and step.is_dir())


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except OSError:
        return ""
