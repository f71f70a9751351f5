"""Two runs are compared only when alike, against the baseline of their own run, and with the intervals they deserve."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import delta
from analysis.runs import UnusableRun
from tests.synthetic_runs import CQRS, CRUD, printed, rewritten, times, write_run


def run(folder: Path, seed: int, *, slower: float = 1.0, day: float = 1.0, **changes: Any) -> Path:
    """`slower`: what cqrs alone costs more; `day`: what everything does."""
    plan = {"targets": (times(CRUD, day), times(CQRS, slower * day)), "read_shares": (50.0, 80.0), "rounds": 12}
    write_run(folder, probes=0, seed=seed, **plan | changes)
    # The noise has a seed of its own: that of the run, which must be alike, is in the fingerprint.
    return rewritten(folder, lambda manifest: manifest["fingerprint"].update(seed=1))


def verdicts(found: delta.Delta) -> set[str]:
    return {change.comparison.verdict for change in found.changes if change.normalised}


def test_a_slower_target_is_found_though_the_whole_machine_was_slower_that_day(tmp_path: Path) -> None:
    found = delta.compare(run(tmp_path / "a", 1), run(tmp_path / "b", 2, slower=1.1, day=1.4))
    assert verdicts(found) == {"worse"}
    for change in found.changes:
        assert change.comparison.interval is not None
        low, high = change.comparison.interval
        assert low < (1.1 if change.normalised else 1.4) < high, change


def test_a_slow_day_alone_is_no_finding(tmp_path: Path) -> None:
    found = delta.compare(run(tmp_path / "a", 1), run(tmp_path / "b", 2, day=1.4))
    assert verdicts(found) <= {"equivalent", "inconclusive"}
    shown = " ".join(printed(delta.render(found)).split())
    assert all(fact in shown for fact in ("absolute", "as a ratio to crud", "differs between two days"))


@pytest.mark.long
def test_the_interval_of_a_shift_misses_the_truth_about_one_time_in_twenty() -> None:
    rng, strata, missed, repeats = np.random.default_rng(7), np.repeat([0, 1], 6), 0, 200
    for _ in range(repeats):
        a, b = rng.normal(0.3, 0.05, 12), rng.normal(0.4, 0.05, 12)
        interval = delta.shift((a, strata), (b, strata), start_sd=0.0).interval
        assert interval is not None
        missed += not interval.low <= math.exp(0.1) <= interval.high
    assert missed <= 20, missed


def test_a_run_that_is_void_at_a_read_share_says_nothing_there(tmp_path: Path) -> None:
    def steal(row: dict[str, Any]) -> None:
        if row["read_share_pct"] == 50.0 and row["round"] % 2:
            row["steal_share"] = 0.5

    found = delta.compare(run(tmp_path / "a", 1), run(tmp_path / "b", 2, slower=1.3, slice_edits=[steal]))
    judged = {change.read_share_pct: change.comparison for change in found.changes if change.normalised}
    assert judged[50.0].verdict == "inconclusive" and "are void" in judged[50.0].reason
    assert judged[80.0].verdict == "worse"


def test_too_few_rounds_are_inconclusive_with_their_number(tmp_path: Path) -> None:
    few = {"rounds": 3, "probes": 0, "operations": 20}
    found = delta.compare(write_run(tmp_path / "a", **few), write_run(tmp_path / "b", **few))
    assert verdicts(found) == {"inconclusive"} and "3 valid rounds" in found.changes[1].comparison.reason


def test_unlike_runs_are_refused_by_the_fields_that_differ(tmp_path: Path) -> None:
    a = run(tmp_path / "a", 1)
    targets = (CRUD, replace(CQRS, rung="views"))
    other = write_run(tmp_path / "b", rounds=5, probes=0, operations=20, seed=2, targets=targets)
    with pytest.raises(UnusableRun, match=r"different targets, read shares, seed \(1 vs 2\), rounds \(12 vs 5\)\."):
        delta.compare(a, other)
    with pytest.raises(UnusableRun, match="is not a folder"):
        delta.compare(a, tmp_path / "none")


def test_other_addresses_and_another_commit_are_no_difference(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", 1), run(tmp_path / "b", 2)
    manifest = b / "manifest.json"
    manifest.write_text(manifest.read_text().replace(":8080", ":9090").replace("0123abc", "fedc987"))
    assert verdicts(delta.compare(a, b)) <= {"equivalent", "inconclusive"}
