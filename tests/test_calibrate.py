"""Calibration knows the truth it measures, and says no when the measurement is not it."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossover import calibrate
from crossover.calibrate import Repeat, found, identical
from crossover.errors import Fallen
from crossover.processes import household
from crossover.servers import SERVER_ENV
from loadtests.cpu import process_clock_ns
from loadtests.scripted import due_times_us, waits_us
from tests.synthetic_runs import CRUD, write_run

BUSY = """
import time
while True:
    end = time.process_time() + 0.003
    while time.process_time() < end: pass
    time.sleep(0.007)
"""


def repeat(planted_pct: int, ratio: float, *, half: float = 0.04, verdict: str = "inconclusive") -> Repeat:
    return Repeat(planted_pct, ratio, ratio - half, ratio + half, verdict, 6.0)


def test_a_planted_share_is_burned_to_within_a_tenth_of_it() -> None:
    with household() as house:
        busy = house.start("busy", [sys.executable, "-c", BUSY], env=SERVER_ENV)
        planted = house.start("planted", [sys.executable, "-m", "crossover.planted", "0.20"], env=SERVER_ENV)
        house.wait(lambda: process_clock_ns(planted) > 2e8, "the planted process to start and look", 60)
        before = process_clock_ns(busy), process_clock_ns(planted)
        house.wait(lambda: process_clock_ns(busy) - before[0] > 1e9, "a second of CPU", 60)
        burned = (process_clock_ns(planted) - before[1]) / (process_clock_ns(busy) - before[0])
    assert burned == pytest.approx(0.20, rel=0.1)


def test_the_path_of_a_long_queue_has_the_mean_wait_of_the_theory() -> None:
    service_us, utilisation = 1_000, 0.5
    mean = np.mean(waits_us(due_times_us(utilisation / 1e-3, 400), service_us))
    assert mean == pytest.approx(utilisation * service_us / (2 * (1 - utilisation)), rel=0.03)


def test_three_of_twenty_identical_intervals_may_miss_one_and_one_verdict_may_be_wrong() -> None:
    good, miss = [repeat(0, 1.01)] * 17, [repeat(0, 1.06)] * 3
    assert identical(good + miss).ok
    assert not identical([*good[1:], *miss, repeat(0, 0.9)]).ok
    assert identical([*good, *miss[1:], repeat(0, 1.06, verdict="worse")]).ok
    assert not identical([*good, miss[0], *[repeat(0, 1.06, verdict="worse")] * 2]).ok


def test_a_planted_tenth_must_be_found_nineteen_times_of_twenty() -> None:
    hit, blind = repeat(10, 1.1), repeat(10, 1.03)
    assert found([hit] * 19 + [blind], 10, 0.95).ok
    assert not found([hit] * 18 + [blind] * 2, 10, 0.95).ok
    assert not found([repeat(10, 1.2)] * 20, 10, 0.95).ok, "an interval beside the truth"


def test_a_generator_that_hides_waiting_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Latency counted from the sending: the stall shows in one request alone, as in a closed loop."""

    def hiding(rate: float, seconds: float, seed: int, *script: float) -> tuple[Sequence[int], np.ndarray]:
        due = due_times_us(rate, seconds, seed)
        return due, np.full(len(due), 3_000)

    monkeypatch.setattr(calibrate, "played", hiding)
    assert not calibrate.stall().ok
    monkeypatch.setattr(calibrate, "pairs", lambda *_: [repeat(0, 1.0), repeat(10, 1.1)])
    with pytest.raises(Fallen, match=r"cannot be trusted now: .*stall"):
        calibrate.calibrate(tmp_path, quick=True, repeats=1)


def test_a_run_says_of_identical_and_of_planted_targets_what_they_are(tmp_path: Path) -> None:
    planted = replace(CRUD, name="crud-3", rung="crud + 10 %", read_us=CRUD.read_us * 1.1, write_us=CRUD.write_us * 1.1)
    twins = (CRUD, replace(CRUD, name="crud-2"), planted)
    write_run(tmp_path, targets=twins, read_shares=(80.0,), rounds=5, restarts=8, probes=0)
    same, more = calibrate.judged(tmp_path, {"crud-3": 10})
    assert identical([same]).ok and found([more], 10, 1).ok
    assert (same.planted_pct, more.planted_pct) == (0, 10)
    assert more.low <= 1.1 <= more.high and more.verdict == "worse"
