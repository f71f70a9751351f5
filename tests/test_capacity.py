"""Capacity on targets whose capacity and cliff are known, the search on planted edges, the law on planted laws."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from analysis import capacity, capacity_plots
from analysis.bounds import Servers, plan
from analysis.publish import compacted
from analysis.runs import UnusableRun
from analysis.statistics import NotComputable
from loadtests.plan import Goal
from loadtests.trials import PRECISION, Trend, Trial, goal_outcome, judge, lag_outcome, search, trend
from tests import load_targets as targets
from tests.jobs import drive, job_for
from tests.load_targets import serving
from tests.synthetic_runs import write_run

HOME = Path(__file__).parent.parent


def look_for(folder: Path, url: str, **changes: Any) -> Path:
    goal = {"kind": "capacity", "goal": Goal(p95_ms=150, freshness_ms=100), "slice_s": 0.6}
    job = job_for(folder, [url], read_shares=(90,), **goal | changes)
    done = drive(job, "loadtests.capacity")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def simulated(
    rate: float, share: float, goal: Goal, *, served_per_s: float, applied_per_s: float, rng: np.random.Generator
) -> Trial:
    """Four seconds of a single server with a fixed service time before a projector with another, in virtual time."""
    due = np.sort(rng.uniform(0, 4e6, rng.poisson(rate * 4)))
    done, applied = 0.0, [0.0]
    samples, writes = [], []
    for at in due:
        done = max(at, done) + 1e6 / served_per_s
        kind = "read" if rng.random() * 100 < share else "write"
        samples.append(SimpleNamespace(done_us=done, operation=SimpleNamespace(due_us=at, kind=kind), outcome="ok"))
        if kind == "write":
            writes.append(done)
            applied.append(max(done, applied[-1]) + 1e6 / applied_per_s)
    shown = np.array(applied[1:])
    lags = [(t, int(np.sum((np.array(writes) <= t) & (shown > t)))) for t in range(0, 4_000_000, 50_000)]
    picked = rng.integers(0, len(writes), 40) if writes else []
    looks = [SimpleNamespace(stale=shown[k] > writes[k] + goal.freshness_ms * 1000) for k in picked]
    played = SimpleNamespace(samples=samples, wall_us=max(4e6, done), generator_cpu_us=4e5)
    return judge(goal, cast(Any, played), cast(Any, looks), lags, True, 4.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_single_server_and_a_slow_projector_are_found_where_they_are(seed: int) -> None:
    """Within a tenth: arrivals of four seconds vary by 5 %, and a nearly full queue looks like one that grows."""
    truth, goal = {"served_per_s": 250.0, "applied_per_s": 80.0, "rng": np.random.default_rng(seed)}, Goal(150, 100)
    whole = search(120, lambda rate: goal_outcome(simulated(rate, 90, goal, **truth)) == "held")
    assert whole.held_per_s and whole.failed_per_s and 225 <= whole.held_per_s <= 265
    cliff = search(20, lambda rate: lag_outcome(simulated(rate, 0, goal, **truth)) == "held")
    assert cliff.held_per_s and cliff.failed_per_s and 72 <= cliff.held_per_s <= 88
    assert "lag grows" in simulated(1.3 * cliff.failed_per_s, 0, goal, **truth).failures


def test_writes_that_are_seen_too_late_limit_the_capacity() -> None:
    truth, goal = {"served_per_s": 1000.0, "applied_per_s": 30.0, "rng": np.random.default_rng(1)}, Goal(2000, 50)
    found = search(40, lambda rate: goal_outcome(simulated(rate, 50, goal, **truth)) == "held")
    assert found.held_per_s and found.failed_per_s and found.held_per_s < 60, "30 writes a second at most"
    assert simulated(90, 50, goal, **truth).failures[0] == "stale"


@pytest.mark.long
def test_a_run_of_capacity_goes_from_the_load_to_its_plots(tmp_path: Path) -> None:
    """On a busy machine the target is slower than its script, never faster; a short trial lets it seem a third so."""
    with serving(targets.limited(served_per_s=250, applied_per_s=80)) as urls:
        run = look_for(tmp_path, urls[0], rate_per_s=120)
    found = capacity.find(run)
    for edge in (found.capacity, found.cliff):
        assert edge and edge.failed_per_s and (edge.held_per_s is None or edge.held_per_s < 1.4 * 250)
    assert found.capacity.failures and found.capacity.limits in ("failed", "generator")
    assert (found.trials["outcome"] != "void").all() and "burst" in found.trials["phase"]
    assert "After a burst" in capacity.burst_text(found)
    assert capacity.capacity_text(found.capacity) in capacity.sentences(found)[0]
    assert (found.trials["others_share"] < 1).all() and (found.trials["others_share"] >= 0).all()
    assert {path.stem for path in capacity_plots.write(run)} >= {"capacity", "cliff"}
    assert capacity.sentences(capacity.find(compacted(run, tmp_path / "kept"))) == capacity.sentences(found)


@pytest.mark.parametrize("rung", ["crud", "cqrs"])
def test_what_was_held_is_no_more_than_its_demands_allow(rung: str) -> None:
    run = HOME / "results" / "published" / f"2026-11-23-capacity-{rung}"
    held, bounds = capacity.find(run).capacity.held_per_s, plan(run, 90, Servers())
    assert held and min(bound.per_s for bound in bounds) > held


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


def test_other_processes_at_work_are_told() -> None:
    shares = [pl.DataFrame({"others_share": [0.01, share, None]}) for share in (0.02, 0.4)]
    assert capacity.noise_text(shares[0]) == "" and "up to 40% of the machine" in capacity.noise_text(shares[1])


def test_a_stolen_trial_does_not_count_and_a_rate_of_none_that_counts_is_no_failure() -> None:
    found = capacity.edge(trials((200.0, "void", "late"), (200.0, "held", ""), (200.0, "held", "")))
    assert found == capacity.Edge(200.0, None, None, "")
    rows = [(200.0, "held", "")] * 2 + [(400.0, "held", "")] + [(400.0, "void", "late")] * 3
    for stolen in (rows, [*rows[:2], *rows[3:]]):
        found = capacity.edge(trials(*stolen))
        assert found == capacity.Edge(200.0, 400.0, "void", "")
        assert capacity.capacity_text(found) == (
            "at least: holds 200 operations/s; at 400/s too few trials count: the hypervisor or a quota took the CPU "
            "away"
        )


@pytest.mark.parametrize(("wait", "cross"), [(0.0, 0.0), (0.1, 0.0), (0.05, 0.004)])
def test_the_scalability_law_recovers_a_planted_one(wait: float, cross: float) -> None:
    rng = np.random.default_rng(3)
    n = np.repeat(np.geomspace(0.5, 20, 10), 2)
    x = 500 * n / (1 + wait * (n - 1) + cross * n * (n - 1)) * np.exp(rng.normal(0, 0.02, len(n)))
    law = capacity.fit_law(n, x, seed=1)
    for column, planted in enumerate((500, wait, cross)):
        low, high = law.interval(law.rows[:, column])
        assert low - 0.03 * planted - 1e-4 <= planted <= high + 0.03 * planted + 1e-4
    assert law.throughput(40.0).shape[1] == 1
    with pytest.raises(NotComputable, match="not extrapolated beyond 2 times"):
        law.throughput(41.0)


@pytest.mark.parametrize(
    ("most", "points", "says"), [(4, 0, "6 different loads"), (4, 3, "6 different loads"), (2, 9, "4 times the least")]
)
def test_too_few_points_give_no_law(most: float, points: int, says: str) -> None:
    with pytest.raises(NotComputable, match=f"not enough points: .*{says}"):
        capacity.fit_law(np.linspace(1, most, points), np.linspace(100, 100 * most, points), seed=1)


def test_a_run_of_another_kind_looked_for_no_capacity(tmp_path: Path) -> None:
    with pytest.raises(UnusableRun, match="is a run of kind compare: it searched for no capacity"):
        capacity.find(write_run(tmp_path / "run", rounds=1))
