"""The projector on a backlog: events a second, and CPU µs an event over all its processes.

`pytest benchmarks --benchmark-only`; figures in `extra_info`. Absolute times hold for this machine and minute only.
"""

import time
from collections import Counter

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from cqrs_impl.projector import Projector
from crossover.namespaces import drop_namespace, fresh_namespace
from crossover.processes import Household
from crossover.seed import seed
from crossover.targets import Stores, midnight, prepare, target_env
from ladder.environment import Environment
from ladder.rungs import rung_module
from loadtests.cpu import Accounts


@pytest.mark.benchmark(group="projector")
def test_backlog(benchmark: BenchmarkFixture, house: Household, postgres_url: str, redis_url: str) -> None:
    env = target_env(Stores(postgres_url, redis_url), namespace=fresh_namespace("bench_cqrs"), clock=None, token=None)
    prepare(house, "bench", "cqrs", env)
    seed(env, "cqrs", "s", 1, midnight(), lambda phase, done, total: None)
    accounts = Accounts({name: [house.pids[name]] for name in ("postgres", "redis")})
    events, wall_s, cpu_us = 0, 0.0, Counter[str]()

    async def replay() -> int:
        own = Environment.from_environ(env)
        (projector,) = rung_module("cqrs").build(own).workers
        assert isinstance(projector, Projector)
        seen = 0

        def progress(done: int, total: int) -> None:
            nonlocal seen
            seen = done

        await projector.rebuild(progress)
        await own.close()
        return seen

    def measured() -> None:
        nonlocal events, wall_s
        before, own, start = accounts.read(), time.process_time(), time.perf_counter()
        events += uvloop.run(replay())
        wall_s += time.perf_counter() - start
        after = accounts.read()
        cpu_us.update(accounts.between(before, after), projector=round((time.process_time() - own) * 1e6))

    benchmark.pedantic(measured, rounds=3, iterations=1)
    assert events
    benchmark.extra_info["events_per_s"] = round(events / wall_s)
    benchmark.extra_info["cpu_us_per_event"] = round(cpu_us.total() / events, 1)
    benchmark.extra_info["of it"] = {name: round(us / events, 1) for name, us in cpu_us.items()}
    drop_namespace(env["CROSSOVER_NAMESPACE"], postgres_url, redis_url)
