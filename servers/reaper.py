"""The reaper ends what a command has started when the command itself has ended, however it ended.

It reads one JSON object a line from a pipe that only the command, and a child until its exec, holds open:
{"started": pid, "stop": [signal, seconds]} · {"ended": pid} · {"last": [argv], "env": {...}}. The kernel closes the
pipe with the command, SIGKILL included. At the end of file the reaper ends every process group it was told of, runs
the last commands and removes the folders. Run by path with the standard library alone, it starts in milliseconds.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

LAST_S_MAX = 30.0
Groups = dict[int, tuple[int, float]]  # process group → the signal that ends it, and the seconds that it is given
Last = list[tuple[list[str], dict[str, str]]]  # commands with their environments


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet waited for does not."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return stat.rpartition(")")[2].split()[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_group(pid: int, stop: tuple[int, float]) -> None:
    """End a leader by its signal, then whatever is left of its group."""
    number, patience_s = stop
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)  # a stopped process obeys SIGKILL alone
    deadline = time.monotonic() + patience_s
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    while alive(pid):
        time.sleep(0.005)


def clean_up(groups: Groups, last: Last, folders: list[str]) -> None:
    """The last started is the first ended: workers and apps before the servers they use."""
    for pid in reversed(groups):
        end_group(pid, groups[pid])
    for argv, env in last:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, timeout=LAST_S_MAX, check=False)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def main(folders: list[str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the end of the command ends the reaper
    groups: Groups = {}
    last: Last = []
    for line in sys.stdin.buffer:
        if not line.endswith(b"\n"):
            break  # the command was killed in the middle of a line
        told = json.loads(line)
        if "started" in told:
            groups[told["started"]] = (told["stop"][0], told["stop"][1])
        elif "ended" in told:
            groups.pop(told["ended"], None)
        else:
            last.append((told["last"], told["env"]))
    clean_up(groups, last, folders)


if __name__ == "__main__":
    main(sys.argv[1:])
