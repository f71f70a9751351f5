"""The bounds of a plan on runs whose true costs are known, beside what a run of capacity held."""

import hashlib
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis import capacity
from analysis.bounds import MACHINE, Bound, Servers, bounds, plan, render
from analysis.runs import UnusableRun
from crossover.costs import capacities_beside
from loadtests.format import TABLES
from tests.synthetic_runs import CQRS, CRUD, Truth, printed, rewritten, write_run

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


def test_a_relay_and_each_of_several_projectors_can_use_one_core() -> None:
    drawn = {name: np.array([[900, 900]] * 3, dtype=np.float64) for name in ("app", "relay", "projector-1", "redis")}
    found = {bound.component: bound.servers for bound in bounds("broker", drawn, 0.8, Servers(replicas=1, cores=2), 2)}
    assert found["relay"] == found["projector-1"] == "1 × 1 core" and "1 replica" in found["redis"]


def test_without_reads_or_without_writes_some_components_have_no_bound(tmp_path: Path) -> None:
    readers = Truth("crud", "crud", 500.0, 0.0, {"app": 1.0})
    folder = write_run(tmp_path / "run", targets=(readers,), rounds=12)
    assert bounds_of(folder, "crud", 0)["app"].per_s > 50_000


def test_a_run_without_cpu_gives_no_plan(tmp_path: Path) -> None:
    blind = Truth("mine", "external", 500.0, 900.0, {"app": 1.0}, known_cpu=False)
    with pytest.raises(UnusableRun, match="CPU of its targets was not measured"):
        plan(write_run(tmp_path / "run", targets=(blind,)), 90, Servers())


def capacity_run(folder: Path, held: int, *, rung: str = "crud", read_share: float = 80.0) -> Path:
    """Eight trials at a rate that held and eight at twice that, which did not; a trial has 150 operations."""
    goal = {"kind": "capacity", "run": f"run-{folder.name}", "goal": {"p95_ms": 50.0, "freshness_ms": 100.0}}
    plan = {"plan": {"size": {"orders": 1_000}}}
    truth = Truth("crud", rung, 640.0, 2_200.0, {"app": 0.4, "postgres": 0.6})
    changes = {"targets": (truth,), "read_shares": (read_share,), "rounds": 16, "warmups": 0, "probes": 0}
    write_run(folder, manifest=goal | plan, slice_edits=[lambda row: row.update(phase="capacity")], **changes)
    rows = [
        {"slice": number, "rate_per_s": held * (1 + (number > 8)), "outcome": "held" if number < 9 else "failed"}
        | {"failures": "" if number < 9 else "late", "p95_us": 20_000, "stale_share": 0.0, "looks": 0}
        | {f"lag_slope_{end}": 0.0 for end in ("per_s", "low", "high")}
        | {"in_flight": 1.0, "throughput_per_s": held, "generator_core_share": 0.1, "others_share": 0.0}
        for number in range(1, 17)
    ]
    files = {}
    for table, found in (("trials", rows), ("lag", [])):
        file = folder / "rounds" / "00001" / f"{table}.parquet"
        pl.DataFrame(found, schema=TABLES[table].schema).write_parquet(file)
        files[f"rounds/00001/{table}.parquet"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return rewritten(folder, lambda manifest: manifest["files"].update(files))


def test_a_plan_stands_beside_what_a_run_of_capacity_held(run: Path, tmp_path: Path) -> None:
    own = capacity_run(tmp_path / "own", 250)
    capacity_run(tmp_path / "views", 100, rung="views")
    other_share = capacity_run(tmp_path / "fifty", 100, read_share=50.0)
    assert len(capacities_beside(own)) == 3 and not capacities_beside(run)
    here = {bound.component: bound.per_s for bound in plan(own, 80, Servers())}
    text = " ".join(printed(render(own, 80, Servers(app=2), capacities_beside(own))).split())
    low, high = plan(own, 80, Servers())[-1].interval
    share = 250 / here[MACHINE]
    assert (
        f"crud: the CPU of this machine allows at most {here[MACHINE]:,.0f} operations/s [{low:,.0f}–{high:,.0f}]. "
        f"Measured: 250/s, {100 * share:.0f}% of that, with p95 within 50 ms and 95% of writes visible within 100 ms "
        f"(run run-own). As planned: at most {here['postgres']:,.0f}, {share * here['postgres']:,.0f} at the share "
        "that held; postgres is the bottleneck." in text
    )
    text = " ".join(printed(render(run, 80, Servers(), [own, other_share])).split())
    assert "crud: the CPU of this machine allows about" in text and text.count("Measured: 250/s") == 1
    assert "Its load was 300 operations/s, where an operation takes more CPU than near capacity" in text
    unmeasured = "Not measured beside this run: what of it meets a p95 target, which `crossover capacity` finds."
    assert text.count(unmeasured) == 1, "cqrs has no run of capacity here"
    text = " ".join(printed(render(run, 50, Servers(), [own])).split())
    assert unmeasured in text and "Runs of capacity looked at: 1. None measured a rung of this run" in text


def test_a_capacity_says_how_busy_its_cores_were_and_that_the_data_grew(tmp_path: Path) -> None:
    found = capacity.find(capacity_run(tmp_path / "own", 250))
    usage, growth = capacity.sentences(found)[1:3]
    assert re.fullmatch(
        r"At 250/s all components and the load generator used (17|18|19)% of 2 cores, app (11|12|13)% of the one core "
        r"it can use\. Computed, if nothing ever waited: 1,[34]\d\d/s\. (17|18|19)% of that held, as queues grow long "
        r"before it\.",
        usage,
    )
    assert re.fullmatch(r"The run itself added [45]\d% to its orders: .* became dearer in it\.", growth)
    mine = capacity.find(capacity_run(tmp_path / "mine", 250, rung="external"))
    assert "app" not in capacity.usage_text(mine)[0], "its processes are not known"
