"""Looks for the highest rate a target holds: `python -m loadtests.capacity PLAN.json`, a run of kind `capacity`.

Each rate gets up to three trials and two of them decide. Phases of its slices: `capacity` (the workload as asked),
`cliff` (writes alone, until the backlog of the projection grows), `burst` (twice the writes it held, and the drain).
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
import locust.contrib.fasthttp  # noqa: F401 - first of all modules with sockets: it monkey-patches the process

from loadtests.cpu import read_busy_us
from loadtests.drive import Run, Stopped, add_rows, main
from loadtests.format import TABLES, THRESHOLDS
from loadtests.plan import Cell
from loadtests.slices import Bench
from loadtests.trials import PRECISION, RATE_MIN, Outcome, Trial, goal_outcome, judge, lag_outcome, search

LOOKS_PER_S = 10.0
LAG_EVERY_S = 0.05
VOID_MAX = 3


class Search(Run):
    def _load(self, cells: list[Cell], warm_up_s: float, rounds: list[int], probing: bool) -> None:
        plan, share = self.plan, cells[0].read_share_pct
        self.lagged, self.tried = False, 0
        while self.tried * plan.slice_s < warm_up_s:
            self.trial("warmup", plan.rate, share)
        whole = search(plan.rate, lambda rate: self.holds("capacity", rate, share, goal_outcome))
        if self.lagged:  # so many writes it has followed already
            writes_per_s = (whole.held_per_s or plan.rate) * (1 - share / 100)
            found = search(writes_per_s, lambda rate: self.holds("cliff", rate, 0, lag_outcome), PRECISION**3)
            self.trial("burst", 2 * (found.held_per_s or RATE_MIN), 0)

    def holds(self, phase: str, rate_per_s: float, share: float, outcome_of: Callable[[Trial], Outcome]) -> bool:
        """A trial that counts; where others take the CPU again and again, none does and the rate does not hold."""
        for _ in range(VOID_MAX):
            if (outcome := self.trial(phase, rate_per_s, share, outcome_of)) != "void":
                return outcome == "held"
        return False

    def trial(
        self, phase: str, rate_per_s: float, share: float, outcome_of: Callable[[Trial], Outcome] = goal_outcome
    ) -> Outcome:
        """One slice, on disk as a round of its own."""
        bench, slice_s = self.benches[0], self.plan.slice_s
        self.say(phase, self.tried, max(40, self.tried + 1), f"at {rate_per_s:,.0f}/s")
        self.tried, self.rounds, self.slices = self.tried + 1, self.rounds + 1, self.slices + 1
        goal = self.plan.goal
        assert goal is not None, "a plan of this kind has a goal"
        # A look is a write and a read: they are part of the rate, at most a tenth of it.
        looks = 0 if phase in ("cliff", "burst") else int(slice_s * min(LOOKS_PER_S, rate_per_s / 20))
        rest_per_s = rate_per_s - 2 * looks / slice_s
        work = self.stream.round(share, self.rounds, slice_s=slice_s, rate_per_s=rest_per_s, probes=looks)
        lags: list[tuple[int, int]] = []
        busy_us, own_ns, start_ns = read_busy_us(), time.process_time_ns(), time.monotonic_ns()
        watch = gevent.spawn(watch_lag, bench, lags)
        try:
            figures = bench.run(work, slice_s, delays_us=(int(goal.freshness_ms * 1000),))
        finally:
            watch.kill()
        ours_us = (time.process_time_ns() - own_ns) // 1_000 + sum(figures.cpu_us.values())
        elapsed_us = (time.monotonic_ns() - start_ns) / 1_000 * (os.cpu_count() or 1)
        others = max(0.0, (read_busy_us() - busy_us - ours_us) / elapsed_us) if figures.cpu_us else None
        lags = [(at - figures.played.started_at_us, lag) for at, lag in lags if at >= figures.played.started_at_us]
        found = judge(goal, figures.played, figures.staleness, lags, figures.drained, slice_s)
        whole = rate_per_s / rest_per_s
        found = found._replace(in_flight=found.in_flight * whole, throughput_per_s=found.throughput_per_s * whole)
        self.lagged = self.lagged or any(lag for _, lag in lags)
        tables: dict[str, list[tuple[Any, ...]]] = {table: [] for table in TABLES}
        add_rows(tables, self.slices, (self.rounds, 0, share, None, bench.name, phase), work, figures)
        stolen = (figures.steal_share or 0) > THRESHOLDS.steal_share_max
        outcome, failures = "void" if stolen else outcome_of(found), ", ".join(found.failures)
        tables["trials"] = [(self.slices, rate_per_s, outcome, failures, *found[1:4], *found.lag, *found[5:], others)]
        tables["lag"] = [(self.slices, *point) for point in lags]
        self.folder.write_round(self.rounds, tables)
        if self.stopping:
            raise Stopped
        self._settle(bench)
        return outcome


def watch_lag(bench: Bench, lags: list[tuple[int, int]]) -> None:
    while True:
        asked_us = time.monotonic_ns() // 1_000
        if (lag := bench.lag()) is not None:
            lags.append((asked_us, lag))
        gevent.sleep(LAG_EVERY_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Search))
