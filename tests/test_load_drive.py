"""The driver as its callers see it: a job in, whole rounds and a manifest out, one sentence when it cannot."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from analysis.runs import UnusableRun, open_run
from analysis.staleness import token_price
from loadtests import workload as workloads
from loadtests.format import TABLES
from loadtests.plan import BadPlan, Plan, cells_of, read_job
from tests import load_targets as targets
from tests.jobs import drive, job_for, manifest_of, one_sentence, rounds_of, start
from tests.load_targets import serving

NOBODY = "http://127.0.0.1:9"
Driven = tuple[Path, subprocess.CompletedProcess[str]]


def table(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / "run" / "rounds" / "*" / f"{name}.parquet")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Driven:
    folder = tmp_path_factory.mktemp("whole")
    with serving(targets.honest(), targets.honest()) as urls:
        done = drive(job_for(folder, urls))
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_ends_complete_with_both_checks_passed_and_the_analysis_opens_it(run: Driven) -> None:
    folder, done = run
    manifest = manifest_of(folder)
    assert manifest["complete"] and manifest["checks"]["conformance"]["ok"] and manifest["checks"]["ledger"]["ok"]
    assert manifest["checks"]["ledger"]["acknowledged"] > 50
    assert manifest["fingerprint"]["commit"] == "abc" and manifest["fingerprint"]["workload"]["name"] == "shop"
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / "run" / name).read_bytes()).hexdigest() == digest
    progress = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(dict.fromkeys(line["phase"] for line in progress)) == [
        *("contract", "fill", "conformance", "baseline"),
        *("warm-up", "load", "staleness", "ledger"),
    ]
    assert all(0 <= line["done"] <= line["total"] for line in progress)
    assert msgspec.convert(manifest["plan"], Plan) == read_job(str(folder / "job.json")).plan
    opened = open_run(folder / "run")
    assert opened.targets == ["a", "b"]
    assert opened.slices.filter(pl.col("phase") == "measure").height == 2 * 3 * 2


def test_every_target_gets_the_same_operations_in_every_round_and_takes_its_turn_at_random(run: Driven) -> None:
    firsts = set()
    for folder in rounds_of(run[0]):
        samples = pl.read_parquet(folder / "samples.parquet")
        slices = pl.read_parquet(folder / "slices.parquet")
        assert dict(samples.schema) == TABLES["samples"].schema and dict(slices.schema) == TABLES["slices"].schema
        assert sorted(slices["target"]) == ["a", "b"] and slices["drained"].all()
        one, other = (samples.filter(pl.col("slice") == number) for number in slices["slice"])
        same = ["operation", "kind", "due_us", "status", "outcome"]
        assert one.select(same).equals(other.select(same))
        firsts.add(slices.sort("slice")["target"][0])
    assert firsts == {"a", "b"}


def test_a_round_that_steal_disturbs_is_measured_again_as_often_as_rounds_were_planned(tmp_path: Path) -> None:
    main = "import sys; from msgspec.structs import replace; from loadtests import drive; "
    main += "drive.THRESHOLDS = replace(drive.THRESHOLDS, steal_share_max=-1.0); sys.exit(drive.main(sys.argv[1:]))"
    with serving(targets.honest(), targets.honest()) as urls:
        job = job_for(tmp_path, urls, read_shares=(50,), probes=0)
        done = subprocess.run([sys.executable, "-c", main, job], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    phases = table(tmp_path, "slices").unique("round").sort("round")["phase"].to_list()
    assert [phase for phase in phases if phase != "warmup"] == ["stolen"] * 3 + ["measure"] * 3
    loads = [line for line in map(json.loads, done.stdout.splitlines()) if line["phase"] == "load"]
    assert [(line["done"], line["total"]) for line in loads] == [(0, 3), (1, 4), (2, 5), (3, 6), (4, 6), (5, 6), (6, 6)]


def test_a_target_that_shows_writes_at_once_has_no_stale_read(run: Driven) -> None:
    staleness = table(run[0], "staleness")
    assert set(staleness["operation"]) == {"place", "pay", "rename"}
    assert staleness.height == 2 * 2 * 4 * 12 and not staleness["stale"].any()
    assert (staleness["delay_us"] >= 200).all() and staleness["visible_us"].drop_nulls().len() == 2 * 2 * 4


@pytest.mark.long
def test_a_target_that_shows_orders_450_ms_late_is_seen_to(tmp_path: Path) -> None:
    with serving(targets.late(0.45)) as urls:
        done = drive(job_for(tmp_path, urls, read_shares=(50,), rounds=1, probes=9))
    assert done.returncode == 0, done.stderr
    placed = table(tmp_path, "staleness").filter(pl.col("operation") == "place")
    stale, later = placed.filter("stale"), placed.filter(pl.col("delay_us") > 450_000)
    # On a busy machine a read may leave late, or arrive much later, and then be fresh; never the other way round.
    assert stale.height > 3 and (stale["versions_behind"] == 1).all()
    assert later.height >= 3 and not later["stale"].any() and placed["visible_us"].drop_nulls().len() == 3
    pairs = table(tmp_path, "tokens").filter(operation="place")
    assert pairs.height >= 3 and not pairs["stale_with"].any() and not pairs["behind"].any()
    price = token_price(pairs.filter("stale_without"), seed=1)
    assert price is not None and price.stale_without == 1 and price.added_ms > 50


def test_a_target_that_ignores_tokens_gives_no_figures(tmp_path: Path) -> None:
    with serving(targets.ignoring_tokens()) as urls:
        said = one_sentence(drive(job_for(tmp_path, urls, read_shares=(50,), rounds=1)), 1)
    assert "answers a read that carries a command's token without that command" in said
    with pytest.raises(UnusableRun, match="carries a command's token"):
        open_run(tmp_path / "run")


def test_targets_that_differ_are_never_loaded(tmp_path: Path) -> None:
    with serving(targets.honest(), targets.lying(targets.wrong_total)) as urls:
        said = one_sentence(drive(job_for(tmp_path, urls)), 1)
    assert "do not answer the same" in said and "total_cents" in said
    manifest = manifest_of(tmp_path)
    assert manifest["complete"] and manifest["checks"]["conformance"]["ok"] is False
    assert not rounds_of(tmp_path)


@pytest.mark.long
def test_a_target_that_loses_orders_gives_no_figures(tmp_path: Path) -> None:
    with serving(targets.forgetting(every=100)) as urls:
        assert "lost" in one_sentence(drive(job_for(tmp_path, urls)), 1)
    assert manifest_of(tmp_path)["checks"]["ledger"]["lost"] > 0


def test_restarts_ask_for_fresh_processes_and_keep_the_ledger(tmp_path: Path) -> None:
    with serving(targets.honest()) as urls:
        job = job_for(tmp_path, urls, restarts=2, read_shares=(50,), rounds=1)
        fresh = {"endpoints": json.loads(job.read_text())["endpoints"]}
        process = start(job)
        assert process.stdin and process.stdout
        for line in process.stdout:
            if json.loads(line)["phase"] == "restart":
                print(json.dumps(fresh), file=process.stdin, flush=True)
                break
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert set(table(tmp_path, "slices")["restart"]) == {0, 1}


@pytest.mark.long
def test_a_run_of_costs_asks_each_operation_in_a_cell_of_its_own_at_one_rate(tmp_path: Path) -> None:
    with serving(targets.honest()) as urls:
        blocks = (cells_of(["search", "ship"]),)
        changes = {"kind": "costs", "blocks": blocks, "rounds": 6, "probes": 0, "warm_up_s": 0.1, "slice_s": 0.25}
        done = drive(job_for(tmp_path, urls, **changes))
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert run.manifest.kind == "costs" and len(run.manifest.fingerprint.cells) == 6
    measured = run.slices.filter(pl.col("phase") == "measure")
    asked = run.samples.join(measured.select("slice", "cell"), on="slice")
    cells = {cell: set(rows["operation"]) for (cell,), rows in asked.group_by("cell")}
    assert cells["order"] == {"order"} and cells["place"] == {"order", "place"}
    assert cells["ship"] == {"order", "place", "pay", "ship"} and "idle" not in cells
    offered = measured.group_by("cell").agg(pl.col("offered").sum())
    assert offered.filter(pl.col("cell") != "idle")["offered"].min() > 0.8 * 6 * 0.25 * 200  # type: ignore[operator]
    # A round that steal disturbed took its turn as planned; it is measured again after the last pass.
    passes = run.slices.filter(pl.col("phase").is_in(["measure", "stolen"])).sort("slice")["cell"].to_list()
    assert all(sorted(passes[at : at + 6]) == sorted(cells | {"idle": set()}) for at in range(0, 36, 6))


def test_a_whole_workload_joins_a_run_of_costs_where_all_its_operations_do() -> None:
    shop = workloads.load("shop")
    mixes = [shop, workloads.load("shop-uniform"), shop]
    assert [cell.name for cell in cells_of(shop.operations, mixes)][-2:] == ["deliver", "mix shop"]
    assert "mix shop" not in {cell.name for cell in cells_of(["search"], [shop])}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"read_shares": ()}, "at least one read share"),
        ({"read_shares": (50, 50)}, "each once"),
        ({"rate_per_s": -1.0}, "--rate is 10 to 100,000 operations a second, not -1."),
        ({"rate_per_s": 1.0, "slice_s": 0.1}, "--rate is 20 to"),
        ({"rate_per_s": float("nan")}, "not nan"),
        ({"rounds": 0}, "at least one round"),
        ({"slice_s": 0.0}, "0.05 to 600 seconds"),
    ],
)
def test_a_plan_that_cannot_be_run_is_never_made(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadPlan, match=says):
        job_for(tmp_path, [NOBODY], **changes)


def test_a_damaged_job_and_a_target_that_cannot_serve_are_refused_with_one_sentence(tmp_path: Path) -> None:
    job = job_for(tmp_path, [NOBODY])
    assert f"Target a: {NOBODY} does not answer" in one_sentence(drive(job), 2)
    job.write_text(job.read_text().replace('"rounds":3', '"rounds":"many"'))
    assert "Expected `int`, got `str` - at `$.plan.rounds`" in one_sentence(drive(job), 2)
    with serving(targets.lying(lambda asked, status, body: b"hello")) as urls:
        assert "does not speak the contract" in one_sentence(drive(job_for(tmp_path, urls)), 2)
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("precious")
    with serving(targets.honest()) as urls:
        assert "is not empty: give a new folder" in one_sentence(drive(job_for(tmp_path, urls)), 2)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]
