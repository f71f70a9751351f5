"""Finds the highest rate that a target holds: `python -m loadtests.capacity JOB.json`, a run of kind `capacity`.

Each rate gets up to three trials, of which two decide. Phases of its slices: `capacity` (the given workload), `cliff`
(writes only, to find the rate that the projection can follow), `burst` (twice that rate, then the drain).
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import gevent
import locust.contrib.fasthttp  # noqa: F401 - first of all modules with sockets: it monkey-patches the process

from loadtests.cpu import Machine, read_machine
from loadtests.drive import Run, Stopped, main
from loadtests.format import TABLES, THRESHOLDS
from loadtests.plan import Block
from loadtests.target import Rows, TargetUnderTest
from loadtests.trials import PRECISION, RATE_MIN, Outcome, Trial, goal_outcome, judge, lag_outcome, search

PROBES_PER_S = 10.0
LAG_EVERY_S = 0.05
VOID_MAX = 3


class Search(Run):
    def _measure_block(self, block: Block, warm_up_s: float) -> None:
        plan, share = self.plan, block.cells[0].read_share_pct
        self.lagged, self.tried = False, 0
        while self.tried * plan.slice_s < warm_up_s:
            self.trial("warmup", plan.rate_per_s, share)
        whole = search(plan.rate_per_s, lambda rate: self.holds("capacity", rate, share, goal_outcome))
        if self.lagged:  # so many writes it has followed already
            writes_per_s = (whole.held_per_s or plan.rate_per_s) * (1 - share / 100)
            found = search(writes_per_s, lambda rate: self.holds("cliff", rate, 0, lag_outcome), PRECISION**3)
            self.trial("burst", 2 * (found.held_per_s or RATE_MIN), 0)

    def holds(self, phase: str, rate_per_s: float, share: float, outcome_of: Callable[[Trial], Outcome]) -> bool:
        """Whether a trial that counts held; where others take the CPU each time, none counts and none holds."""
        for _ in range(VOID_MAX):
            if (outcome := self.trial(phase, rate_per_s, share, outcome_of)) != "void":
                return outcome == "held"
        return False

    def trial(
        self, phase: str, rate_per_s: float, share: float, outcome_of: Callable[[Trial], Outcome] = goal_outcome
    ) -> Outcome:
        """One slice, on disk as a round of its own."""
        target, slice_s, goal = self.targets[0], self.plan.slice_s, self.plan.goal
        assert goal is not None, "a plan of this kind has a goal"
        self.report(phase, self.tried, max(40, self.tried + 1), f"at {rate_per_s:,.0f}/s")
        self.tried, self.rounds, self.slices = self.tried + 1, self.rounds + 1, self.slices + 1
        # A probe is a write and a read: they are part of the rate, at most a tenth of it.
        probes = 0 if phase in ("cliff", "burst") else int(slice_s * min(PROBES_PER_S, rate_per_s / 20))
        rest_per_s = rate_per_s - 2 * probes / slice_s
        work = self.stream.round(share, self.rounds, slice_s=slice_s, rate_per_s=rest_per_s, probes=probes)
        before = Usage.now()
        with watched_lag(target) as lags:
            figures = target.run(work, slice_s, delays_us=(int(goal.freshness_ms * 1000),))
        others = before.others_share(sum(figures.cpu_us.values())) if figures.cpu_us else None
        started_us = figures.played.started_at_us
        lags = [(at - started_us, lag) for at, lag in lags if at >= started_us]
        found = judge(goal, figures.played, figures.staleness, lags, figures.drained, slice_s)
        whole = rate_per_s / rest_per_s
        found = found._replace(in_flight=found.in_flight * whole, throughput_per_s=found.throughput_per_s * whole)
        self.lagged = self.lagged or any(lag for _, lag in lags)
        stolen = (figures.steal_share or 0) > THRESHOLDS.steal_share_max
        stolen = stolen or (figures.throttled_share or 0) > THRESHOLDS.throttled_share_max
        outcome, failures = "void" if stolen else outcome_of(found), ", ".join(found.failures)
        tables: Rows = {table: [] for table in TABLES} | figures.rows(
            self.slices, self.rounds, 0, share, None, target.name, phase
        )
        tables["trials"] = [(self.slices, rate_per_s, outcome, failures, *found[1:4], *found.lag, *found[5:], others)]
        tables["lag"] = [(self.slices, *point) for point in lags]
        self.folder.write_round(self.rounds, tables)
        if self.stopping:
            raise Stopped
        self._settle(target)
        return outcome


class Usage(NamedTuple):
    """The CPU of the whole machine and of this process at one moment."""

    machine: Machine | None
    own_ns: int
    at_ns: int

    @classmethod
    def now(cls) -> "Usage":
        return cls(read_machine(), time.process_time_ns(), time.monotonic_ns())

    def others_share(self, target_us: int) -> float | None:
        """Of all cores since then, by processes that are neither this one nor the target."""
        now = Usage.now()
        if self.machine is None or now.machine is None:
            return None
        ours_us = (now.own_ns - self.own_ns) // 1_000 + target_us
        wall_us = (now.at_ns - self.at_ns) / 1_000 * (os.cpu_count() or 1)
        return max(0.0, (now.machine.busy_us - self.machine.busy_us - ours_us) / wall_us)


@contextmanager
def watched_lag(target: TargetUnderTest) -> Iterator[list[tuple[int, int]]]:
    """(monotonic µs, events behind), twenty times a second, while the block runs."""
    lags: list[tuple[int, int]] = []

    def watch() -> None:
        while True:
            asked_us = time.monotonic_ns() // 1_000
            if (lag := target.lag()) is not None:
                lags.append((asked_us, lag))
            gevent.sleep(LAG_EVERY_S)

    watching = gevent.spawn(watch)
    try:
        yield lags
    finally:
        watching.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Search))
