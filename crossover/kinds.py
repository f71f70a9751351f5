"""The kinds of runs: one function per kind makes a session from the options of a command."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from analysis.runs import read_unfinished
from crossover import planning
from crossover.errors import UserError
from crossover.options import Options
from crossover.planning import Access, Session, addresses, known_profile, listed, named_rungs, session_of
from crossover.revisions import commit_of
from crossover.targets import known_rung
from crossover.urls import given_urls
from ladder.rung import rung as rung_of
from loadtests import workload as workloads
from loadtests.plan import Cell, Goal, Plan, cells_of
from loadtests.workload import READS, WRITES

FRESHNESS_MS_MAX = 2_000.0  # half a trial: later reads would find a target at rest
TRIAL_S = 4.0  # of a rate
GATE_WARM_UP_S = 3.0  # after each of the many starts
URL_MARK = "://"
ALPHA = 0.05  # of all comparisons of a run together


def comparison(
    options: Options,
    rungs: str,
    targets: Sequence[str] = (),
    pids: Sequence[str] = (),
    read_shares: str = "50,80,95,99",
    profile: str = "quick",
    durability: str = "full",
) -> Session:
    """A mixed run: every target under the same load, at several read shares. Of many targets every start has as many
    rounds more as the smallest p needs that they can give, once it is corrected for all that is compared."""
    length = known_profile(profile)
    ours, blocks = named_rungs(rungs, pair=length.pair), blocks_of(read_shares)
    external = addresses(targets, taken=ours)
    compared = max(1, (len(ours) + len(external) - 1) * len(blocks))
    rounds_min = math.floor(math.log2(2 * compared / ALPHA)) + 1
    return session_of(
        "compare",
        options,
        blocks,
        rungs=ours,
        external=external,
        pids=pids,
        profile=profile,
        durability=durability,
        rounds=max(length.rounds, rounds_min if length.restarts == 1 else 0),
    )


def resumed(
    folder: Path,
    pids: Sequence[str] = (),
    url: Sequence[str] = (),
    token: str | None = None,
    targets: Sequence[str] = (),
) -> Session:
    """One more session of a comparison that was stopped; URLs of servers and secrets are given anew, and so are the
    targets that a token goes to: the folder may come from anybody."""
    manifest, _ = read_unfinished(folder)
    if manifest.kind != "compare":
        raise UserError(f"{folder} is no run of `crossover compare`, so it cannot be resumed: run it again.")
    if manifest.plan is None:
        raise UserError(f"{folder} was started by an earlier version, so it cannot be resumed: run it again.")
    try:
        plan = msgspec.convert(manifest.plan, Plan)
    except msgspec.ValidationError as error:
        raise UserError(f"{folder} is damaged: the plan in its manifest does not fit ({error}).") from None
    for rung in plan.rungs.values():
        known_rung(rung)
    again = addresses(targets)
    if other := [name for name, address in again.items() if plan.external.get(name) != address]:
        raise UserError(f"A resumed run keeps its own settings: leave out --target {other[0]}, or give it as it was.")
    if token and (unnamed := [name for name in plan.external if name not in again]):
        raise UserError(f"A token goes only to an address that you give: add --target {unnamed[0]}=URL, as it was.")
    trees = planning.process_trees(pids, plan.external)
    access = Access(folder.absolute(), given_urls(url), token, trees, resume=True)
    planning.require_external(plan, access)
    return Session(plan, access)


def costs_of(options: Options, rungs: str, operations: str = "", profile: str = "quick") -> Session:
    """A run whose cells are operations: those named, `all`, or by default those of the workload."""
    known, workload = (*READS, *WRITES), workloads.load(options.workload)
    asked = known if operations == "all" else tuple(listed(operations))
    if unknown := [name for name in asked if name not in known]:
        raise UserError(f"There is no operation '{unknown[0]}': choose from {', '.join(known)}, or all.")
    mixes = [*map(workloads.load, workloads.names()), workload]
    cells = cells_of(asked or workload.operations, mixes)
    ours = named_rungs(rungs, pair=known_profile(profile).pair)
    return session_of("costs", options, [cells], rungs=ours, profile=profile, probes=0)


def capacity_of(
    options: Options, rung: str, target: str | None, p95_ms: float, freshness_ms: float, read_share: float | None
) -> Session:
    """Trials of one target: the highest rate that meets a latency and a freshness target."""
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


class Sides(NamedTuple):
    """Of a gate, by target name, in the order base, head, base again: commits of this repository, or addresses."""

    revisions: dict[str, str]
    addresses: dict[str, str]


def sides(base: str, head: str, again: str | None, rung: str) -> Sides:
    if not rung_of(known_rung(rung)).servers:
        raise UserError(f"{rung} forgets everything when it is restarted, as a gate does: choose another rung.")
    words = [base, head, *([again] if again else [])]
    if all(URL_MARK in word for word in words):
        return Sides({}, addresses(words))
    if any(URL_MARK in word for word in words) or again:
        raise UserError("Give --base and --head two revisions, or two addresses NAME=URL, which alone take --again.")
    commits = [commit_of(word) for word in (base, head)]
    return Sides({"base": commits[0], "head": commits[1], "base-again": commits[0]}, {})


def gate_of(
    options: Options, compared: Sides, rung: str, read_shares: str, profile: str, pids: Sequence[str] = ()
) -> Session:
    """A change against what it changes: base and head in one interleaved run, and base twice, as its control.

    Rounds are cheap beside starts, and two revisions differ by less than two rungs: twice the profile's rounds.
    """
    return session_of(
        "gate",
        options,
        blocks_of(read_shares),
        rungs=dict.fromkeys(compared.revisions, rung),
        external=compared.addresses,
        revisions=compared.revisions,
        pids=pids,
        profile=profile,
        rounds=2 * known_profile(profile).rounds,
        warm_up_s=GATE_WARM_UP_S,
        probes=0,
    )


def blocks_of(read_shares: str) -> list[list[Cell]]:
    """Each read share is a block of its own: processes meet another mix, so they warm up to it."""
    return [[Cell(share)] for share in planning.shares_of(read_shares)]
