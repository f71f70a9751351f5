"""Reads over HTTP at equal load: CPU µs of all processes but the client's, as ratios of one session.

`pytest benchmarks --benchmark-only`; figures in `extra_info`.
"""

from collections.abc import Callable

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
# (path, rate a second, requests a turn, rounds, and what is divided by what); an unused connection is kept for 5 s
ROWS = [
    ("order", 400, 200, 8, {"crud": "raw", "cqrs": "constant"}),
    ("customer_orders", 400, 200, 8, {"crud": "cqrs"}),
    ("top_products", 6, 12, 3, {"crud": "cqrs"}),
]


@pytest.mark.benchmark(group="reads")
@pytest.mark.parametrize(("path", "rate_per_s", "count", "rounds", "against"), ROWS, ids=[row[0] for row in ROWS])
def test_read(
    benchmark: BenchmarkFixture,
    target: Callable[[str], Target],
    path: str,
    rate_per_s: float,
    count: int,
    rounds: int,
    against: dict[str, str],
) -> None:
    targets = [target(name) for name in {**against, **dict.fromkeys(against.values(), "")}]
    requests = [get(PATHS[path](number)) for number in range(count)]
    found: dict[str, dict[str, float]] = {}

    def measured() -> None:
        found.update(uvloop.run(cpu_us_per_request(targets, requests, rate_per_s, rounds)))

    benchmark.pedantic(measured, rounds=1, iterations=1)
    total = {rung: sum(parts.values()) for rung, parts in found.items()}
    for rung, other in {**against, "crud": against["crud"]}.items():
        benchmark.extra_info[f"{rung} / {other}"] = round(total[rung] / total[other], 2)
    benchmark.extra_info["crud / cqrs"] = round(total["crud"] / total["cqrs"], 2)
    for rung, parts in found.items():
        benchmark.extra_info[rung] = " + ".join(f"{name} {us:.0f}" for name, us in parts.items()) + " µs"
