"""Makes a plan from options. Everything is checked before anything starts; each mistake is one sentence."""

import contextlib
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from crossover.errors import UserError
from crossover.options import Options
from crossover.targets import known_clients, known_durability, known_rung, known_size
from crossover.urls import given_urls
from ladder.rung import rung as rung_of
from loadtests import workload as workloads
from loadtests.address import address_of
from loadtests.cpu import process_clock_ns
from loadtests.dataset import SIZES
from loadtests.http import HttpClient, require_contract
from loadtests.plan import BadPlan, Cell, DataSize, Plan

NAME_CHARS_MAX = 100  # of a target
PROBE_BYTES = 1 << 20  # about what a short run writes


class Profile(NamedTuple):
    """How long a run takes, and what it may then say."""

    rounds: int  # of each start
    restarts: int  # starts, the first included
    pair: bool  # whether the first rung runs twice, as the A/A control that must show no difference
    probes: int  # of staleness, for each target and read share
    warm_up_s: float  # at most, for each target, after each start


# Many starts of few rounds: where starts differ as much as rounds do, more rounds of one start say little more
# (Kalibera & Jones 2013). One start is judged with the spread between starts that earlier runs showed. A thorough run
# of four rungs and five read shares fits in about half an hour on two cores.
PROFILES = {
    "quick": Profile(8, 1, False, probes=12, warm_up_s=3.0),
    "standard": Profile(5, 8, False, probes=30, warm_up_s=10.0),
    "thorough": Profile(8, 8, True, probes=60, warm_up_s=6.0),
}


@dataclass(frozen=True)
class Access:
    """What a session needs beside its plan, and no result ever holds."""

    out: Path
    urls: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the user's own servers, by name
    token: str | None = field(default=None, repr=False)
    pids: Mapping[str, dict[str, list[int]]] = field(default_factory=dict)  # of external targets: component → roots
    resume: bool = False


class Session(NamedTuple):
    """A plan, and what it takes to carry it out now."""

    plan: Plan
    access: Access


def session_of(
    kind: str,
    options: Options,
    blocks: Sequence[Sequence[Cell]],
    *,
    rungs: Mapping[str, str],
    external: Mapping[str, str] | None = None,
    pids: Sequence[str] = (),
    profile: str = "quick",
    durability: str = "full",
    **changes: Any,
) -> Session:
    """A new run of a kind; `changes` are fields of the plan that differ from the profile's."""
    external, length = external or {}, known_profile(profile)
    if not rungs and not external:
        raise UserError("There is nothing to compare: give --rungs, or --target NAME=URL.")
    workload, urls, size = workloads.load(options.workload), given_urls(options.url or ()), known_size(options.size)
    settings: dict[str, Any] = {
        "kind": kind,
        "run": f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        "rungs": dict(rungs),
        "external": dict(external),
        "workload": workload,
        "blocks": tuple(map(tuple, blocks)),
        "rate_per_s": workload.rate_per_s if options.rate is None else options.rate,
        "size": DataSize(size, *SIZES[size]),
        # Where one target can only be filled over HTTP, all are: their recorded times then have one cause.
        "fill_over_http": bool(external) or any(not rung_of(rung).servers for rung in rungs.values()),
        "seed": options.seed,
        "durability": known_durability(durability, urls, [*rungs.values()]),
        "clients": known_clients(options.clients),
        "profile": profile,
        "rounds": length.rounds,
        "restarts": 1 if external else length.restarts,
        "warm_up_s": length.warm_up_s,
        "probes": length.probes,
    }
    plan = Plan(**settings | changes)
    out = free_folder(options.out or Path("results") / plan.run)
    access = Access(out, urls, options.token, process_trees(pids, external))
    require_external(plan, access)
    return Session(plan, access)


def require_external(plan: Plan, access: Access) -> None:
    """Every external target answers and speaks the contract."""
    for name, url in plan.external.items():
        require_contract(name, HttpClient(url, token=access.token))


def known_profile(name: str) -> Profile:
    if name not in PROFILES:
        raise UserError(f"There is no profile '{name}': choose one of {', '.join(PROFILES)}.")
    return PROFILES[name]


def listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def shares_of(text: str) -> list[float]:
    """Read shares in percent."""
    try:
        return [workloads.check_read_share(float(word)) for word in listed(text)]
    except ValueError as error:
        if isinstance(error, workloads.WorkloadError):
            raise
        raise UserError(f"A read share is a number from 0 to 100 percent, not '{text}'.") from None


def named_rungs(text: str, *, pair: bool = False) -> dict[str, str]:
    """A name for each target; a rung named twice, and the control's second, get a number."""
    rungs, named = [known_rung(rung) for rung in listed(text)], dict[str, str]()
    for rung in rungs + (rungs[:1] if pair and len(rungs) == len(set(rungs)) else []):
        earlier = sum(other == rung for other in named.values())
        named[f"{rung}-{earlier + 1}" if earlier else rung] = rung
    return named


def addresses(targets: Sequence[str], *, taken: Mapping[str, str] | None = None) -> dict[str, str]:
    """External targets, by name."""
    found: dict[str, str] = {}
    for target in targets:
        name, _, url = target.partition("=")
        try:
            address = address_of(url or target)
        except BadPlan as error:
            raise UserError(f"--target is NAME=URL, for instance mine=http://127.0.0.1:9000. {error}") from None
        if not url or not name or not name.isprintable() or len(name) > NAME_CHARS_MAX:
            raise UserError(f"--target is NAME=URL, and NAME has 1 to {NAME_CHARS_MAX} printable characters.")
        if name in found or name in (taken or {}):
            raise UserError(f"Two targets are called '{name}': give each a name of its own.")
        found[name] = address.url
    return found


def process_trees(listed: Sequence[str], external: Mapping[str, str]) -> dict[str, dict[str, list[int]]]:
    """`NAME=PID[,PID]` is the component app, `NAME:COMPONENT=PID[,PID]` another; each pid stands for its whole tree."""
    found: dict[str, dict[str, list[int]]] = {}
    for word in listed:
        who, _, pids = word.partition("=")
        name, _, component = who.partition(":")
        if not pids or not all(pid.isascii() and pid.isdigit() for pid in pids.split(",")):
            raise UserError(f"--pids is NAME=PID[,PID], for instance mine=4711, or mine:postgres=4712, not '{word}'.")
        if name not in external:
            raise UserError(f"--pids names '{name}', which is no --target of this comparison.")
        for pid in map(int, pids.split(",")):
            try:
                process_clock_ns(pid)
            except (OSError, OverflowError):
                raise UserError(f"--pids {word}: no process {pid} runs here whose CPU time can be read.") from None
            found.setdefault(name, {}).setdefault(component or "app", []).append(pid)
    return found


def free_folder(folder: Path) -> Path:
    """The absolute path of a run's folder, which holds nothing yet.

    It is made, written to and removed again, so that what forbids that is told before anything is measured.
    """
    folder, made = folder.absolute(), list[Path]()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} holds something already: give another --out, so that no run is overwritten.")
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}): give --out a folder that can.") from None
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
    return folder
