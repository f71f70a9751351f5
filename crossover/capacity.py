"""The capacity of one target: the highest rate that meets a latency and a freshness target."""

import math

from crossover.errors import UserError
from crossover.options import Options
from crossover.planning import Session, addresses, listed, named_rungs, session_of
from loadtests import workload as workloads
from loadtests.plan import Cell, Goal

FRESHNESS_MS_MAX = 2_000.0  # half a trial: later reads would find a target at rest
TRIAL_S = 4.0  # of a rate


def capacity_of(
    options: Options, *, rung: str, target: str | None, p95_ms: float, freshness_ms: float, read_share: float | None
) -> Session:
    if (target is None) == (not rung) or len(listed(rung)) > 1:
        raise UserError("The capacity of one target at a time: give either --rung RUNG or --target NAME=URL.")
    if not (math.isfinite(p95_ms) and p95_ms > 0):
        raise UserError(f"--p95-ms is a time above 0, not {p95_ms:g}.")
    if not 0 < freshness_ms <= FRESHNESS_MS_MAX:
        raise UserError(f"--freshness-ms is above 0 and at most {FRESHNESS_MS_MAX:,.0f}, not {freshness_ms:g}.")
    share = workloads.load(options.workload).read_share_pct if read_share is None else read_share
    return session_of(
        "capacity",
        options,
        [[Cell(workloads.check_read_share(share))]],
        rungs=named_rungs(rung),
        external=addresses([target] if target else []),
        goal=Goal(p95_ms, freshness_ms),
        slice_s=TRIAL_S,
    )
