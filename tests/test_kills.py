"""Workers of a rung, and one of them killed again and again: every event counts once in every total.

`KILLS=25 EVENTS=20000 pytest tests/test_kills.py` is the long form.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from random import Random

import msgspec
import psycopg
import pytest
import redis

from contract.messages import Event
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.documents.redis import Keys
from cqrs_impl.documents.redis_parts import PartKeys
from cqrs_impl.feeds.outbox.recorder import LAST, place
from cqrs_impl.part import Part
from crossover.targets import Target, process_env, target_env
from servers.supervisor import Processes
from tests.conftest import one_short
from tests.service import wait_until
from tests.story import events, totals

KILLS = int(os.environ.get("KILLS", "2"))
EVENTS = int(os.environ.get("EVENTS", 750 * KILLS))
APPEND = "INSERT INTO outbox (stream, version, body) VALUES (%s, %s, %s)"
# A worker of the ladder with small batches: more places to be killed at, and the two meet more often.
WORKER = """
import functools
from ladder import cqrs, run
from ladder.broker import processes
cqrs.Projector = processes.Projector = functools.partial(cqrs.Projector, batch_max=20)
run.main()
"""


class Workers:
    """Processes that follow one outbox; who is killed is replaced. Each says to the database who it is."""

    def __init__(self, processes: Processes, rung: str, workers: Sequence[str], env: dict[str, str]) -> None:
        self.processes, self.rung, self.env = processes, rung, env
        self.names: dict[str, str] = {}  # of a process → of its worker
        self.started = 0
        for worker in workers:
            self.start(worker)

    def start(self, worker: str) -> None:
        self.started += 1
        name = f"{self.env['CROSSOVER_NAMESPACE']}/{self.started}"
        self.names[name] = worker
        command = [sys.executable, "-c", WORKER, "worker", self.rung, worker]
        self.processes.start(name, command, env=process_env(self.env | {"PGAPPNAME": name}))

    def kill(self, name: str) -> None:
        worker = self.names.pop(name)
        assert name not in self.processes.ended, f"it died by itself: {self.processes.last_lines(name)}"
        os.kill(self.processes.pids[name], signal.SIGKILL)
        self.processes.wait(lambda: name in self.processes.ended, f"the {worker} to die", 90)
        self.start(worker)

    def stop(self) -> None:
        for name in self.names:
            self.processes.stop(name)


FAMILIES = {"cqrs": ("projector", "projector"), "broker:2-projectors": ("relay", "projector-1", "projector-2")}


@pytest.mark.parametrize("rung", one_short(FAMILIES))
def test_kills_leave_every_total_exact(
    rung: str,
    processes: Processes,
    postgres_url: str,
    redis_url: str,
    streams_url: str,
    namespace: Callable[[], str],
    summary: list[str],
) -> None:
    rng, name = Random(1), namespace()
    env = target_env(rung, {"postgres": postgres_url, "redis": redis_url, "streams": streams_url}, namespace=name)
    keys = Keys(name) if rung == "cqrs" else PartKeys(name, Part(0, 2))
    Target(name, rung, env, processes).prepare(private=True)
    story = events(Random(2), things=8, kinds=("place", "place", "advance", "deliver"))
    workers, interrupted = Workers(processes, rung, FAMILIES[rung], env), 0
    happened: list[Event] = []
    options = f"-c search_path={name}"
    with (
        psycopg.connect(postgres_url, options=options, autocommit=True) as truth,
        redis.Redis.from_url(redis_url) as store,
    ):

        def working() -> set[str]:
            names = truth.execute("SELECT application_name FROM pg_stat_activity").fetchall()
            return {found for (found,) in names} & set(workers.names)

        def append(count: int) -> None:
            some = list(islice(story, count))
            happened.extend(some)
            rows = [(event.stream, event.version, msgspec.json.encode(event).decode()) for event in some]
            with truth.transaction(), truth.cursor() as cursor:
                cursor.executemany(APPEND, rows)
                cursor.execute("SELECT pg_notify(%s, '')", [name])

        def behind() -> bool:
            found = store.get(keys.checkpoint)
            return found is None or Checkpoint.of(found).position < place(*(truth.execute(LAST).fetchone() or ()))

        kills = 0
        while kills < KILLS or (not interrupted and kills < 20 * KILLS):  # a busy machine may be late to kill
            kills += 1
            wait_until(lambda: working() == set(workers.names))
            at = store.get(keys.checkpoint)
            append(EVENTS // KILLS)
            wait_until(lambda at=at: store.get(keys.checkpoint) != at)
            threading.Event().wait(rng.uniform(0, 0.12))  # anywhere in its work
            workers.kill(rng.choice(list(workers.names)))
            interrupted += behind()
        wait_until(lambda: not behind())
        workers.stop()
        expected = totals(happened, keys)
        shown = {key: msgspec.json.decode(store.get(key) or b"null") for key in expected}
    off = {key: shown[key] for key in expected if not expected[key].items() <= shown[key].items()}
    assert not off, f"{len(off)} of {len(expected)} totals are off"
    assert interrupted, "at least one was killed in the middle of its work"
    summary.append(
        f"kills: {kills} of the workers of {rung} under {len(happened):,} events, {interrupted} with work left:"
        f" 0 of {len(expected)} totals off"
    )
