"""What `compare` was asked for, checked in full before anything starts: each wrong word is one sentence."""

import http.client
import json
import math
import os
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.runs import UnusableRun, read_unfinished
from crossover.errors import UserError
from crossover.targets import authorization, known_durability, known_rung, known_size
from loadtests import workload as workloads
from loadtests.cpu import process_clock_ns


@dataclass(frozen=True)
class Profile:
    """How long a comparison takes, and what it may then say."""

    rounds: int  # of each start
    restarts: int  # starts, the first included
    pair: bool  # whether the first rung runs twice, as the control that must show no difference


# Many starts of few rounds: where starts differ as much as rounds do, more rounds of one start say little more
# (Kalibera & Jones 2013). One start is judged with the spread between starts that earlier runs showed.
PROFILES = {"quick": Profile(8, 1, False), "standard": Profile(5, 8, False), "thorough": Profile(12, 12, True)}
SLICE_S = 0.5
TRIAL_S = 4.0  # of a rate, in a run of capacity
ANSWER_S_MAX = 10.0


@dataclass(frozen=True)
class Wish:
    """A comparison that can be carried out."""

    run: str
    out: Path
    rungs: dict[str, str]  # name of the target → rung
    external: dict[str, str]  # name of the target → URL
    pids: dict[str, dict[str, list[int]]]  # name of an external target → component → root pids
    workload: str | dict[str, Any]  # a name, a path, or the workload itself
    read_shares: tuple[float, ...]
    rate_per_s: float | None
    size: str
    profile: str
    seed: int
    urls: dict[str, str]  # server name → URL, of the user's own
    token: str | None
    kind: str = "compare"
    operations: tuple[str, ...] = ()  # of a run of costs
    goal: dict[str, float] | None = None  # of a run of capacity
    resume: bool = False
    durability: str = "full"


def wanted(
    *,
    rungs: str,
    workload: str,
    read_shares: str,
    targets: Sequence[str] = (),
    pids: Sequence[str] = (),
    rate_per_s: float | None = None,
    size: str = "s",
    profile: str = "quick",
    seed: int = 1,
    out: Path | None = None,
    database_url: str | None = None,
    redis_url: str | None = None,
    token: str | None = None,
    durability: str = "full",
) -> Wish:
    ours = [known_rung(rung) for rung in words(rungs)]
    urls = {name: url for name, url in (("postgres", database_url), ("redis", redis_url)) if url}
    if profile not in PROFILES:
        raise UserError(f"There is no profile '{profile}': choose one of {', '.join(PROFILES)}.")
    named = name_each(ours, pair=PROFILES[profile].pair)
    external = addresses(targets, taken=set(named))
    processes = process_trees(pids, external)
    if not named and not external:
        raise UserError("There is nothing to compare: give --rungs, or --target NAME=URL.")
    try:
        loaded = workloads.load(workload)
        shares = tuple(workloads.check_read_share(share_of(word)) for word in words(read_shares))
    except workloads.WorkloadError as error:
        raise UserError(str(error)) from None
    if not shares or len(set(shares)) != len(shares):
        raise UserError("Give at least one read share, each once: for instance --read-shares 50,80,95.")
    rate = rate_per_s or loaded.rate_per_s
    if not (math.isfinite(rate) and 2 / SLICE_S <= rate <= 100_000) or rate_per_s == 0:
        raise UserError(f"--rate is {2 / SLICE_S:g} to 100,000 operations a second, not {rate_per_s:g}.")
    run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = (out or Path("results") / run).absolute()
    require_free(folder)
    for name, url in external.items():
        require_contract(name, url, token)
    return Wish(
        run,
        folder,
        named,
        external,
        processes,
        str(Path(workload).absolute()) if workload.endswith(".toml") else workload,
        shares,
        rate_per_s,
        known_size(size),
        profile,
        seed,
        urls,
        token,
        durability=known_durability(durability, urls, ours),
    )


def resumed(
    folder: Path, *, pids: list[str], database_url: str | None, redis_url: str | None, token: str | None
) -> Wish:
    """The wish of a run that was stopped, from its manifest; servers of the user's own and secrets are told again."""
    try:
        manifest, _ = read_unfinished(folder)
    except UnusableRun as error:
        raise UserError(str(error)) from None
    urls = {name: url for name, url in (("postgres", database_url), ("redis", redis_url)) if url}
    was, targets = manifest.fingerprint, manifest.fingerprint.targets
    if manifest.kind != "compare" or was.rate_per_s is None or was.size is None or was.seed is None:
        raise UserError(f"{folder} is no run of `crossover compare`, so it cannot be resumed: run it again.")
    external = {target.name: target.url for target in targets if target.rung == "external"}
    for name, url in external.items():
        require_contract(name, url, token)
    return Wish(
        manifest.run,
        folder.absolute(),
        {target.name: known_rung(target.rung) for target in targets if target.rung != "external"},
        external,
        process_trees(pids, external),
        was.workload,
        was.read_shares,
        was.rate_per_s,
        known_size(was.size),
        manifest.profile,
        was.seed,
        urls,
        token,
        resume=True,
        durability=durability_of(was.durability, urls),
    )


def durability_of(settings: Any, urls: dict[str, str]) -> str:
    """Of the private servers of a run, by what it recorded of them."""
    relaxed = not urls and isinstance(settings, dict) and settings.get("synchronous_commit") == "off"
    return "relaxed" if relaxed else "full"


def words(listed: str) -> list[str]:
    return [word.strip() for word in listed.split(",") if word.strip()]


def share_of(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise UserError(f"A read share is a number from 0 to 100 per cent, not '{word}'.") from None


def name_each(rungs: list[str], *, pair: bool) -> dict[str, str]:
    """A name for each target; a rung named twice, and the control pair's second, get a number."""
    named: dict[str, str] = {}
    for rung in rungs + (rungs[:1] if pair and len(rungs) == len(set(rungs)) else []):
        again = sum(other == rung for other in named.values())
        named[f"{rung}-{again + 1}" if again else rung] = rung
    return named


def addresses(targets: Sequence[str], *, taken: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for target in targets:
        name, _, url = target.partition("=")
        parts = urllib.parse.urlsplit(url)
        if not name or parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--target is NAME=URL, for instance mine=http://127.0.0.1:9000, not '{target}'.")
        if name in found or name in taken:
            raise UserError(f"Two targets are called '{name}': give each a name of its own.")
        found[name] = url.rstrip("/")
    return found


def process_trees(listed: Sequence[str], external: dict[str, str]) -> dict[str, dict[str, list[int]]]:
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


def require_free(folder: Path) -> None:
    """The run's folder can be made, and holds nothing yet."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} holds something already: give another --out, so that no run is overwritten.")
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{there} cannot be written to: give --out a folder that can.")


def require_contract(name: str, url: str, token: str | None) -> None:
    """The target answers, and as the contract says."""
    try:
        request = urllib.request.Request(f"{url}/ready", headers=authorization(token))
        with urllib.request.urlopen(request, timeout=ANSWER_S_MAX) as answer:
            ready = json.loads(answer.read(65536))
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise UserError(f"Target {name} at {url} wants a token: set CROSSOVER_TOKEN to it.") from None
        raise UserError(
            f"Target {name} at {url} does not speak the contract: GET /ready answers {error.code}."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"Target {name} at {url} does not speak the contract: GET /ready is not JSON.") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"Target {name} at {url} does not answer ({reason}): start it, or correct its URL.") from None
    if not isinstance(ready, dict) or "lag_events" not in ready:
        raise UserError(f"Target {name} at {url} does not speak the contract: GET /ready lacks lag_events.")
