"""Capacity on targets whose capacity and cliff are known, the search on planted edges, the law on planted laws."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis import capacity, capacity_plots, scaling
from analysis.statistics import NotComputable
from loadtests.search import PRECISION, search
from loadtests.trial import Trend, trend
from tests import load_targets as targets
from tests.load_targets import serving
from tests.test_load_drive import plan_for, start


def look_for(folder: Path, url: str, **changes: Any) -> Path:
    plan = {"kind": "capacity", "goal": {"p95_ms": 150, "freshness_ms": 100}, "read_shares": [90], "probes": 0}
    process = start(plan_for(folder, [url], **plan | {"slice_s": 1.0} | changes), module="loadtests.capacity")
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return folder / "run"


def test_a_single_server_and_a_slow_projector_are_found_where_they_are(tmp_path: Path) -> None:
    with serving(targets.limited(served_per_s=250, applied_per_s=80)) as urls:
        run = look_for(tmp_path, urls[0], rate_per_s=120)
    found = capacity.find(run)
    assert found.capacity.limits == "failed" and found.capacity.held_per_s and found.capacity.failed_per_s
    # In trials of a second a queue needs some 5 % too much to be seen growing.
    assert 185 < found.capacity.held_per_s < 265 and found.capacity.failed_per_s <= 1.06 * found.capacity.held_per_s
    assert found.cliff and found.cliff.limits == "failed" and "lag grows" in found.cliff.failures
    assert found.cliff.held_per_s and 60 < found.cliff.held_per_s < 92
    burst = found.trials.filter(pl.col("phase") == "burst").row(0, named=True)
    left = burst["rate_per_s"] - 80  # events after a second
    assert burst["drain_us"] == pytest.approx(left / 80 * 1e6, rel=0.5)
    assert f"holds {found.capacity.held_per_s:,.0f} operations/s" in capacity.sentences(found)[0]
    assert {path.stem for path in capacity_plots.write(run)} >= {"capacity", "cliff"}


def test_writes_that_are_seen_too_late_limit_the_capacity(tmp_path: Path) -> None:
    goal = {"p95_ms": 2000, "freshness_ms": 50}
    with serving(targets.limited(served_per_s=1000, applied_per_s=30)) as urls:
        run = look_for(tmp_path, urls[0], rate_per_s=40, goal=goal, read_shares=[50], slice_s=0.6)
    found = capacity.find(run)
    assert "stale" in found.capacity.failures
    assert found.capacity.held_per_s is not None and 15 < found.capacity.held_per_s < 75


@pytest.mark.parametrize("edge", [3.0, 90.0, 640.0, 21_000.0])
def test_the_search_closes_in_on_the_edge(edge: float) -> None:
    found = search(200, lambda rate: rate <= edge)
    assert found.held_per_s and found.failed_per_s and found.held_per_s <= edge < found.failed_per_s
    assert found.failed_per_s / found.held_per_s <= PRECISION


def test_one_bad_trial_of_three_changes_nothing() -> None:
    tries: dict[float, int] = {}

    def shaky(rate: float) -> bool:
        tries[rate] = tries.get(rate, 0) + 1
        return (rate <= 640) != (tries[rate] == 1)  # the first trial of each rate lies

    found = search(200, shaky)
    assert found.held_per_s and found.failed_per_s and found.held_per_s <= 640 < found.failed_per_s


def test_where_nothing_holds_or_all_does_no_edge_is_made_up() -> None:
    assert search(200, lambda rate: False).held_per_s is None
    assert search(200, lambda rate: True).failed_per_s is None


def test_a_trend_is_told_from_noise() -> None:
    rng = np.random.default_rng(1)
    at_us = np.arange(0, 4_000_000, 50_000)
    flat = [trend(list(zip(at_us, rng.poisson(3, len(at_us)), strict=True)), 4.0) for _ in range(200)]
    assert sum(one.grows(20) for one in flat) <= 12  # half of the 5 % that an interval may miss, and some
    rising = trend(list(zip(at_us, rng.poisson(3 + at_us / 1e6 * 25), strict=True)), 4.0)
    assert rising.grows(100) and rising.low < 25 < rising.high
    assert trend([], 4.0) == Trend(0.0, -np.inf, np.inf)


def trials(*rows: tuple[float, str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["rate_per_s", "outcome", "failures"], orient="row")


def test_what_the_generator_could_not_send_is_no_capacity_of_the_target() -> None:
    rows = [(200.0, "held", "")] * 2 + [(400.0, "generator", "late"), (400.0, "failed", "late")]
    found = capacity.edge(trials(*rows))
    assert (found.held_per_s, found.limits) == (200, "generator")
    assert "at least" in capacity.capacity_text(found) and "generator" in capacity.capacity_text(found)
    own = capacity.edge(trials(*rows[:2], *[(400.0, "failed", "late")] * 2))
    assert "at least" not in capacity.capacity_text(own) and "(late)" in capacity.capacity_text(own)


def test_a_stolen_trial_does_not_count() -> None:
    found = capacity.edge(trials((200.0, "void", "late"), (200.0, "held", ""), (200.0, "held", "")))
    assert found == capacity.Edge(200.0, None, None, "")


@pytest.mark.parametrize(("wait", "cross"), [(0.0, 0.0), (0.1, 0.0), (0.05, 0.004)])
def test_the_scalability_law_recovers_a_planted_one(wait: float, cross: float) -> None:
    rng = np.random.default_rng(3)
    n = np.repeat(np.geomspace(0.5, 20, 10), 2)
    x = 500 * n / (1 + wait * (n - 1) + cross * n * (n - 1)) * np.exp(rng.normal(0, 0.02, len(n)))
    law = scaling.fit(n, x, seed=1)
    for column, planted in enumerate((500, wait, cross)):
        low, high = law.interval(law.rows[:, column])
        assert low - 0.03 * planted - 1e-4 <= planted <= high + 0.03 * planted + 1e-4
    assert law.throughput(40.0).shape[1] == 1
    with pytest.raises(NotComputable, match="not extrapolated beyond 2 times"):
        law.throughput(41.0)


def test_too_few_points_give_no_law() -> None:
    with pytest.raises(NotComputable, match="not enough points"):
        scaling.fit(np.array([1.0, 2.0, 4.0]), np.array([100.0, 190.0, 350.0]), seed=1)
    with pytest.raises(NotComputable, match="4 times the least"):
        scaling.fit(np.linspace(1, 2, 9), np.linspace(100, 200, 9), seed=1)


def test_a_run_of_another_kind_looked_for_no_capacity(tmp_path: Path) -> None:
    from analysis.runs import UnusableRun
    from tests.synthetic_runs import write_run

    folder = write_run(tmp_path / "run", rounds=1)
    assert json.loads((folder / "manifest.json").read_text())["kind"] == "compare"
    with pytest.raises(UnusableRun, match="looked for no capacity"):
        capacity.find(folder)
