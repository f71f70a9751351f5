"""What an outbox and long streams of events add to a command, and how soon a command can be read.

`pytest benchmarks --benchmark-only`; figures in `extra_info`.
"""

import asyncio
import itertools
import random
import statistics
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import DATASET, Filled
from benchmarks.load import connected, put, steady
from contract.messages import AddProduct, PlaceOrder, RegisterCustomer, Wanted
from contract.ports import utc_now
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.commands import Commands, NoRecorder
from cqrs_impl.documents.redis import Keys
from cqrs_impl.event_store.events import StockTaken, encode
from cqrs_impl.feeds.outbox.recorder import Outbox
from crossover.targets import Target, target_env
from crud_impl import orders
from crud_impl.load import copy
from ladder.connections import database, redis_client
from ladder.environment import CLIENTS, LEVELS, Environment
from ladder.rung import rung
from loadtests.cpu import Accounts
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import fresh_namespace
from servers.supervisor import Processes
from tests.conftest import UrlOf


def order(number: int) -> PlaceOrder:
    products = [DATASET.product_id((number * 7 + line * 31) % DATASET.size.products) for line in range(3)]
    customer = DATASET.customer_id(number * 13 % DATASET.size.customers)
    return PlaceOrder(str(uuid4()), customer, tuple(Wanted(product, 1) for product in products))


# An order by one statement that decides nothing: no lock, no price asked for, no repeat seen.
ONE_STATEMENT = orders.INSERT.encode()


@pytest.mark.benchmark(group="writes")
def test_place_order(benchmark: BenchmarkFixture, processes: Processes, url_of: UrlOf, filled: Filled) -> None:
    """CPU of both sides for an order placed without HTTP: by each level, with and without an outbox."""
    both = filled("crud") | {REDIS.variable: url_of(REDIS)}
    Target("bench-outbox", "cqrs", both, processes).prepare()  # an outbox that no projector follows
    accounts = Accounts({"postgres": [processes.pids["postgres"]]})
    spent: dict[str, list[float]] = {}

    async def turn(place: Callable[[PlaceOrder], Awaitable[Any]]) -> float:
        """CPU µs an order, of 200 one after the other."""
        before, own = accounts.read(), time.process_time()
        for number in range(200):
            await place(order(number))
        return ((time.process_time() - own) * 1e6 + accounts.between(before, accounts.read())["postgres"]) / 200

    async def rounds() -> None:
        ways: dict[str, Callable[[PlaceOrder], Awaitable[Any]]] = {}
        tables = []
        for level in LEVELS:
            env = Environment(filled("crud") | {CLIENTS: level})
            tables.append(database(env))
            ways[level] = Commands(tables[-1], NoRecorder(), utc_now).execute
            ways[f"{level}, outbox"] = Commands(tables[-1], Outbox(env.namespace), utc_now).execute
        connection = await psycopg.AsyncConnection.connect(
            env.url(POSTGRES), autocommit=True, prepare_threshold=1, options=f"-c search_path={env.namespace}"
        )
        ways["one statement"] = lambda command: connection.execute(ONE_STATEMENT, values_of(command))
        for _ in range(16):
            for name in random.sample([*ways], len(ways)):
                spent.setdefault(name, []).append(await turn(ways[name]))
        await connection.close()
        for one in tables:
            await one.close()

    benchmark.pedantic(lambda: uvloop.run(rounds()), rounds=1, iterations=1)
    for level in LEVELS:
        for one, other in ((level, "one statement"), (f"{level}, outbox", level)):
            ratios = [a / b for a, b in zip(spent[one][1:], spent[other][1:], strict=True)]  # the first warms up
            benchmark.extra_info[f"{one} / {other}"] = round(statistics.median(ratios), 3)


def values_of(command: PlaceOrder) -> dict[str, Any]:
    products, quantities = [line.product_id for line in command.lines], [line.quantity for line in command.lines]
    row = {"id": command.id, "customer": command.customer_id, "at": utc_now(), "count": len(products), "total": 300}
    return row | {"products": products, "quantities": quantities, "prices": [100] * len(products)}


@pytest.mark.benchmark(group="writes")
def test_freshness(benchmark: BenchmarkFixture, target: Callable[[str], Target]) -> None:
    """From the outbox row, written just before the commit, to the checkpoint that covers it: ms at 100 orders/s."""
    cqrs = target("cqrs")
    env, orders = Environment(cqrs.env), [order(number) for number in range(1500)]
    bodies = [{"customer_id": one.customer_id, "lines": one.lines} for one in orders]
    requests = [put(f"/orders/{one.id}", msgspec.json.encode(body)) for one, body in zip(orders, bodies, strict=True)]
    seen: list[tuple[tuple[int, int], float]] = []

    async def watch() -> None:
        line = redis_client(env)
        while True:
            (found,) = await line.ask(("GET", Keys(env.namespace).checkpoint))
            (at,) = Checkpoint.of(found).position.components
            if not seen or at > seen[-1][0]:
                seen.append((at, time.time()))
            await asyncio.sleep(0.0005)

    async def load() -> None:
        watching = asyncio.ensure_future(watch())
        async with connected(cqrs.url) as wires:
            await steady(wires, requests, 100)
        await asyncio.sleep(1)
        watching.cancel()

    start = time.time()
    benchmark.pedantic(lambda: uvloop.run(load()), rounds=1, iterations=1)
    with psycopg.connect(env.url(POSTGRES), options=f"-c search_path={env.namespace}") as connection:
        rows = connection.execute(
            "SELECT xid::text::bigint, id, extract(epoch FROM recorded_at)::float8 FROM outbox"
            " WHERE recorded_at > to_timestamp(%s)",
            [start + 1],
        ).fetchall()
    lags_ms = [1000 * (seen[bisect_left(seen, ((xid, id), 0.0))][1] - at) for xid, id, at in rows]
    percentiles = statistics.quantiles(lags_ms, n=100)
    benchmark.extra_info |= {"ms_p50": round(percentiles[49], 2), "ms_p99": round(percentiles[98], 2)}


LENGTHS = (10, 100, 10_000)  # in tables a product has none
CASES = {"crud": (0,), "cqrs": (0,), "event_sourced": LENGTHS, "event_sourced:no-snapshots": LENGTHS}
ORDERS, ROUNDS = 20, 12


@pytest.mark.benchmark(group="writes")
def test_long_streams(benchmark: BenchmarkFixture, processes: Processes, url_of: UrlOf) -> None:
    """CPU µs of both sides, medians, of an order whose product has a stock stream of so many events."""
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
        for name, level in itertools.product(CASES, LEVELS):
            env = Environment(target_env(name, urls, namespace=fresh_namespace("bench"), clients=level))
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
