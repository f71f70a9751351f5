"""The capacity of one target: what was asked for, checked before anything starts."""

import math
from dataclasses import replace
from typing import Any

from crossover.errors import UserError
from crossover.preflight import Wish, wanted, words
from loadtests import workload as workloads

FRESHNESS_MS_MAX = 2_000.0  # half a trial: later reads would find a target at rest


def wanted_capacity(
    rung: str, target: str | None, p95_ms: float, freshness_ms: float, read_share: float | None, **wish: Any
) -> Wish:
    """A run of kind `capacity` that can be carried out, `wish` being as for any run; raises UserError."""
    if (target is None) == (not rung) or len(words(rung)) > 1:
        raise UserError("The capacity of one target at a time: give either --rung RUNG or --target NAME=URL.")
    if not (math.isfinite(p95_ms) and p95_ms > 0):
        raise UserError(f"--p95-ms is a time above 0, not {p95_ms:g}.")
    if not 0 < freshness_ms <= FRESHNESS_MS_MAX:
        raise UserError(f"--freshness-ms is above 0 and at most {FRESHNESS_MS_MAX:,.0f}, not {freshness_ms:g}.")
    try:
        share = workloads.load(wish["workload"]).read_share_pct if read_share is None else read_share
    except workloads.WorkloadError as error:
        raise UserError(str(error)) from None
    targets, shares = [target] if target else [], f"{share:g}"
    found = wanted(rungs=rung, targets=targets, read_shares=shares, **wish)
    return replace(found, kind="capacity", goal={"p95_ms": p95_ms, "freshness_ms": freshness_ms})
