"""Benchmarks use the servers that the tests use, and targets over one filled data set."""

import os
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.load import connected, steady
from benchmarks.systems import SYSTEMS
from crossover.targets import LOOPBACK, Target, listen, process_env, target_env
from ladder.environment import CLIENTS, LEVELS
from ladder.rung import rung as rung_of
from loadtests.cpu import Accounts
from loadtests.dataset import SIZES, Dataset
from servers.server import fresh_namespace
from servers.supervisor import Processes
from tests.conftest import UrlOf, processes, url_of

__all__ = ["processes", "url_of"]
SIZE = os.environ.get("BENCH_SIZE", "m")  # the figures asked for are of m; s is done sooner
DATASET = Dataset(1, *SIZES[SIZE])
Filled = Callable[[str], dict[str, str]]
FIGURES: list[str] = []


@pytest.fixture
def figures() -> list[str]:
    """Rows of a table that is printed when all benchmarks have run."""
    return FIGURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("figures")
        terminalreporter.write("\n".join(FIGURES) + "\n")


@pytest.fixture(scope="session")
def filled(processes: Processes, url_of: UrlOf) -> Iterator[Filled]:
    """`filled(rung)`: the variables of a rung's stores with the data set in them."""
    envs: dict[str, dict[str, str]] = {}

    def fill(rung: str) -> dict[str, str]:
        if rung not in envs:
            urls = {server.name: url_of(server) for server in rung_of(rung).servers}
            env = target_env(rung, urls, namespace=fresh_namespace("bench"))
            placed = Target(f"bench-{rung}", rung, env, processes)
            placed.prepare()
            placed.load(SIZE, 1)
            envs[rung] = env
        return envs[rung]

    yield fill
    for rung, env in envs.items():
        for server in rung_of(rung).servers:
            server.drop(url_of(server), env["CROSSOVER_NAMESPACE"])


@pytest.fixture(scope="session")
def target(processes: Processes, filled: Filled) -> Iterator[Callable[[str], Target]]:
    """`target(name)`: a rung over the filled stores, "crud lean" with those clients, or one of `benchmarks.systems`."""
    running: dict[str, Target] = {}

    def start(name: str) -> Target:
        if name in running:
            return running[name]
        listening = listen(LOOPBACK, 0)
        rung, _, clients = name.partition(" ")
        if rung not in SYSTEMS:
            env = filled(rung) | {CLIENTS: clients or LEVELS[0]}
            running[name] = Target(f"bench-{rung}-{clients}", rung, env, processes).launch(listening)
            return running[name]
        url, env = f"http://{LOOPBACK}:{listening.getsockname()[1]}", filled("crud")
        command = [sys.executable, Path(__file__).with_name("systems.py"), name, "{fd}"]
        with listening:
            pid = processes.start(f"bench-{name}/app", command, env=process_env(env), listening=listening)
        components = {"app": [pid]} | ({"postgres": [processes.pids["postgres"]]} if name == "raw" else {})
        running[name] = Target(f"bench-{name}", name, env, processes, url, components)
        running[name].wait_until_healthy()
        return running[name]

    yield start
    for one in running.values():
        one.stop()


class Turns(NamedTuple):
    """Of one target."""

    cpu_us: dict[str, float]  # a request, by component: medians over rounds
    took_ms: list[float]  # of each request


async def in_turns(
    targets: Sequence[Target], requests: Sequence[bytes], rate_per_s: float, rounds: int
) -> dict[str, Turns]:
    """By target: what requests cost and take, in rounds in each of which all take a turn."""
    found: dict[str, list[dict[str, float]]] = {target.name: [] for target in targets}
    took_ms: dict[str, list[float]] = {target.name: [] for target in targets}
    for number in range(rounds + 1):
        for target in random.sample(targets, len(targets)):
            async with connected(target.url) as wires:  # anew: an unused connection is kept for 5 s
                accounts = Accounts(target.processes)
                before = accounts.read()
                took = await steady(wires, requests, rate_per_s)
                spent = accounts.between(before, accounts.read())
            if number:  # the first round warms up
                found[target.name].append({name: us / len(requests) for name, us in spent.items()})
                took_ms[target.name] += took
    return {
        target: Turns({name: statistics.median(turn[name] for turn in turns) for name in turns[0]}, took_ms[target])
        for target, turns in found.items()
    }
