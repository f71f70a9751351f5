"""The driver as its callers see it: a plan in, whole rounds and a manifest out, one sentence when it cannot."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analysis.runs import UnusableRun, open_run
from analysis.staleness import token_price
from loadtests.format import OF_EVERY_RUN, TABLES
from tests import load_targets as targets
from tests.load_targets import serving
from tests.service import wait_until


def plan_for(folder: Path, urls: list[str], **changes: Any) -> Path:
    plan = {
        "out": str(folder / "run"),
        "run": "test-run",
        "targets": [
            {
                "name": name,
                "url": url,
                "rung": "noop",
                "parent": None,
                "token": None,
                "processes": {"app": [os.getpid()]},
            }
            for name, url in zip("ab", urls, strict=False)
        ],
        "workload": "shop",
        "read_shares": [50, 90],
        "rate_per_s": None,
        "rounds": 3,
        "slice_s": 0.2,
        "restarts": 1,
        "seed": 1,
        "size": {"name": "tiny", "customers": 30, "products": 10, "orders": 40},
        "fill_over_http": True,
        "profile": "quick",
        "fingerprint": {"commit": "abc", "dirty": False},
        "warm_up_s": 0.2,
        "probes": 4,
    }
    path = folder / "plan.json"
    path.write_text(json.dumps(plan | changes))
    return path


def drive(plan: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadtests.drive", str(plan)], capture_output=True, text=True, timeout=120
    )


def start(plan: Path, module: str = "loadtests.drive") -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", module, str(plan)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run" / "manifest.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("whole")
    with serving(targets.honest(), targets.honest()) as urls:
        done = drive(plan_for(folder, urls))
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_ends_complete_with_both_checks_passed(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
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


def test_the_analysis_opens_what_the_driver_wrote(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    opened = open_run(run[0] / "run")
    assert opened.targets == ["a", "b"]
    assert opened.slices.filter(pl.col("phase") == "measure").height == 2 * 3 * 2


def test_every_target_gets_the_same_operations_in_every_round(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    for folder in sorted((run[0] / "run" / "rounds").iterdir()):
        samples = pl.read_parquet(folder / "samples.parquet")
        slices = pl.read_parquet(folder / "slices.parquet")
        assert dict(samples.schema) == TABLES["samples"].schema and dict(slices.schema) == TABLES["slices"].schema
        assert sorted(slices["target"]) == ["a", "b"] and slices["drained"].all()
        one, other = (samples.filter(pl.col("slice") == number) for number in slices["slice"])
        same = ["operation", "kind", "due_us", "status", "outcome"]
        assert one.select(same).equals(other.select(same))
        assert (samples["sent_us"] >= samples["due_us"]).all() and (samples["done_us"] > samples["sent_us"]).all()
        cpu = pl.read_parquet(folder / "cpu.parquet")
        assert sorted(cpu["slice"]) == sorted(slices["slice"]) and (cpu["cpu_us"] > 0).all()


def test_targets_take_turns_in_random_order(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    rounds = sorted((run[0] / "run" / "rounds").iterdir())
    firsts = {pl.read_parquet(folder / "slices.parquet").sort("slice")["target"][0] for folder in rounds}
    assert firsts == {"a", "b"}


def test_a_target_that_shows_writes_at_once_has_no_stale_read(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    staleness = pl.read_parquet(run[0] / "run" / "rounds" / "*" / "staleness.parquet")
    assert set(staleness["operation"]) == {"place", "pay", "rename"}
    assert staleness.height == 2 * 2 * 4 * 12 and not staleness["stale"].any()
    assert (staleness["delay_us"] >= 200).all() and staleness["visible_us"].drop_nulls().len() == 2 * 2 * 4


def test_a_target_that_shows_orders_45_ms_late_is_seen_to(tmp_path: Path) -> None:
    with serving(targets.late(0.045)) as urls:
        done = drive(plan_for(tmp_path, urls, read_shares=[50], rounds=1, probes=9))
    assert done.returncode == 0, done.stderr
    staleness = pl.read_parquet(tmp_path / "run" / "rounds" / "*" / "staleness.parquet")
    placed = staleness.filter(pl.col("operation") == "place")
    early, later = placed.filter(pl.col("delay_us") < 20_000), placed.filter(pl.col("delay_us") > 45_000)
    # On a busy machine a read may arrive much later than it was sent, and then be fresh; never the other way round.
    assert early.height > 15 and early["stale"].cast(pl.Int64).mean() > 0.8
    assert later.height > 10 and not later["stale"].any()
    assert (early.filter("stale")["versions_behind"] == 1).all()
    assert 20_000 < placed["visible_us"].drop_nulls().median() < 100_000
    pairs = pl.read_parquet(tmp_path / "run" / "rounds" / "*" / "tokens.parquet").filter(operation="place")
    assert pairs.height >= 3 and not pairs["stale_with"].any() and not pairs["behind"].any()
    price = token_price(pairs.filter("stale_without"), seed=1)
    assert price is not None and price.stale_without == 1 and 25 < price.added_ms < 60


def test_a_target_that_ignores_tokens_gives_no_figures(tmp_path: Path) -> None:
    with serving(targets.late(0.045, heeds_tokens=False)) as urls:
        done = drive(plan_for(tmp_path, urls, read_shares=[50], rounds=1))
    assert done.returncode == 1 and done.stderr.strip().count("\n") == 0
    assert "answers a read that carries a command's token without that command" in done.stderr
    with pytest.raises(UnusableRun, match="carries a command's token"):
        open_run(tmp_path / "run")


def test_a_killed_driver_leaves_whole_rounds_and_says_incomplete(tmp_path: Path) -> None:
    rounds = tmp_path / "run" / "rounds"
    with serving(targets.honest(), targets.honest()) as urls:
        process = start(plan_for(tmp_path, urls, rounds=1000))
        wait_until(lambda: rounds.exists() and len(list(rounds.glob("0*"))) >= 4, 60)
        process.kill()
        process.communicate()
    assert manifest_of(tmp_path)["complete"] is False
    for folder in rounds.iterdir():
        if not folder.name.startswith(".tmp-"):
            assert {file.name for file in folder.iterdir()} == {f"{table}.parquet" for table in OF_EVERY_RUN}
            assert all(pl.read_parquet(file) is not None for file in folder.iterdir())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_driver_writes_what_it_measured_and_exits_130(tmp_path: Path, how: signal.Signals) -> None:
    rounds = tmp_path / "run" / "rounds"
    with serving(targets.honest(), targets.honest()) as urls:
        process = start(plan_for(tmp_path, urls, rounds=1000))
        wait_until(lambda: rounds.exists() and len(list(rounds.glob("0*"))) >= 3, 60)
        process.send_signal(how)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and errors.strip().count("\n") == 0 and "incomplete" in errors
    manifest = manifest_of(tmp_path)
    assert manifest["complete"] is False and manifest["finished_at"] is not None
    assert {Path(name).parts[1] for name in manifest["files"]} == {folder.name for folder in rounds.iterdir()}


def test_targets_that_differ_are_never_loaded(tmp_path: Path) -> None:
    with serving(targets.honest(), targets.lying(targets.wrong_total)) as urls:
        done = drive(plan_for(tmp_path, urls))
    assert done.returncode == 1 and "do not answer the same" in done.stderr
    manifest = manifest_of(tmp_path)
    assert manifest["checks"]["conformance"]["ok"] is False and "total_cents" in done.stderr
    assert not list((tmp_path / "run" / "rounds").iterdir())


def test_a_target_that_loses_orders_gives_no_figures(tmp_path: Path) -> None:
    with serving(targets.forgetting(every=60)) as urls:
        done = drive(plan_for(tmp_path, urls))
    assert done.returncode == 1, done.stderr
    assert manifest_of(tmp_path)["checks"]["ledger"]["lost"] > 0
    assert "lost" in done.stderr and done.stderr.strip().count("\n") == 0


def test_restarts_ask_for_fresh_processes_and_keep_the_books(tmp_path: Path) -> None:
    with serving(targets.honest()) as urls:
        plan = plan_for(tmp_path, urls, restarts=2, read_shares=[50], rounds=1)
        fresh = {"targets": json.loads(plan.read_text())["targets"]}
        process = start(plan)
        assert process.stdin and process.stdout
        for line in process.stdout:
            if json.loads(line)["phase"] == "restart":
                print(json.dumps(fresh), file=process.stdin, flush=True)
                break
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    slices = pl.read_parquet(tmp_path / "run" / "rounds" / "*" / "slices.parquet")
    assert set(slices["restart"]) == {0, 1}


def test_a_run_of_costs_asks_each_operation_in_a_cell_of_its_own_at_one_rate(tmp_path: Path) -> None:
    with serving(targets.honest()) as urls:
        wishes = {"kind": "costs", "read_shares": [], "operations": ["search", "ship"], "rounds": 6, "probes": 0}
        done = drive(plan_for(tmp_path, urls, **wishes, warm_up_s=0.1, slice_s=0.25))
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
    passes = measured["cell"].to_list()
    assert all(sorted(passes[at : at + 6]) == sorted(cells | {"idle": set()}) for at in range(0, 36, 6))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"workload": "nope"}, "There is no workload 'nope'"),
        ({"read_shares": [120]}, "from 0 to 100 per cent, not 120"),
        ({"read_shares": []}, "at least one read share"),
        ({"targets": []}, "names no target"),
        ({"profile": "slow"}, "Invalid enum value 'slow'"),
        ({"rate_per_s": -1}, "rate_per_s must be above 0"),
        ({"rate_per_s": 1, "slice_s": 0.1}, "would mostly be empty"),
        ({"kind": "costs", "operations": ["nope"]}, "no operation 'nope', only order, customer_orders"),
        ({"rounds": "many"}, "Expected `int`, got `str` - at `$.rounds`"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_starts(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    done = drive(plan_for(tmp_path, ["http://127.0.0.1:9"], **changes))
    assert done.returncode == 2 and says in done.stderr
    assert done.stderr.strip().count("\n") == 0 and not (tmp_path / "run").exists()


def test_a_target_that_does_not_answer_is_named(tmp_path: Path) -> None:
    done = drive(plan_for(tmp_path, ["http://127.0.0.1:9"]))
    assert done.returncode == 2 and "Target a: http://127.0.0.1:9 does not answer" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_service_of_another_kind_is_told_from_the_contract(tmp_path: Path) -> None:
    with serving(targets.lying(lambda asked, status, body: b"hello")) as urls:
        done = drive(plan_for(tmp_path, urls))
    assert done.returncode == 2 and "does not speak the contract" in done.stderr


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("precious")
    with serving(targets.honest()) as urls:
        done = drive(plan_for(tmp_path, urls))
    assert done.returncode == 2 and "is not empty: give a new folder" in done.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_plan_without_data_still_finds_somebody_to_buy(tmp_path: Path) -> None:
    empty = {"name": "empty", "customers": 0, "products": 0, "orders": 0}
    with serving(targets.honest()) as urls:
        done = drive(plan_for(tmp_path, urls, size=empty, fill_over_http=False, read_shares=[50], rounds=1))
    assert done.returncode == 0, done.stderr
