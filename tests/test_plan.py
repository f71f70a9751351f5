"""The bounds of a plan on runs whose true costs are known."""

from pathlib import Path

import numpy as np
import pytest

from analysis.bounds import MACHINE, Bound, Servers, bounds, plan
from analysis.runs import UnusableRun
from tests.synthetic_runs import CQRS, CRUD, Truth, write_run

GENERATOR_US = 30_000 / 150  # as synthetic runs have it


def bounds_of(folder: Path, target: str, share: float, **servers: int) -> dict[str, Bound]:
    planned = Servers(**servers, one_core=frozenset({"redis"}))
    found = [bound for bound in plan(folder, share, planned) if bound.target == target]
    return {bound.component: bound for bound in found}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("plan") / "run", rounds=30, round_noise=0.03)


def true_us(truth: Truth, component: str, share: float) -> float:
    return truth.split[component] * (share * truth.read_us + (1 - share) * truth.write_us)


@pytest.mark.parametrize("truth", [CRUD, CQRS])
def test_every_component_is_bounded_by_its_demand(run: Path, truth: Truth) -> None:
    found = bounds_of(run, truth.name, 80)
    for component in truth.split:
        cores = 2 if component == "postgres" else 1
        assert found[component].per_s == pytest.approx(cores * 1e6 / true_us(truth, component, 0.8), rel=0.03)
        low, high = found[component].interval
        assert low < found[component].per_s < high < 1.1 * low
    whole = sum(true_us(truth, component, 0.8) for component in truth.split) + GENERATOR_US
    assert found[MACHINE].per_s == pytest.approx(2e6 / whole, rel=0.03)
    assert [*found] == [*sorted(truth.split, key=lambda name: found[name].per_s), MACHINE]


def test_more_servers_move_the_bottleneck(run: Path) -> None:
    one, four = bounds_of(run, "crud", 80), bounds_of(run, "crud", 80, app=4)
    assert next(iter(one)) == "app" and next(iter(four)) == "postgres"
    assert four["app"].per_s == pytest.approx(4 * one["app"].per_s) and four[MACHINE] == one[MACHINE]


def test_replicas_take_reads_but_never_writes(run: Path) -> None:
    few, many = (bounds_of(run, "crud", 80, replicas=n)["postgres"].per_s for n in (1, 1_000))
    assert few == pytest.approx(2 * bounds_of(run, "crud", 80)["postgres"].per_s)
    assert many == pytest.approx(2e6 / (0.2 * CRUD.split["postgres"] * CRUD.write_us), rel=0.06)
    demands = {"app": (90, 200), "redis": (30, 40), "postgres": (1, 400)}  # µs of a read and of a write
    drawn = {name: np.array([us, us, us], dtype=np.float64) for name, us in demands.items()}
    found = {bound.component: bound.servers for bound in bounds("cqrs", drawn, 0.8, Servers(replicas=1), 2)}
    assert "1 replica" in found["redis"] and "replica" not in found["postgres"], "its reads come from Redis"


def test_without_reads_or_without_writes_some_components_have_no_bound(tmp_path: Path) -> None:
    readers = Truth("crud", "crud", 500.0, 0.0, {"app": 1.0})
    folder = write_run(tmp_path / "run", targets=(readers,), rounds=12)
    assert bounds_of(folder, "crud", 0)["app"].per_s > 50_000


def test_a_run_without_cpu_gives_no_plan(tmp_path: Path) -> None:
    blind = Truth("mine", "external", 500.0, 900.0, {"app": 1.0}, known_cpu=False)
    with pytest.raises(UnusableRun, match="CPU of its targets was not measured"):
        plan(write_run(tmp_path / "run", targets=(blind,)), 90, Servers())
