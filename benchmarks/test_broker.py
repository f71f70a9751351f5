"""A backlog through a message broker: a relay publishes every event of the data set, then projectors apply them.

Events a second and CPU µs an event of both halves, by process. The relay, and all projectors together, have one
process here, so that events a second are those of one core. What a broker adds to `cqrs` is the first half, and the
broker's own part of the second.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import Filled
from contract.tasks import end
from cqrs_impl.feeds.relay import Relay
from cqrs_impl.projectors import Projectors
from ladder.broker.transports import TRANSPORTS
from ladder.environment import CLIENTS, LEVELS, Environment
from ladder.rung import rung as rung_of
from loadtests.cpu import Accounts
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.supervisor import Processes

POLL_S = 0.02


@pytest.mark.benchmark(group="broker")
@pytest.mark.parametrize("clients", LEVELS)
@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_backlog(
    benchmark: BenchmarkFixture, processes: Processes, filled: Filled, transport: str, partitions: int, clients: str
) -> None:
    one = rung_of(f"broker:{transport}-{partitions}-partitions")
    env = Environment(filled(one.name) | {CLIENTS: clients})
    workers = one.workers(env)
    relay, projectors = workers["relay"], workers["projector"]
    assert isinstance(relay, Relay) and isinstance(projectors, Projectors)
    accounts = Accounts({server.name: [processes.pids[server.name]] for server in one.servers})

    def as_new() -> None:
        """As if no event had been published or applied."""
        REDIS.drop(env.url(REDIS), env.namespace)
        with psycopg.connect(env.url(POSTGRES), autocommit=True) as connection:
            connection.execute(f"TRUNCATE {env.namespace}.outbox_relays")
        one.prepare(env)

    async def backlog() -> int:
        system = one.system(env)
        ready = await system.readiness()
        await system.close()
        return ready.lag_events

    async def publish() -> None:
        while (await relay.step())[0]:
            pass

    async def project() -> None:
        system, running = one.system(env), asyncio.ensure_future(projectors.run())
        while (await system.readiness()).lag_events:
            await asyncio.wait([running], timeout=POLL_S)
        await end([running])
        await system.close()

    def measured(half: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        before, own, start = accounts.read(), time.process_time(), time.perf_counter()
        uvloop.run(run())
        wall_s, after = time.perf_counter() - start, accounts.read()
        spent = accounts.between(before, after) | {half: round((time.process_time() - own) * 1e6)}
        benchmark.extra_info[f"{half}: events_per_s"] = round(events / wall_s)
        benchmark.extra_info[f"{half}: cpu_us_per_event"] = {name: round(us / events, 1) for name, us in spent.items()}

    def both() -> None:
        measured("relay", publish)
        measured("projectors", project)

    as_new()
    events = uvloop.run(backlog())
    assert events
    benchmark.pedantic(both, rounds=1, iterations=1)
