"""Two projectors at work, and one of them killed again and again: every event counts once in every total.

`KILLS=25 EVENTS=20000 pytest tests/test_kills.py` is the long form.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from itertools import islice
from random import Random

import msgspec
import psycopg
import redis

from contract.messages import Event
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.documents.redis import Keys
from cqrs_impl.feeds.outbox.recorder import LAST, place
from crossover.targets import Target, process_env, target_env
from servers.supervisor import Processes
from tests.service import wait_until
from tests.story import events, totals

KILLS = int(os.environ.get("KILLS", "3"))
EVENTS = int(os.environ.get("EVENTS", 750 * KILLS))
APPEND = "INSERT INTO outbox (stream, version, body) VALUES (%s, %s, %s)"
# The worker of the ladder with small batches: more places to be killed at, and the two meet more often.
WORKER = """
import functools
from ladder import cqrs, run
cqrs.Projector = functools.partial(cqrs.Projector, batch_max=20)
run.main()
"""


class Projectors:
    """Two processes that follow one outbox; who is killed is replaced."""

    def __init__(self, processes: Processes, env: dict[str, str]) -> None:
        self.processes, self.env = processes, process_env(env | {"PGAPPNAME": env["CROSSOVER_NAMESPACE"]})
        self.names: list[str] = []
        self.started = 0
        for _ in range(2):
            self.start()

    def start(self) -> None:
        self.started += 1
        self.names.append(f"{self.env['CROSSOVER_NAMESPACE']}/projector-{self.started}")
        self.processes.start(
            self.names[-1], [sys.executable, "-c", WORKER, "worker", "cqrs", "projector"], env=self.env
        )

    def kill(self, number: int) -> None:
        name = self.names.pop(number)
        assert name not in self.processes.ended, f"it died by itself: {self.processes.last_lines(name)}"
        os.kill(self.processes.pids[name], signal.SIGKILL)
        self.processes.wait(lambda: name in self.processes.ended, "a projector to die", 90)
        self.start()

    def stop(self) -> None:
        for name in self.names:
            self.processes.stop(name)


def test_kills_leave_every_total_exact(
    processes: Processes, postgres_url: str, redis_url: str, namespace: Callable[[], str], summary: list[str]
) -> None:
    rng, name = Random(1), namespace()
    env, keys = target_env("cqrs", {"postgres": postgres_url, "redis": redis_url}, namespace=name), Keys(name)
    Target(name, "cqrs", env, processes).prepare(private=True)
    story = events(Random(2), things=8, kinds=("place", "place", "advance", "deliver"))
    projectors, interrupted = Projectors(processes, env), 0
    happened: list[Event] = []
    options = f"-c search_path={name}"
    with (
        psycopg.connect(postgres_url, options=options, autocommit=True) as truth,
        redis.Redis.from_url(redis_url) as store,
    ):

        def working() -> int:
            row = truth.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [name]).fetchone()
            return row[0] if row else 0

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

        for _ in range(KILLS):
            wait_until(lambda: working() == 2)
            at = store.get(keys.checkpoint)
            append(EVENTS // KILLS)
            wait_until(lambda at=at: store.get(keys.checkpoint) != at)
            threading.Event().wait(rng.uniform(0, 0.12))  # anywhere in its work
            projectors.kill(rng.randrange(2))
            interrupted += behind()
        wait_until(lambda: not behind())
        projectors.stop()
        expected = totals(happened, keys)
        shown = {key: msgspec.json.decode(store.get(key) or b"null") for key in expected}
    off = {key: shown[key] for key in expected if not expected[key].items() <= shown[key].items()}
    assert not off, f"{len(off)} of {len(expected)} totals are off"
    assert interrupted, "at least one was killed in the middle of its work"
    summary.append(
        f"kills: {KILLS} of two projectors under {len(happened):,} events, {interrupted} with work left:"
        f" 0 of {len(expected)} totals off"
    )
