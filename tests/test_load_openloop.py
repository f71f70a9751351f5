"""The open loop on a target whose latencies are known: what it reports must be what was there."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pytest

from loadtests.scripted import scripted_us

FIXED_US, SLOW_US, EVERY = 3_000, 30_000, 20
STALL_AT, STALL_US = 150, 1_000_000
RATE_PER_S, SECONDS = 100, 4
BUSY_US = 10_000_000  # what a busy machine may add, and rarely does; `crossover calibrate` measures it on a quiet one


class Seen(NamedTuple):
    due: np.ndarray
    sent: np.ndarray
    done: np.ndarray
    outcome: list[str]
    told: list[bool]  # to a listener of Locust's, by request: no exception


@contextmanager
def scripted(*script: float) -> Iterator[str]:
    arguments = [sys.executable, "-m", "loadtests.scripted", *map(str, script), "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def play(url: str, *words: object, module: str = "loadtests.known") -> Seen:
    arguments = [sys.executable, "-m", module, url, str(RATE_PER_S), str(SECONDS), "7", *map(str, words)]
    columns = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=600).stdout)
    return Seen(*(np.array(columns[name]) for name in ("due", "sent", "done")), columns["outcome"], columns["told"])


def expected_us(due: np.ndarray, *, stall: bool) -> np.ndarray:
    """What the script does to requests that come at their due times."""
    stalls = (STALL_AT, STALL_US) if stall else (0, 0)
    return np.array(scripted_us(due.tolist(), FIXED_US, SLOW_US, EVERY, *stalls))


def off_by_us(seen: Seen, expected: np.ndarray, percentile: float) -> tuple[float, float]:
    """(how far the recovered percentile lies over the true one, the true one)."""
    truth = float(np.percentile(expected, percentile))
    return float(np.percentile(seen.done - seen.due, percentile)) - truth, truth


@pytest.fixture(scope="module")
def even() -> Seen:
    with scripted(FIXED_US, SLOW_US, EVERY, 0, 0) as url:
        return play(url)


@pytest.fixture(scope="module")
def stalled() -> Seen:
    with scripted(FIXED_US, SLOW_US, EVERY, STALL_AT, STALL_US / 1e6) as url:
        return play(url)


@pytest.mark.long
@pytest.mark.parametrize("percentile", [50, 99])
def test_known_latencies_are_recovered(even: Seen, percentile: float) -> None:
    off, truth = off_by_us(even, expected_us(even.due, stall=False), percentile)
    assert -200 <= off <= BUSY_US, (off, truth)
    assert even.told == [True] * len(even.due), "Locust is told of every request"


def service_us(module: str) -> tuple[float, float]:
    """The interval of the first decile, which a busy machine leaves alone (order statistics, Hahn & Meeker 1991)."""
    with scripted(SLOW_US, 0, 0, 0, 0) as url:
        seen = play(url, module=module)
    assert seen.outcome == ["ok"] * len(seen.due) and (np.diff(seen.due) > 0).all()
    service, count = np.sort(seen.done - seen.sent), len(seen.due)
    assert service[0] >= SLOW_US
    low, high = (float(service[int(count / 10 + side * 1.96 * np.sqrt(count * 0.09))]) for side in (-1, 1))
    return low, high


@pytest.mark.long
def test_an_ordinary_session_of_locust_gives_no_lower_figures() -> None:
    """Other work on the machine only ever adds, so the lowest interval of up to five slices counts; a bias stays."""
    slices = []
    for _ in range(5):
        slices.append((service_us("loadtests.known"), service_us("tests.openloop_session")))
        (lean_low, _), (_, high) = (min(intervals) for intervals in zip(*slices, strict=True))
        if lean_low <= high:  # and none is below what was there, which service_us() looks after
            return
    pytest.fail(f"{slices}")


@pytest.mark.parametrize("percentile", [50, 90, 99])
def test_a_stall_of_a_second_counts_for_everything_that_was_due_in_it(stalled: Seen, percentile: float) -> None:
    assert set(stalled.outcome) == {"ok"}
    off, truth = off_by_us(stalled, expected_us(stalled.due, stall=True), percentile)
    assert percentile == 50 or truth > 400_000, "the stall is in this percentile"
    assert -200 <= off <= BUSY_US, (off, truth)


def test_requests_leave_on_time_while_the_target_stands_still(stalled: Seen) -> None:
    assert (stalled.sent >= stalled.due).all()
    in_it = (stalled.sent > stalled.sent[STALL_AT]) & (stalled.sent < stalled.done[STALL_AT])
    assert in_it.sum() > RATE_PER_S * STALL_US / 1e6 / 4, "a hundred on a quiet machine"


def test_a_full_pool_is_counted_as_dropped_and_sends_nothing() -> None:
    """By the generator's own clock: until the first is answered, as many are under way as the pool holds."""
    pool = 5
    with scripted(FIXED_US, 0, 0, 1, STALL_US / 1e6) as url:
        seen = play(url, pool)
    stalled = int((seen.sent < seen.sent[0] + STALL_US).sum())
    assert seen.outcome[:stalled] == ["ok"] * pool + ["dropped"] * (stalled - pool) and stalled > 2 * pool
    assert "ok" in seen.outcome[stalled:], "it sends again when the pool has room"
    assert {*seen.outcome} == {"ok", "dropped"} and len(seen.outcome) == len(seen.due), (
        "every operation is accounted for"
    )
    assert seen.told == [outcome == "ok" for outcome in seen.outcome]
