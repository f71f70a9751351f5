"""Looks at a running command's family through /proc: what it started, and what is left of that."""

import contextlib
import os
import signal
from pathlib import Path

from servers.reaper import alive
from tests.service import PATIENCE_S, wait_until

GONE_S_MAX = PATIENCE_S


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def children_of(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def descendants(parent: int) -> dict[int, str]:
    family = {}
    for child in children_of(parent):
        family[child] = command_line(child)
        family |= descendants(child)
    return family


def reapers_of(parent: int) -> list[int]:
    return [pid for pid in children_of(parent) if "reaper.py" in command_line(pid)]


def folders_of(reaper: int) -> tuple[Path, Path]:
    folder, sockets = command_line(reaper).split()[-2:]
    return Path(folder), Path(sockets)


def killed(pids: list[int]) -> None:
    """Kill them, some of which end by themselves without the others, and wait until none is left to hold anything."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    gone(dict.fromkeys(pids, ""), [])


def gone(family: dict[int, str], folders: list[Path]) -> None:
    """Wait until none of the processes runs and none of the folders is there."""
    wait_until(lambda: not [pid for pid in family if alive(pid)], GONE_S_MAX)
    wait_until(lambda: not [folder for folder in folders if folder.exists()], GONE_S_MAX)
