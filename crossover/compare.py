"""A mixed run: every target under the same load, at several read shares."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from analysis.runs import read_unfinished
from crossover.errors import UserError
from crossover.options import Options
from crossover.planning import (
    Access,
    Session,
    addresses,
    known_profile,
    named_rungs,
    process_trees,
    require_external,
    session_of,
    shares_of,
)
from crossover.targets import known_rung
from crossover.urls import given_urls
from loadtests.plan import Cell, Plan


def blocks_of(read_shares: str) -> list[list[Cell]]:
    """Each read share is a block of its own: processes meet another mix, so they warm up to it."""
    return [[Cell(share)] for share in shares_of(read_shares)]


def comparison(
    options: Options,
    *,
    rungs: str,
    targets: Sequence[str] = (),
    pids: Sequence[str] = (),
    read_shares: str,
    profile: str = "quick",
    durability: str = "full",
) -> Session:
    ours = named_rungs(rungs, pair=known_profile(profile).pair)
    return session_of(
        "compare",
        options,
        blocks_of(read_shares),
        rungs=ours,
        external=addresses(targets, taken=ours),
        pids=pids,
        profile=profile,
        durability=durability,
    )


def resumed(folder: Path, *, pids: Sequence[str] = (), url: Sequence[str] = (), token: str | None = None) -> Session:
    """One more session of a run that was stopped; URLs of servers and secrets are given anew."""
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
    access = Access(folder.absolute(), given_urls(url), token, process_trees(pids, plan.external), resume=True)
    require_external(plan, access)
    return Session(plan, access)
