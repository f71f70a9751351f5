"""A live rebuild beside 400 reads and 100 commands a second: ms from the due time of a read to its answer, before and
during it; what failed or went back; events a second.

The load is this process, and the rebuild one of its own, as it is for who calls it.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from itertools import count
from uuid import uuid4

import msgspec
import numpy as np
import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import DATASET, Filled
from benchmarks.load import Wires, answer, connected, get, put
from benchmarks.test_reads import PATHS
from contract.position import covers, position_of
from crossover.targets import LOOPBACK, Target, ladder_command, listen, process_env
from ladder.environment import CLIENTS, LEVELS
from servers.supervisor import Processes

READS_PER_S, COMMANDS_PER_S = 400, 100
READERS, WRITERS = 12, 4  # connections
WARM_UP_S, BEFORE_S = 5, 20
POLL_S = 0.1
now = time.perf_counter  # the clock of the loop counts whole milliseconds
MIX = {"order": 0.4, "customer": 0.2, "customer_orders": 0.15, "product": 0.15, "top_products": 0.05, "search": 0.05}
READS: dict[str, Callable[[int], str]] = {
    "customer": lambda n: f"/customers/{DATASET.customer_id(n % DATASET.size.customers)}",
    "product": lambda n: f"/products/{DATASET.product_id(n % DATASET.size.products)}",
    "search": lambda n: PATHS["search for a word of a popular product"](n),
} | PATHS


def paths(seed: int) -> Iterator[str]:
    chosen = random.Random(seed)
    while True:
        (kind,) = chosen.choices([*MIX], [*MIX.values()])
        yield READS[kind](chosen.randrange(DATASET.size.orders))


def commands(seed: int) -> Iterator[bytes]:
    """Half of them orders, the others new names, which change every order of a customer, and new prices."""
    chosen = random.Random(seed)
    for number in count(1):
        customer = DATASET.customer_id(chosen.randrange(DATASET.size.customers))
        product = DATASET.product_id(chosen.randrange(DATASET.size.products))
        order = {"customer_id": customer, "lines": [{"product_id": product, "quantity": 1}]}
        yield put(f"/orders/{uuid4()}", msgspec.json.encode(order))
        if number % 2:
            yield put(f"/customers/{customer}/rename", msgspec.json.encode({"name": f"Ann {number}"}), "POST")
        else:
            yield put(f"/products/{product}/reprice", msgspec.json.encode({"price_cents": number}), "POST")


class Load:
    def __init__(self) -> None:
        self.reads: list[tuple[float, float]] = []  # when one was due, and how long its answer took from then, in ms
        self.failed: list[bytes] = []
        self.back: list[str] = []
        self.sent, self.ended = 0, False

    async def run(self, url: str) -> None:
        async with connected(url, READERS) as readers, connected(url, WRITERS) as writers:
            reading = [self._read(readers, first) for first in range(READERS)]
            await asyncio.gather(*reading, *(self._write(writers, first) for first in range(WRITERS)))

    async def _read(self, wires: Wires, first: int) -> None:
        """As a session: no answer may show less than one before it."""
        reader, writer = wires[first]
        start, token, versions = now(), "", dict[str, int]()
        for number, path in enumerate(paths(first)):
            due = start + (number + first / READERS) * READERS / READS_PER_S
            await asyncio.sleep(due - now())
            if self.ended:
                return
            writer.write(get(path, token))
            status, shown, body = await answer(reader)
            self.reads.append((due, 1000 * (now() - due)))
            if status != 200:
                self.failed.append(body)
                continue
            version = json.loads(body).get("version", 0)
            if version < versions.get(path, 0) or (token and not covers(position_of(shown), position_of(token))):
                self.back.append(path)
            token, versions[path] = shown, version

    async def _write(self, wires: Wires, first: int) -> None:
        (reader, writer), start = wires[first], now()
        for number, command in enumerate(commands(first)):
            await asyncio.sleep(start + (number + first / WRITERS) * WRITERS / COMMANDS_PER_S - now())
            if self.ended:
                return
            writer.write(command)
            status, _, body = await answer(reader)
            self.sent += 1
            if status not in (200, 201):
                self.failed.append(body)

    def percentile_ms(self, percent: int, begin: float, end: float) -> float:
        return round(float(np.percentile([ms for due, ms in self.reads if begin <= due < end], percent)), 2)


@pytest.mark.benchmark(group="live rebuild")
@pytest.mark.parametrize("clients", LEVELS)
def test_live_rebuild(benchmark: BenchmarkFixture, processes: Processes, filled: Filled, clients: str) -> None:
    env, builder, load = filled("cqrs") | {CLIENTS: clients}, f"bench-live-{clients}/rebuild", Load()
    target = Target(f"bench-live-{clients}", "cqrs", env, processes).launch(listen(LOOPBACK, 0))

    async def measured() -> tuple[float, float]:
        loading = asyncio.ensure_future(load.run(target.url))
        await asyncio.wait([loading], timeout=WARM_UP_S + BEFORE_S)
        begin = now()
        processes.start(builder, ladder_command("rebuild", "cqrs", "live"), env=process_env(env))
        while builder not in processes.ended:
            await asyncio.wait([loading], timeout=POLL_S)
            processes.poll()
            if loading.done():
                loading.result()
        end, load.ended = now(), True
        await loading
        return begin, end

    begin, end = benchmark.pedantic(lambda: uvloop.run(measured()), rounds=1, iterations=1)
    target.stop()
    assert processes.ended[builder] == 0, processes.last_lines(builder)
    events, seconds = json.loads(processes.last_lines(builder, lines=1))["done"], end - begin
    found, spans = benchmark.extra_info, {"before": (begin - BEFORE_S, begin), "during": (begin, end)}
    for part, span in spans.items():
        for percent in (50, 95):
            found[f"p{percent}_ms {part}"] = load.percentile_ms(percent, *span)
    found |= {
        "p95 during / before": round(found["p95_ms during"] / found["p95_ms before"], 2),
        "reads_per_s": round(sum(begin <= due < end for due, _ in load.reads) / seconds),
        "failed": len(load.failed),
        "went back": len(load.back),
        "events": events,
        "seconds": round(seconds, 1),
    }
