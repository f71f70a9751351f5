"""A change against what it changes, for CI: base and head in one interleaved run, and base twice, as its control."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from crossover.compare import blocks_of
from crossover.errors import UserError
from crossover.options import Options
from crossover.planning import Session, addresses, known_profile, session_of
from crossover.revisions import commit_of
from crossover.show import wide_console
from crossover.targets import known_rung
from ladder.rung import rung as rung_of

EXIT_CODES = {"same or better": 0, "worse": 1, "inconclusive": 3}
WARM_UP_S = 3.0  # after each of the many starts
URL_MARK = "://"


class Sides(NamedTuple):
    """By target name, in the order base, head, base again: commits of this repository, or addresses."""

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
    options: Options, compared: Sides, *, rung: str, pids: Sequence[str] = (), read_shares: str, profile: str
) -> Session:
    """Rounds are cheap beside starts, and two revisions differ by less than two rungs: twice the profile's rounds."""
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
        warm_up_s=WARM_UP_S,
        probes=0,
    )


def verdict(folder: Path, history: Path | None) -> int:
    """Print the verdict of a gate, and return its exit code."""
    from analysis import gate as analysis

    wide_console().print(analysis.render(folder, history))
    print(f"Data:  {folder / 'manifest.json'}")
    return EXIT_CODES[analysis.judge(folder, history).answer]
