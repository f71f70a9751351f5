"""Reads over HTTP at equal load: CPU µs of all processes but the client's, as ratios of one session.

`pytest benchmarks --benchmark-only`; figures in `extra_info`.
"""

from collections.abc import Callable
from itertools import chain

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import DATASET, cpu_us_per_request
from benchmarks.load import get
from crossover.targets import Target

PATHS = {
    "order": lambda n: f"/orders/{DATASET.order_id(n * 37 % DATASET.size.orders)}",
    "customer_orders": lambda n: f"/customers/{DATASET.customer_id(n * 7 % DATASET.size.customers)}/orders",
    "top_products": lambda n: "/reports/top-products",
}
# (path, rate a second, requests a turn, rounds, and what is divided by what)
ROWS: list[tuple[str, float, int, int, list[tuple[str, str]]]] = [
    (
        "order",
        400,
        200,
        10,
        [
            ("constant", "bare"),
            ("crud", "raw"),
            ("crud lean", "raw"),
            ("cqrs", "constant"),
            ("cqrs lean", "constant"),
            ("crud", "cqrs"),
            ("crud lean", "cqrs lean"),
        ],
    ),
    ("customer_orders", 400, 200, 8, [("crud", "cqrs"), ("crud lean", "cqrs lean")]),
    ("top_products", 6, 12, 3, [("crud", "cqrs"), ("crud lean", "cqrs lean")]),
]


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
    found: dict[str, dict[str, float]] = {}

    def measured() -> None:
        found.update(uvloop.run(cpu_us_per_request([*targets.values()], requests, rate_per_s, rounds)))

    benchmark.pedantic(measured, rounds=1, iterations=1)
    parts = {name: found[one.name] for name, one in targets.items()}
    for one, other in divided:
        benchmark.extra_info[f"{one} / {other}"] = round(sum(parts[one].values()) / sum(parts[other].values()), 2)
    for name, us in parts.items():
        benchmark.extra_info[name] = " + ".join(f"{part} {spent:.0f}" for part, spent in us.items()) + " µs"
