"""The projector on a backlog: events a second, and CPU µs an event over all its processes.

`pytest benchmarks --benchmark-only`; figures in `extra_info`. Absolute times hold for this machine and minute only.
"""

import time
from collections import Counter
from typing import Any

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import SIZE, Filled
from cqrs_impl.projector import Projector
from ladder.environment import CLIENTS, LEVELS, Environment
from ladder.rung import rung as rung_of
from loadtests.cpu import Accounts
from servers.supervisor import Processes


@pytest.mark.benchmark(group="seed")
def test_seed_and_rebuild(benchmark: BenchmarkFixture, filled: Filled) -> None:
    """The truth, the outbox and the views of the whole data set: seconds, true of the first benchmark that fills."""
    benchmark.pedantic(filled, args=("cqrs",), rounds=1, iterations=1)


@pytest.mark.benchmark(group="projector")
@pytest.mark.parametrize("clients", LEVELS)
def test_backlog(benchmark: BenchmarkFixture, processes: Processes, filled: Filled, clients: str) -> None:
    env = filled("cqrs") | {CLIENTS: clients}
    accounts = Accounts({name: [processes.pids[name]] for name in ("postgres", "redis")})
    events, wall_s, cpu_us = 0, 0.0, Counter[str]()

    def made() -> tuple[tuple[Projector], dict[str, Any]]:
        """Before the clock runs, as the first loads the clients."""
        projector = rung_of("cqrs").workers(Environment(env, in_bulk=True))["projector"]
        assert isinstance(projector, Projector)
        return (projector,), {}

    async def replay(projector: Projector) -> int:
        seen = 0

        def progress(done: int, total: int) -> None:
            nonlocal seen
            seen = done

        await projector.rebuild(progress)
        await projector.close()
        return seen

    def measured(projector: Projector) -> None:
        nonlocal events, wall_s
        before, own, start = accounts.read(), time.process_time(), time.perf_counter()
        events += uvloop.run(replay(projector))
        wall_s += time.perf_counter() - start
        after = accounts.read()
        cpu_us.update(accounts.between(before, after), projector=round((time.process_time() - own) * 1e6))

    benchmark.pedantic(measured, setup=made, rounds=1 if SIZE == "m" else 3)
    assert events
    benchmark.extra_info["events_per_s"] = round(events / wall_s)
    benchmark.extra_info["cpu_us_per_event"] = round(cpu_us.total() / events, 1)
    benchmark.extra_info["of it"] = {name: round(us / events, 1) for name, us in cpu_us.items()}
