"""What a message broker costs, as one table: a backlog that goes through it, and what it takes when nothing happens.

A relay publishes a backlog while the projectors stand still, a process for each partition; then these apply it. Events
a second, CPU µs an event by component, and bytes an event on the broker. What a broker adds to `cqrs` is the first
half, and the broker's own part of the second. `BENCH_EVENTS=100000` ends the backlog there, a multiple of 500.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import Filled
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.documents.redis_client import step_client
from cqrs_impl.documents.redis_parts import layout
from cqrs_impl.feeds.relay import BATCH_MAX, Relay
from crossover.targets import ladder_command, process_env, serving
from ladder.broker.processes import keys
from ladder.broker.transports import TRANSPORTS
from ladder.connections import partitions
from ladder.environment import CLIENTS, LEVELS, Environment
from ladder.rung import Rung
from ladder.rung import rung as rung_of
from loadtests.cpu import Accounts
from servers.postgres import POSTGRES
from servers.redis import REDIS, Redis
from servers.server import Server
from servers.supervisor import Processes
from tests.service import wait_until

EVENTS = int(os.environ.get("BENCH_EVENTS", 10**9))
IDLE_S = float(os.environ.get("BENCH_IDLE_S", "10"))
APPLY_S_MAX = 600.0


@pytest.mark.benchmark(group="broker")
@pytest.mark.parametrize("clients", LEVELS)
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_backlog(
    benchmark: BenchmarkFixture,
    processes: Processes,
    filled: Filled,
    figures: list[str],
    transport: str,
    count: int,
    clients: str,
) -> None:
    one = rung_of(f"broker:{transport}-{count}-partitions-{count}-projectors")
    env, server = Environment(filled(f"broker:{transport}") | {CLIENTS: clients}), TRANSPORTS[transport].server
    servers = {each.name: [processes.pids[each.name]] for each in one.servers}

    def measured(run: Callable[[], None], workers: Mapping[str, list[int]]) -> tuple[float, dict[str, float]]:
        accounts = Accounts(servers | workers)
        before, start = accounts.read(), time.perf_counter()
        run()
        wall_s, spent = time.perf_counter() - start, accounts.between(before, accounts.read())
        return round(events / wall_s), {name: round(us / events, 1) for name, us in spent.items()}

    def publish() -> None:
        relay = one.workers(env)[Relay.name]
        assert isinstance(relay, Relay)

        async def published() -> None:
            done = 0
            while done < events and (await relay.step())[0]:
                done += BATCH_MAX
            await relay.close()

        uvloop.run(published())

    def apply(pids: Mapping[str, list[int]]) -> None:
        for (pid,) in pids.values():
            os.kill(pid, signal.SIGCONT)
        with step_client(env.url(REDIS)) as store:
            key = keys(env, one).checkpoint
            wait_until(lambda: Checkpoint.of(store.get(key) or b"").counted >= events, APPLY_S_MAX)  # type: ignore[arg-type]

    def both() -> None:
        with standing(one, env, processes) as pids:
            held = held_bytes(server, processes, env)
            relay, relay_us = measured(publish, {Relay.name: [os.getpid()]})
            held = held_bytes(server, processes, env) - held
            applied, apply_us = measured(lambda: apply(pids), pids)
        benchmark.extra_info.update(events=events, relay_events_per_s=relay, relay_cpu_us=relay_us)
        benchmark.extra_info.update(applied_events_per_s=applied, apply_cpu_us=apply_us)
        benchmark.extra_info["held_bytes_per_event"] = round(held / events)

    as_new(one, env, server)
    events = min(EVENTS, uvloop.run(backlog(one, env)))
    benchmark.pedantic(both, rounds=1, iterations=1)
    found = benchmark.extra_info
    added = sum(found["relay_cpu_us"].values()) + found["apply_cpu_us"][server.name]
    figures.append(
        f"{transport:14}{clients:10}{count:2} {events:7} events: relay {found['relay_events_per_s']:6}/s, added"
        f" {added:5.1f} µs, projectors {found['applied_events_per_s']:6}/s, {found['held_bytes_per_event']} bytes held"
    )


def as_new(one: Rung, env: Environment, server: Server) -> None:
    """As if no event had been published or applied."""
    for dropped in (REDIS, server):
        dropped.drop(env.url(dropped), env.namespace)
    with psycopg.connect(env.url(POSTGRES), autocommit=True) as connection:
        connection.execute(f"TRUNCATE {env.namespace}.outbox_relays")
    one.prepare(env)


async def backlog(one: Rung, env: Environment) -> int:
    system = one.system(env)
    ready = await system.readiness()
    await system.close()
    return ready.lag_events


@contextmanager
def standing(one: Rung, env: Environment, processes: Processes) -> Iterator[dict[str, list[int]]]:
    """The projectors of a rung as processes of their own, which have begun and stand still."""
    children = {name: f"bench-{one.name}/{name}" for name in one.worker_names if name != Relay.name}
    command, variables = ladder_command("worker", one.name), process_env(env.variables)
    pids = {name: [processes.start(child, [*command, name], env=variables)] for name, child in children.items()}
    try:
        with step_client(env.url(REDIS)) as store:
            members = f"{layout(env.namespace, partitions(one))}:projectors"
            wait_until(lambda: store.zcard(members) == len(pids))
        for (pid,) in pids.values():
            os.kill(pid, signal.SIGSTOP)
        yield pids
    finally:
        for name, child in children.items():
            os.kill(pids[name][0], signal.SIGCONT)
            processes.stop(child)


def held_bytes(server: Server, processes: Processes, env: Environment) -> int:
    """In memory where it keeps messages there, or else on its disk."""
    if isinstance(server, Redis):
        with step_client(env.url(server)) as store:
            return int(store.info("memory")["used_memory"])  # type: ignore[index]
    folder: Path = server.data_folder(processes)  # type: ignore[attr-defined]
    return sum(512 * file.stat().st_blocks for file in folder.rglob("*") if file.is_file())


@pytest.mark.benchmark(group="broker")
@pytest.mark.parametrize("transport", [None, *TRANSPORTS])
def test_at_rest(benchmark: BenchmarkFixture, figures: list[str], transport: str | None) -> None:
    """The start of the broker, and of a rung that does nothing: CPU a second and memory by component; first without a
    broker."""
    name, start_s = f"broker:{transport}" if transport else "cqrs", 0.0
    if transport:
        with Processes() as alone:
            begun = time.perf_counter()
            TRANSPORTS[transport].server.start(alone)
            start_s = time.perf_counter() - begun

    def rested() -> None:
        with serving(name) as target:
            accounts = Accounts(target.processes)
            time.sleep(3.0)  # until all have begun
            before = accounts.read()
            time.sleep(IDLE_S)
            spent = accounts.between(before, accounts.read())
            idle = {part: round(us / IDLE_S / 1000, 1) for part, us in spent.items()}
            memory = {part: round(resident(pids) / 2**20) for part, pids in target.processes.items()}
        benchmark.extra_info.update(start_s=round(start_s, 2), idle_ms_per_s=idle, resident_mib=memory)

    benchmark.pedantic(rested, rounds=1, iterations=1)
    found = benchmark.extra_info
    idle, memory = (
        ", ".join(f"{part} {n}" for part, n in found[kind].items()) for kind in ("idle_ms_per_s", "resident_mib")
    )
    figures.append(f"{name}: broker starts in {start_s:.2f} s; idle CPU, ms/s: {idle}; memory, MiB: {memory}")


def resident(pids: list[int]) -> int:
    """What processes share is counted once."""
    family = [one for pid in pids for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    return sum(one.memory_full_info().pss for one in family)
