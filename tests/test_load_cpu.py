"""CPU accounts: a known amount burnt by a child, by its threads and by children that are gone is found again."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtests.cpu import Accounts, process_clock_ns, read_machine

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="CPU accounts need Linux")

BURN_US = 300_000
BURN = f"""
import os, subprocess, sys, threading, time
def burn():
    end = time.thread_time_ns() + {BURN_US} * 1000
    while time.thread_time_ns() < end: pass
"""
# Each says that it is there and waits for a line, works, and says so; then it waits again.
READY, DONE = "print(flush=True); input(); ", "; print(flush=True); input()"
ITSELF = BURN + READY + "burn()" + DONE
A_THREAD = BURN + READY + "t = threading.Thread(target=burn); t.start(); t.join()" + DONE
A_CHILD = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {ITSELF!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
child.stdout.readline(); {READY}print(file=child.stdin, flush=True); child.stdout.readline(){DONE}
"""
AN_EXITED_CHILD = BURN + f"{READY}\npid = os.fork()\nif not pid: burn(); os._exit(0)\nos.waitpid(pid, 0){DONE}"
AN_EARLIER_CHILD = BURN + f"pid = os.fork()\nif not pid: burn(); {READY}os._exit(0)\nos.waitpid(pid, 0){DONE}"


@contextmanager
def running(code: str) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-c", code]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline(), "it has started"
            yield process
        finally:
            process.kill()


def work(process: subprocess.Popen[str]) -> None:
    assert process.stdin and process.stdout
    print(file=process.stdin, flush=True)
    process.stdout.readline()


@pytest.mark.parametrize("code", [ITSELF, A_THREAD, A_CHILD, AN_EXITED_CHILD])
def test_burnt_cpu_is_found_wherever_it_was_burnt(code: str) -> None:
    with running(code) as process:
        accounts = Accounts({"app": [process.pid]})
        before = accounts.read()
        work(process)
        spent_us = accounts.between(before, accounts.read())["app"]
    # Exited children are told in ticks of 10 ms; to start a thread or a child costs too, on a busy machine more.
    assert BURN_US - 15_000 <= spent_us <= BURN_US * 1.5


def test_the_process_clock_agrees_with_the_sum_over_its_threads() -> None:
    with running(A_THREAD.replace("t.join()", "t.join(); burn()")) as process:
        work(process)
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        by_threads_ns = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
        clock_ns = process_clock_ns(process.pid)
    # The thread that has ended is in the clock alone: that is why the clock is used.
    assert clock_ns - by_threads_ns == pytest.approx(BURN_US * 1_000, rel=0.3)


def test_a_child_that_was_there_before_and_ended_is_not_counted_twice() -> None:
    with running(AN_EARLIER_CHILD) as process:
        accounts = Accounts({"app": [process.pid]})
        before = accounts.read()
        assert len(before["app"].own_us) == 2
        work(process)
        spent_us = accounts.between(before, accounts.read())["app"]
    assert 0 <= spent_us < BURN_US / 3, "what it burnt before the window stays before the window"


def test_components_are_told_apart_and_a_dead_root_is_reported() -> None:
    with running(ITSELF) as busy, running(ITSELF) as idle:
        accounts = Accounts({"app": [busy.pid], "projector": [idle.pid], "redis": []})
        before = accounts.read()
        work(busy)
        spent_us = accounts.between(before, accounts.read())
        assert spent_us["projector"] < BURN_US / 10 and spent_us["app"] > BURN_US * 0.9
        assert accounts.missing() == []
    assert accounts.missing() == ["app", "projector"]


def test_steal_and_throttling_are_shares() -> None:
    before, after = read_machine(), read_machine()
    assert before and after and 0 <= after.stolen_since(before) <= 1
    limited = before._replace(throttled_us=0, at_us=0)
    for throttled_us, share in ((None, 0), (0, 0), (300, 0.3), (4_000, 1)):
        assert limited._replace(throttled_us=throttled_us, at_us=1_000).throttled_since(limited) == share
