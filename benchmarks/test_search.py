"""The index of the rung `search`: how fast it is built from nothing, how large it is, and how soon it finds what was
just written.

Events and orders a second, and CPU µs an event over all processes, of a first build and of one by a compiler that is
warm; bytes of the index and of what others search, and memory of the engine at rest; ms from the answer to a command to
the first search that finds its order, at each setting of the refresh.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Callable

import httpx
import numpy as np
import psutil
import psycopg
import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import DATASET, Filled
from cqrs_impl.documents.redis_client import step_client
from cqrs_impl.fold import with_word
from cqrs_impl.projector import Projector
from crossover.targets import Target
from ladder.environment import NAMESPACE, Environment
from ladder.rung import rung as rung_of
from loadtests.cpu import Accounts
from servers.opensearch import OPENSEARCH
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.supervisor import Processes

TOKEN = "Consistency-Token"
BEHIND, AGAIN_S = 503, 0.01
WRITERS, ORDERS = 4, 100  # each writer waits for its search, then writes again
WARM = int(os.environ.get("BENCH_WARM", "25"))  # orders of each before it is measured: a warm engine needs 200


@pytest.mark.benchmark(group="index")
def test_rebuild_of_the_index(benchmark: BenchmarkFixture, processes: Processes, filled: Filled) -> None:
    variables = filled("search")
    env, pids = Environment(variables, in_bulk=True), [processes.pids["opensearch"]]
    accounts = Accounts({"postgres": [processes.pids["postgres"]], "opensearch": pids})

    def measured() -> None:
        for build in ("first", "second"):
            indexer = rung_of("search").workers(env)["indexer"]
            assert isinstance(indexer, Projector)
            before, own, start = accounts.read(), time.process_time(), time.perf_counter()
            events = uvloop.run(built(indexer))
            wall_s, after = time.perf_counter() - start, accounts.read()
            spent = accounts.between(before, after) | {"indexer": round((time.process_time() - own) * 1e6)}
            benchmark.extra_info[f"{build}: events_per_s"] = round(events / wall_s)
            benchmark.extra_info[f"{build}: orders_per_s"] = round(DATASET.size.orders / wall_s)
            benchmark.extra_info[f"{build}: cpu_us_per_event"] = {
                name: round(us / events, 1) for name, us in spent.items()
            }

    benchmark.pedantic(measured, rounds=1, iterations=1)
    with httpx.Client(base_url=env.url(OPENSEARCH), timeout=60) as engine:
        for what in ("_refresh", "_flush"):
            engine.post(f"/{variables[NAMESPACE]}/{what}").raise_for_status()
        store = engine.get(f"/{variables[NAMESPACE]}/_stats/store").json()["_all"]["primaries"]["store"]
        (node,) = engine.get("/_nodes/stats/jvm").json()["nodes"].values()
    benchmark.extra_info["index_mib"] = mib(store["size_in_bytes"])
    benchmark.extra_info["heap_used_mib"] = mib(node["jvm"]["mem"]["heap_used_in_bytes"])
    benchmark.extra_info["heap_committed_mib"] = mib(node["jvm"]["mem"]["heap_committed_in_bytes"])
    benchmark.extra_info["rss_mib"] = mib(sum(psutil.Process(pid).memory_info().rss for pid in pids))


async def built(indexer: Projector) -> int:
    try:
        return await indexer.rebuild(lambda done, total: None)
    finally:
        await indexer.close()


def mib(size: int) -> float:
    return round(size / 2**20, 1)


@pytest.mark.benchmark(group="index")
def test_bytes_that_others_keep_to_be_searched(benchmark: BenchmarkFixture, filled: Filled) -> None:
    """The GIN indexes of `crud`, the table of words of `views` with its index, the sorted sets of words of `cqrs`."""

    def of_tables(rung: str, relations: str) -> int:
        env = Environment(filled(rung))
        with psycopg.connect(env.url(POSTGRES)) as connection:
            question = (
                f"SELECT sum(pg_total_relation_size(('{env.namespace}.' || one)::regclass)) FROM unnest(%s::text[]) one"
            )
            (size,) = connection.execute(question, (relations.split(),)).fetchone() or (0,)  # type: ignore[arg-type]
        return int(size)

    def of_lists() -> int:
        env = Environment(filled("cqrs"))
        with step_client(env.url(REDIS)) as store:
            keys = store.scan_iter(f"{env.namespace}*:{with_word('*')}", count=10_000)
            return sum(store.memory_usage(key, samples=0) for key in keys)  # type: ignore[misc]

    def measured() -> None:
        benchmark.extra_info["crud: mib"] = mib(of_tables("crud", "customers_by_word products_by_word"))
        benchmark.extra_info["views: mib"] = mib(of_tables("views", "word_views"))
        benchmark.extra_info["cqrs: mib"] = mib(of_lists())

    benchmark.pedantic(measured, rounds=1, iterations=1)


@pytest.mark.benchmark(group="index")
@pytest.mark.parametrize("rung", ["search", "search:1s", "search:forced"])
def test_from_commit_to_searchable(benchmark: BenchmarkFixture, target: Callable[[str], Target], rung: str) -> None:
    """A search with the command's token, which is answered when the order can be found."""
    one, took_ms = target(rung), list[float]()

    async def writer(http: httpx.AsyncClient, number: int, orders: int) -> None:
        for turn in range(orders):
            customer, product = number + WRITERS * turn, DATASET.product_id(turn)
            id, line = str(uuid.uuid4()), {"product_id": product, "quantity": 1}
            placed = await http.put(
                f"/orders/{id}", json={"customer_id": DATASET.customer_id(customer), "lines": [line]}
            )
            placed.raise_for_status()
            begun, token = time.perf_counter(), {TOKEN: placed.headers[TOKEN], "Prefer": "wait=5"}
            words = {"q": DATASET.customer_name(customer)}
            while (answer := await http.get("/search/orders", params=words, headers=token)).status_code == BEHIND:
                await asyncio.sleep(AGAIN_S)
            took_ms.append((time.perf_counter() - begun) * 1000)
            assert id in [order["id"] for order in answer.raise_for_status().json()["orders"]]

    async def all_writers(orders: int) -> None:
        async with httpx.AsyncClient(base_url=one.url, timeout=10) as http:
            await asyncio.gather(*(writer(http, number, orders) for number in range(WRITERS)))

    uvloop.run(all_writers(WARM))
    took_ms.clear()
    benchmark.pedantic(lambda: uvloop.run(all_writers(ORDERS)), rounds=1, iterations=1)
    for percentile in (50, 90, 99, 100):
        benchmark.extra_info[f"p{percentile}_ms"] = round(float(np.percentile(took_ms, percentile)), 1)
