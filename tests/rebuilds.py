"""What tests of live rebuilds share: events that only a projector knows, and a rebuild that is ended in the middle."""

import contextlib
import os
import signal
from collections.abc import Callable
from itertools import islice
from random import Random

import psycopg

from cqrs_impl.event_store.events import encode
from crossover.targets import Target, ladder_command, process_env
from crud_impl.load import copy
from ladder.run import NICE, SHARED_BY_SESSION
from servers.supervisor import Processes
from tests.service import wait_until
from tests.story import events

DEADLINE_S = 300
PAUSE_S = 0.05  # of who reads and writes, so that a small machine has time for who builds


def fill(target: Target, count: int) -> None:
    """Events in the outbox, of which nobody knows but the projector."""
    story = events(Random(3), 10, ("place", "place", "advance", "deliver"))
    options = f"-c search_path={target.env['CROSSOVER_NAMESPACE']}"
    with psycopg.connect(target.env["DATABASE_URL"], options=options) as connection:
        rows = ((one.stream, one.version, encode(one)) for one in islice(story, count))
        copy(connection, "outbox (stream, version, body)", rows)


def end_in_the_middle(
    target: Target, processes: Processes, reached: Callable[[], bool], by: signal.Signals = signal.SIGKILL
) -> None:
    """Of a live rebuild, in a process of its own, once this is reached."""
    builder = f"builder of {target.env['CROSSOVER_NAMESPACE']}"
    pid = processes.start(builder, ladder_command("rebuild", target.rung, "live"), env=process_env(target.env))
    wait_until(lambda: reached() or processes.poll() or builder in processes.ended, DEADLINE_S)
    assert processes.ended.get(builder, 0) == 0, "nothing else ends it"
    with contextlib.suppress(ProcessLookupError):  # it has ended already, if this thread had to wait for long
        assert os.getpriority(os.PRIO_PROCESS, pid) == NICE, "those who serve go first"
        if SHARED_BY_SESSION.exists() and SHARED_BY_SESSION.read_text() == "1\n":
            assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        os.kill(pid, by)
    wait_until(lambda: processes.poll() or builder in processes.ended, DEADLINE_S)
