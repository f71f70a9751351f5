"""CPU time of process trees, by component, in microseconds; what other machines took (steal), and what a quota did.

The CPU clock of a process (`clock_gettime`, Linux) is exact to the nanosecond and includes all its threads, exited ones
too. Exited children are counted in their parent's `cutime + cstime`, which the kernel reports in ticks of 10 ms.
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtests.limits import read_limits

_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """`started` tells a process from a later one under the same pid."""

    pid: int
    parent: int
    started: int
    reaped_us: int  # CPU of exited and awaited children, in whole ticks


class Reading(NamedTuple):
    """The clocks of one process tree at one moment: (pid, started) → µs."""

    own_us: dict[tuple[int, int], int]
    reaped_us: dict[tuple[int, int], int]


def process_clock_ns(pid: int) -> int:
    """CPU time of all threads of a process since it started; raises OSError when it is gone.

    The clock id of another process is built as the kernel does it (MAKE_PROCESS_CPUCLOCK, CPUCLOCK_SCHED).
    """
    return time.clock_gettime_ns((~pid << 3) | 2)


def spent_us(before: Reading, after: Reading) -> int:
    """CPU of a tree between two readings, with that of processes that came and went."""
    own = sum(us - before.own_us.get(process, 0) for process, us in after.own_us.items())
    reaped = sum(us - before.reaped_us.get(process, 0) for process, us in after.reaped_us.items())
    if not reaped:
        return own
    # What a vanished process had used before the first reading is in its parent's figure too.
    known = sum(us for process, us in before.own_us.items() if process not in after.own_us)
    return own + max(0, reaped - known)


class Accounts:
    """The components of one target: take `read()` before and after, `between()` is the cost by component."""

    def __init__(self, components: Mapping[str, Sequence[int]]) -> None:
        self.components = {name: tuple(pids) for name, pids in components.items() if pids}

    def read(self) -> dict[str, Reading]:
        if not self.components:
            return {}
        processes = _processes()
        return {name: _tree(pids, processes) for name, pids in self.components.items()}

    def between(self, before: Mapping[str, Reading], after: Mapping[str, Reading]) -> dict[str, int]:
        return {name: spent_us(before[name], after[name]) for name in self.components}

    def missing(self) -> list[str]:
        """Components of which a root process is gone."""
        return [
            name for name, pids in self.components.items() if not all(Path(f"/proc/{pid}").exists() for pid in pids)
        ]


class Machine(NamedTuple):
    """CPU of all cores since boot, in whole ticks, as µs."""

    busy_us: int  # of processes here; what was stolen is no part of it
    stolen_us: int
    total_us: int
    throttled_us: int | None  # what a container's quota withheld; None without one
    at_us: int

    def throttled_since(self, before: "Machine") -> float:
        """A share of the time; several cores can be stopped at once."""
        if self.throttled_us is None or before.throttled_us is None:
            return 0.0
        return min(1.0, (self.throttled_us - before.throttled_us) / max(1, self.at_us - before.at_us))

    def stolen_since(self, before: "Machine") -> float:
        total_us = self.total_us - before.total_us
        return (self.stolen_us - before.stolen_us) / total_us if total_us else 0.0


def read_machine() -> Machine | None:
    """None where the kernel does not tell."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    ticks = [int(field) * _TICK_US for field in fields[1:9]]  # guest time, after these, is contained in user time
    if len(ticks) != 8:
        return None
    return Machine(sum(ticks[:3]), ticks[7], sum(ticks), read_limits().throttled_us, time.monotonic_ns() // 1_000)


def _tree(roots: Sequence[int], processes: Mapping[int, Process]) -> Reading:
    children: dict[int, list[int]] = {}
    for child in processes.values():
        children.setdefault(child.parent, []).append(child.pid)
    reading = Reading({}, {})
    todo = list(roots)
    while todo:
        pid = todo.pop()
        process = processes.get(pid)
        if process is None:
            continue
        key = (pid, process.started)
        if key in reading.own_us:
            continue
        todo += children.get(pid, ())
        reading.reaped_us[key] = process.reaped_us
        try:
            reading.own_us[key] = process_clock_ns(pid) // 1_000
        except OSError:  # it ended since; its parent will account for it
            del reading.reaped_us[key]
    return reading


def _processes() -> dict[int, Process]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    text = file.read()
            except OSError:  # it ended while we looked
                continue
            # The command's name stands in parentheses and may hold anything, so count from the last one.
            fields = text[text.rindex(b")") + 2 :].split()
            reaped = (int(fields[13]) + int(fields[14])) * _TICK_US
            found[int(name)] = Process(int(name), int(fields[1]), int(fields[19]), reaped)
    return found
