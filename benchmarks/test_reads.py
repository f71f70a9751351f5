"""Reads over HTTP at equal load: CPU µs of all processes but the client's, as ratios of one session, and latency.

`pytest benchmarks --benchmark-only`; figures in `extra_info`.
"""

from collections.abc import Callable
from functools import cache
from itertools import chain, islice
from urllib.parse import quote

import numpy as np
import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import DATASET, SIZE, Turns, in_turns
from benchmarks.load import connected, get, steady
from crossover.targets import Target

PARTS = [("constant", "bare"), ("crud", "raw"), ("crud lean", "raw"), ("cqrs", "constant"), ("cqrs lean", "constant")]
BOTH = [("crud", "cqrs"), ("crud lean", "cqrs lean")]
SEARCHED = [("cqrs", "crud"), ("views", "crud"), ("search", "crud"), ("search", "cqrs")]
# With a million orders a search takes up to half a second of CPU.
(RATE_PER_S, COUNT, ROUNDS), WARM = ((4.0, 16, 3), 160) if SIZE == "l" else ((50.0, 100, 6), 2_000)


def found(words: list[str]) -> str:
    return f"/search/orders?q={quote(' '.join(words))}&limit=20"


@cache
def names_of_orders() -> list[list[str]]:
    """Of 200 orders: the words of the customer's name, then those of the first product's."""
    customers, products = dict(DATASET.customers()), {id: name for id, name, *_ in DATASET.products()}
    orders = islice(DATASET.orders(), 200)
    return [[*customers[one.customer_id].split(), *products[one.lines[0][0]].split()] for one in orders]


PATHS = {
    "order": lambda n: f"/orders/{DATASET.order_id(n * 37 % DATASET.size.orders)}",
    "customer_orders": lambda n: f"/customers/{DATASET.customer_id(n * 7 % DATASET.size.customers)}/orders",
    "top_products": lambda n: "/reports/top-products",
    "search for a word of a popular product": lambda n: found([DATASET.product_name(n % 10).split()[0]]),
    "search for a first name": lambda n: found(names_of_orders()[n][:1]),
    "search for a last name": lambda n: found(names_of_orders()[n][1:2]),
    "search for a first and a last name": lambda n: found(names_of_orders()[n][:2]),
    "search for all five words of an order": lambda n: found(names_of_orders()[n]),
}
# (path, rate a second, requests a turn, rounds, and what is divided by what)
ROWS: list[tuple[str, float, int, int, list[tuple[str, str]]]] = [
    ("order", 400, 200, 10, [*PARTS, *BOTH]),
    ("customer_orders", 400, 200, 8, BOTH),
    ("top_products", 6, 12, 3, BOTH),
    *((path, RATE_PER_S, COUNT, ROUNDS, SEARCHED) for path in PATHS if path.startswith("search")),
]


@cache
def warm(url: str) -> None:
    """Once for each target, by WARM searches of all kinds: a search engine compiles what it runs often."""
    kinds = [make for path, make in PATHS.items() if path.startswith("search")]
    requests = [get(make(number)) for number in range(min(200, WARM // len(kinds))) for make in kinds]

    async def sent() -> None:
        for _ in range(-(-WARM // len(requests))):
            async with connected(url) as wires:
                await steady(wires, requests, 20 * RATE_PER_S)

    uvloop.run(sent())


@pytest.mark.benchmark(group="reads")
@pytest.mark.parametrize(("path", "rate_per_s", "count", "rounds", "divided"), ROWS, ids=[row[0] for row in ROWS])
def test_read(
    benchmark: BenchmarkFixture,
    target: Callable[[str], Target],
    path: str,
    rate_per_s: float,
    count: int,
    rounds: int,
    divided: list[tuple[str, str]],
) -> None:
    targets = {name: target(name) for name in dict.fromkeys(chain.from_iterable(divided))}
    requests = [get(PATHS[path](number)) for number in range(count)]
    if path.startswith("search"):
        for one in targets.values():
            warm(one.url)
    turns: dict[str, Turns] = {}

    def measured() -> None:
        turns.update(uvloop.run(in_turns([*targets.values()], requests, rate_per_s, rounds)))

    benchmark.pedantic(measured, rounds=1, iterations=1)
    parts = {name: turns[one.name].cpu_us for name, one in targets.items()}
    for one, other in divided:
        benchmark.extra_info[f"{one} / {other}"] = round(sum(parts[one].values()) / sum(parts[other].values()), 2)
    for name, us in parts.items():
        benchmark.extra_info[name] = " + ".join(f"{part} {spent:.0f}" for part, spent in us.items()) + " µs"
        p50, p95, p99 = np.percentile(turns[targets[name].name].took_ms, (50, 95, 99))
        benchmark.extra_info[f"{name}: ms"] = f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}"
