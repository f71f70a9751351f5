"""Calibration knows the truth it measures, and says no when the measurement is not it."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossover import calibrate
from crossover.calibrate import Repeat, found, identical
from crossover.errors import Fallen, UserError
from crossover.planning import PROFILES, Session
from loadtests.cpu import process_clock_ns
from loadtests.scripted import due_times_us, waits_us
from servers.server import SERVER_ENV
from servers.supervisor import Processes
from tests.synthetic_runs import CRUD, write_run

BUSY = """
import time
while True:
    end = time.process_time() + 0.003
    while time.process_time() < end: pass
    time.sleep(0.007)
"""


def repeat(planted_pct: int, ratio: float, *, half: float = 0.04, verdict: str = "inconclusive") -> Repeat:
    return Repeat("standard", planted_pct, ratio, ratio - half, ratio + half, verdict, 6.0)


@pytest.mark.long
def test_a_planted_share_of_its_own_target_is_burned_to_within_a_tenth_of_it() -> None:
    with Processes() as processes, Processes() as other_target:
        other_target.start("busy", [sys.executable, "-c", BUSY], env=SERVER_ENV)
        busy = processes.start("busy", [sys.executable, "-c", BUSY], env=SERVER_ENV)
        planted = processes.start("planted", [sys.executable, "-m", "crossover.planted", "0.20"], env=SERVER_ENV)
        processes.wait(lambda: process_clock_ns(planted) > 2e8, "the planted process to start and look", 60)
        before = process_clock_ns(busy), process_clock_ns(planted)

        def burned() -> float:
            busy_ns, planted_ns = process_clock_ns(busy) - before[0], process_clock_ns(planted) - before[1]
            return planted_ns / busy_ns if busy_ns > 1e9 else 0.0

        # It catches up where other processes kept it waiting; a wrong share it never leaves.
        processes.wait(lambda: burned() == pytest.approx(0.20, rel=0.1), "a fifth of a second of CPU or more", 60)


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
    assert found([hit] * 19 + [blind], 0.95).ok
    assert not found([hit] * 18 + [blind] * 2, 0.95).ok
    assert not found([repeat(10, 1.2)] * 20, 0.95).ok, "an interval beside the truth"


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


def write_pairs(folder: Path, *, rounds: int = 8, restarts: int = 8, more: float = 1.1) -> Path:
    """A run of crud, an identical target and one that needs more."""
    planted = replace(
        CRUD, name="crud-3", rung="crud + 10 %", read_us=CRUD.read_us * more, write_us=CRUD.write_us * more
    )
    twins = (CRUD, replace(CRUD, name="crud-2"), planted)
    write_run(folder, targets=twins, read_shares=(80.0,), rounds=rounds, restarts=restarts, probes=0)
    return folder


def test_a_run_says_of_identical_and_of_planted_targets_what_they_are(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path, rounds=5, restarts=8)
    same, more = calibrate.repeats_of(folder, {"crud-3": 10}, "standard", PROFILES["standard"])
    assert identical([same]).ok and found([more], 1).ok
    assert (same.planted_pct, more.planted_pct) == (0, 10)
    assert more.low <= 1.1 <= more.high and more.verdict == "worse"


@pytest.mark.long
def test_a_long_run_holds_a_shorter_one_that_sees_less(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path)
    (_, short), (_, long) = (
        [*calibrate.repeats_of(folder, {"crud-3": 10}, name, length)] for name, length in calibrate.LENGTHS.items()
    )
    assert (short.profile, long.profile) == ("standard", "thorough")
    assert short.detectable_pct > long.detectable_pct
    findings = calibrate.find(folder)
    whole = [cell.comparison for cell in findings.cells if cell.target == "crud-3"]
    assert whole[0] is not None and long.ratio == whole[0].ratio != short.ratio


@pytest.mark.long
def test_repeats_that_are_there_are_not_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured = list[str]()

    def run(session: Session, *_: object) -> None:
        measured.append(session.access.out.name)
        write_pairs(session.access.out)

    monkeypatch.setattr(calibrate, "known", lambda *_: [])
    monkeypatch.setattr(calibrate, "run", run)
    monkeypatch.setattr(calibrate, "PLANTED_PCT", (10,))
    write_pairs(tmp_path / "pairs-01")
    calibrate.calibrate(tmp_path, quick=False, repeats=2)
    assert measured == ["pairs-02"]


def test_a_calibration_does_not_write_into_what_is_no_calibration(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something already"):
        calibrate.calibrate(tmp_path, quick=True, repeats=1)
