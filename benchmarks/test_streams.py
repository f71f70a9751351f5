"""What an order costs whose product has a stock stream of 10, 100 or 10,000 events, with snapshots and without."""

import random
import statistics
import time
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from contract.messages import AddProduct, PlaceOrder, RegisterCustomer, Wanted
from cqrs_impl.event_store.events import StockTaken, encode
from crossover.targets import target_env
from crud_impl.load import copy
from ladder.environment import LEVELS, Environment
from ladder.rung import rung
from loadtests.cpu import Accounts
from servers.postgres import POSTGRES
from servers.server import fresh_namespace
from servers.supervisor import Processes
from tests.conftest import UrlOf

LENGTHS = (10, 100, 10_000)  # in tables a product has none
CASES = {"crud": (0,), "cqrs": (0,), "event_sourced": LENGTHS, "event_sourced:no-snapshots": LENGTHS}
ORDERS, ROUNDS = 20, 12


@pytest.mark.benchmark(group="writes")
def test_long_streams(benchmark: BenchmarkFixture, processes: Processes, url_of: UrlOf) -> None:
    """CPU µs of both sides, medians, by level, rung and length."""
    urls = {server.name: url_of(server) for server in rung("cqrs").servers}
    accounts, spent = Accounts({"postgres": [processes.pids["postgres"]]}), dict[str, list[float]]()

    async def turn(env: Environment, system: Any, length: int) -> float:
        customer, product = str(uuid4()), str(uuid4())
        await system.execute(RegisterCustomer(customer, "Ann"))
        await system.execute(AddProduct(product, "Tea", 100, 1_000_000))
        taken = (StockTaken(product, version, str(uuid4()), 1) for version in range(1, length + 1))
        with psycopg.connect(env.url(POSTGRES), options=f"-c search_path={env.namespace}") as connection:
            if length:
                copy(connection, "outbox (stream, version, body)", ((e.stream, e.version, encode(e)) for e in taken))
        orders = [PlaceOrder(str(uuid4()), customer, (Wanted(product, 1),)) for _ in range(ORDERS + 1)]
        await system.execute(orders.pop())  # writes the first snapshot
        before, own = accounts.read(), time.process_time()
        for order in orders:
            await system.execute(order)
        return ((time.process_time() - own) * 1e6 + accounts.between(before, accounts.read())["postgres"]) / ORDERS

    async def rounds() -> None:
        cases = [(name, level, length) for name, lengths in CASES.items() for level in LEVELS for length in lengths]
        opened = dict[tuple[str, str], tuple[Environment, Any]]()
        for name, level, _ in cases:
            env = Environment(target_env(name, urls, namespace=fresh_namespace("bench"), clients=level))
            if (name, level) not in opened:
                rung(name).prepare(env)
                opened[name, level] = env, rung(name).system(env)
        for _ in range(ROUNDS):
            for name, level, length in random.sample(cases, len(cases)):
                spent.setdefault(f"{level}, {name}, {length}", []).append(await turn(*opened[name, level], length))
        for env, system in opened.values():
            await system.close()
            for server in rung("cqrs").servers:
                server.drop(url_of(server), env.namespace)

    benchmark.pedantic(lambda: uvloop.run(rounds()), rounds=1, iterations=1)
    benchmark.extra_info |= {name: round(statistics.median(each[1:])) for name, each in sorted(spent.items())}
