"""Burns a known share of what its siblings use: a difference that `crossover calibrate` must find.

`python -m crossover.planted 0.10` is started by the keeper of a target and watches everything else the keeper started.
Its own cost while there is load is part of the share, so the whole needs 1.10 times as much, whatever the machine.
"""

import os
import sys
import time

from loadtests.cpu import process_clock_ns, read_tree

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
            siblings = {pid for pid, _ in read_tree([os.getppid()]).own_us} - {os.getpid()}
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


def _clock_ns(pid: int) -> int | None:
    try:
        return process_clock_ns(pid)
    except OSError:  # it has ended
        return None


if __name__ == "__main__":
    main(float(sys.argv[1]))
