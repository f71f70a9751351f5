"""Folders that are no whole, checked run give one sentence and no figures; void rounds leave with both targets."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analysis import report, runs, sentences, tables, validity
from analysis.findings import find
from analysis.runs import UnusableRun
from tests.synthetic_runs import CQRS, CRUD, rewritten, times, write_run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", read_shares=(50.0, 95.0), rounds=5, warmups=0, operations=20)


def refused(run_dir: Path) -> str:
    """The one sentence, alike from each way to figures."""
    sentences = set()
    for ask in (tables.render, tables.summary, tables.sentence, report.write):
        with pytest.raises(UnusableRun) as refusal:
            ask(run_dir)
        sentences.add(str(refusal.value))
    (sentence,) = sentences
    assert "\n" not in sentence and not (run_dir / "report.html").exists()
    return sentence


def test_a_whole_run_opens(run_dir: Path) -> None:
    run = runs.open_run(run_dir)
    assert run.targets == ["crud", "cqrs"] and run.slices.height == 2 * 2 * (5 + 1)


def test_a_folder_that_is_no_run_or_has_lost_its_manifest_is_refused(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "manifest.json").unlink()
    for folder, fact in ((tmp_path, "is no run"), (tmp_path / "nothing", "is not a folder"), (run_dir, "incomplete")):
        assert fact in refused(folder)


@pytest.mark.parametrize(
    ("text", "facts"),
    [('{"format": 2, "all": "different"}', ["newer", "update"])]  # before anything else is read
    + [(text, []) for text in ("", "{", "[]", '"run"', '{"format": true}', '{"format": "1"}', '{"format": 0}', "\x00")],
)
def test_a_manifest_that_is_none_of_ours_is_refused(run_dir: Path, text: str, facts: list[str]) -> None:
    (run_dir / "manifest.json").write_text(text)
    sentence = refused(run_dir)
    assert all(fact in sentence for fact in facts), sentence


DIFFERENCE, GONE = "GET /orders/7: 200 against 404", "order 7 was acknowledged and is gone"


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda m: m.update(complete=False), ["incomplete"]),
        (lambda m: m["thresholds"].pop("steal_share_max"), ["steal_share_max"]),
        (lambda m: m["thresholds"].update(start_sd=-1), ["start_sd in manifest.json is out of range"]),
        (lambda m: m["files"].update({"../secret.parquet": "0"}), ["outside"]),
        (lambda m: m["checks"].update(ledger=None), ["never made"]),
        (lambda m: m["checks"]["conformance"].update(ok=False, first_difference=DIFFERENCE), [DIFFERENCE]),
        (lambda m: m["checks"]["ledger"].update(ok=False, lost=1, first=GONE), [GONE, "1 lost"]),
    ],
    ids=[
        "stopped",
        "no threshold",
        "wild threshold",
        "path outside",
        "unchecked",
        "conformance failed",
        "ledger failed",
    ],
)
def test_a_manifest_that_permits_no_figures_is_refused_with_its_reason(
    run_dir: Path, change: Callable[[dict[str, Any]], None], facts: list[str]
) -> None:
    sentence = refused(rewritten(run_dir, change))
    assert all(fact in sentence for fact in facts), sentence


@pytest.mark.parametrize("table", ["samples", "slices", "cpu", "staleness"])
def test_a_truncated_file_is_refused_by_name(run_dir: Path, table: str) -> None:
    file = run_dir / "rounds" / "00001" / f"{table}.parquet"
    file.write_bytes(file.read_bytes()[:-7])
    assert f"rounds/00001/{table}.parquet" in refused(run_dir)


def test_a_file_that_was_changed_or_has_other_columns_is_refused(run_dir: Path) -> None:
    file = run_dir / "rounds" / "00001" / "cpu.parquet"
    pl.read_parquet(file).with_columns(pl.col("cpu_us") // 2).write_parquet(file)
    assert "does not match its checksum" in refused(run_dir)
    pl.read_parquet(file).rename({"cpu_us": "cpu_ms"}).write_parquet(file)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    assert "cpu_us" in refused(rewritten(run_dir, lambda m: m["files"].update({"rounds/00001/cpu.parquet": checksum})))


def test_a_missing_and_an_unknown_round_are_refused_and_an_unfinished_one_is_ignored(run_dir: Path) -> None:
    (run_dir / "rounds" / ".tmp-00013").mkdir()
    assert runs.open_run(run_dir).slices["round"].max() == 12
    (run_dir / "rounds" / "00099").mkdir()
    assert "00099" in refused(run_dir)
    (run_dir / "rounds" / "00099").rmdir()
    (run_dir / "rounds" / "00001" / "cpu.parquet").unlink()
    assert "is missing" in refused(run_dir)


def test_warm_up_and_probe_rounds_are_not_compared(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", read_shares=(50.0, 95.0), rounds=6, warmups=3, operations=20)
    data = tables.summary(folder)
    assert {cell["comparison"]["rounds"] for cell in data["cells"] if cell["comparison"]} == {6}
    assert data["validity"]["rounds"] == 12


def test_unlike_runs_are_refused_with_the_fields_that_differ(run_dir: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", read_shares=(50.0,), rounds=5, warmups=0, operations=20)
    one, two = runs.read_manifest(run_dir), runs.read_manifest(other)
    with pytest.raises(UnusableRun, match="cannot be compared: different read shares"):
        runs.require_alike(one, two)
    runs.require_alike(one, two, may_differ=frozenset({"read_shares"}))
    runs.require_alike(one, one)


SMALL: dict[str, Any] = {"rounds": 6, "warmups": 0, "probes": 0, "operations": 20}


def spoil(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Changes the slice of cqrs in the fourth round only: one arm of one round."""

    def edit(row: dict[str, Any]) -> None:
        if row["round"] == 4 and row["target"] == "cqrs":
            row.update(changes)

    return edit


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"completed": 18}, "saturated"),
        ({"dropped": 1}, "saturated"),
        ({"offered": 19, "completed": 19}, "unlike load"),
        ({"steal_share": 0.06}, "steal"),
        ({"throttled_share": 0.06}, "throttled"),
        ({"errors": 1}, "errors"),
        ({"drained": False}, "over capacity"),
        ({"drain_us": 10_000_001}, "over capacity"),
        ({"target": "crud"}, "incomplete"),
    ],
)
def test_one_bad_slice_takes_its_whole_round_out(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    folder = write_run(tmp_path / "run", slice_edits=[spoil(**changes)], **SMALL)
    found = validity.judge(runs.open_run(folder))
    assert found.counts() == {reason: 1}
    assert 4 not in found.good_rounds()
    cells = [cell for cell in tables.summary(folder)["cells"] if cell["read_share_pct"] == 50.0]
    assert [cell["latency"]["p50"]["samples"] for cell in cells] == [5 * 20, 5 * 20]
    assert cells[1]["comparison"]["rounds"] == 5


def test_a_round_that_was_measured_again_counts_for_nothing_and_is_said(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run", slice_edits=[lambda row: row["round"] == 4 and row.update(phase="stolen")], **SMALL
    )
    found = find(folder)
    assert 4 not in found.validity.rounds["round"]
    assert sentences.validity_line(found) == "All 23 rounds are valid. Measured again after steal: 1."


def test_unknown_steal_and_throttling_void_nothing(tmp_path: Path) -> None:
    edit = {"steal_share": None, "throttled_share": None}
    run = runs.open_run(write_run(tmp_path / "run", slice_edits=[lambda row: row.update(edit)], **SMALL))
    assert validity.judge(run).counts() == {}
    conditions = validity.conditions(run)
    assert conditions["CPU steal, worst slice"] == "unknown" and "CPU throttled, worst slice" not in conditions


def test_a_quota_that_stopped_the_targets_is_said_with_what_to_do(tmp_path: Path) -> None:
    edits = [lambda row: row["read_share_pct"] == 50.0 and row.update(throttled_share=0.3)]
    folder = write_run(tmp_path / "run", slice_edits=edits, **SMALL)
    assert validity.conditions(runs.open_run(folder))["CPU throttled, worst slice"] == "30.0%"
    why = "the CPU quota of the container stopped it (throttled); raise the quota, or lower --rate"
    assert validity.judge(runs.open_run(folder)).too_many_gone(50.0) == f"100% of the rounds are void: {why}"


def test_more_than_a_fifth_of_void_rounds_is_inconclusive_whatever_the_rest_says(tmp_path: Path) -> None:
    def steal(row: dict[str, Any]) -> None:
        if row["read_share_pct"] == 50.0 and row["round"] % 10 in (1, 2, 3):
            row["steal_share"] = 0.5

    folder = write_run(tmp_path / "run", slice_edits=[steal], **SMALL | {"rounds": 10})
    cells = tables.summary(folder)["cells"]
    at_50, at_95 = (next(c for c in cells if (c["read_share_pct"], c["target"]) == (s, "cqrs")) for s in (50.0, 95.0))
    assert at_50["comparison"]["verdict"] == "inconclusive"
    why = "30% of the rounds are void: the hypervisor gave the CPU to another machine (steal); repeat the run"
    assert at_50["comparison"]["reason"].startswith(why) and at_50["latency"] is None
    assert at_95["comparison"]["verdict"] == "better"


@pytest.mark.parametrize(("factor", "failed", "answer"), [(1.2, True, "inconclusive"), (1.0, False, "above")])
def test_an_identical_pair_that_differs_voids_the_whole_run_and_one_that_agrees_leaves_it_alone(
    tmp_path: Path, factor: float, failed: bool, answer: str
) -> None:
    targets = (CRUD, times(CRUD, factor, name="crud-2"), CQRS)
    data = tables.summary(write_run(tmp_path / "run", targets=targets, rounds=10, operations=100))
    assert data["identical"][0]["failed"] == failed and data["crossovers"].keys() == {"cqrs"}
    assert data["crossovers"]["cqrs"]["answer"] == answer
    verdicts = {cell["comparison"]["verdict"] for cell in data["cells"] if cell["comparison"]}
    assert (verdicts == {"inconclusive"}) == failed
