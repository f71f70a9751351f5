"""Burns a known share of the CPU that a target uses: a planted difference that `crossover calibrate` must find.

`python -m crossover.planted 0.10` is started beside a target and watches every process in its run directory (Linux).
Its own CPU under load counts towards the share, so that the whole uses 1.10 times the CPU on any machine.
"""

import contextlib
import os
import sys
import time
from pathlib import Path

from loadtests.cpu import process_clock_ns

POLL_S = 0.005
LOOK_S = 1.0  # between looks for new processes
AT_REST_NS = 200_000  # in one poll: what idle servers use is not load


def main(share: float) -> None:
    clocks: dict[int, int] = {}
    looked_s, owed_ns, spent_ns = 0.0, 0.0, time.process_time_ns()
    while True:
        time.sleep(POLL_S)
        if time.monotonic() - looked_s > LOOK_S:
            looked_s = time.monotonic()
            siblings = _working_in(Path.cwd()) - {os.getpid()}
            clocks = {pid: clocks.get(pid, clock) for pid in siblings if (clock := _clock_ns(pid)) is not None}
        used_ns = 0
        for pid, before in clocks.items():
            clocks[pid] = _clock_ns(pid) or before
            used_ns += clocks[pid] - before
        if used_ns > AT_REST_NS:
            owed_ns += share * used_ns - (time.process_time_ns() - spent_ns)
        spent_ns = time.process_time_ns()
        while (owed_ns_left := owed_ns - (time.process_time_ns() - spent_ns)) > 0:
            pass
        if owed_ns > 0:
            owed_ns = owed_ns_left
        spent_ns = time.process_time_ns()


def _working_in(folder: Path) -> set[int]:
    """The processes whose working directory is the folder, or one within it: PostgreSQL's is its data."""
    found = set()
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if cwd.readlink().is_relative_to(folder):
                found.add(int(cwd.parent.name))
    return found


def _clock_ns(pid: int) -> int | None:
    try:
        return process_clock_ns(pid)
    except OSError:  # it has ended
        return None


if __name__ == "__main__":
    main(float(sys.argv[1]))
