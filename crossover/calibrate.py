"""Calibration: measures known values and prints them beside the truth: can measurements on this machine be trusted?"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from analysis.costs import family
from analysis.findings import find, judged
from analysis.runs import read_any_manifest
from crossover.errors import Fallen
from crossover.kinds import comparison
from crossover.options import Options
from crossover.planning import PROFILES, Profile, Session, free_folder
from crossover.progress import Steps
from crossover.session import drive, job_of, started
from crossover.start import inherited
from loadtests.scripted import due_times_us, scripted_us, waits_us
from servers.supervisor import Processes

FIXED_US, SLOW_US, EVERY = 3_000, 30_000, 20
STALL_AT, STALL_US = 150, 1_000_000
SERVICE_US, UTILISATIONS = 80_000, (0.3, 0.5, 0.7)
LATENCY_SLACK_MS, LATENCY_SLACK, QUEUE_SLACK = 0.5, 0.02, 0.10
READ_SHARE, PLANTED_PCT = "80", (10, 5)
RATE_PER_S, SLICE_S = 400.0, 0.25  # as many operations in a slice as runs have, in half the time
MISSES_MAX = 0.15  # of 95% intervals that do not hold the truth: 3 of 20
WRONG_MAX = 0.05  # of A/A verdicts: 1 of 20
FOUND_MIN = {("standard", 10): 0.95, ("thorough", 10): 0.95, ("thorough", 5): 0.80}  # of planted differences
LENGTHS = {name: PROFILES[name] for name in ("standard", "thorough")}
SHORT = {"short": PROFILES["thorough"]._replace(rounds=5, restarts=4)}


class Check(NamedTuple):
    """One truth and what was measured of it."""

    what: str
    truth: str
    measured: str
    ok: bool


class Repeat(NamedTuple):
    """What one run found of a target against the first; `detectable_pct` is its smallest detectable difference."""

    profile: str
    planted_pct: int
    ratio: float
    low: float
    high: float
    verdict: str
    detectable_pct: float


def calibrate(out: Path | None, *, quick: bool, repeats: int) -> None:
    """Each repeat is a run in `out`, where those of before count. `Fallen` when this machine cannot be trusted."""
    out = (out or Path("results") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-calibrate").absolute()
    if (out / "pairs-01").exists():
        read_any_manifest(out / "pairs-01")  # refuses what is no run
    else:
        free_folder(out)
    try:
        with Steps("calibrate") as steps:
            alone = known(5 if quick else 20, steps)
            measured: list[Repeat] = []
            for number in range(1, repeats + 1):
                steps(f"repeat {number} of {repeats}", 0, 1)
                measured += pairs(out / f"pairs-{number:02}", number, quick, steps)
                checks = [*alone, *of_pairs(measured)]
                write(out / "calibration.json", {"quick": quick, "checks": checks, "repeats": measured})
    except KeyboardInterrupt:
        if (out / "pairs-01").exists():
            print(f"Stopped. To go on, run the same command with --out {out}", file=sys.stderr)
        raise
    report(checks, measured)


def known(seconds: float, steps: Steps) -> list[Check]:
    """The checks that need no system, only scripted targets."""
    steps("known latencies", 0, 1)
    checks = [*latencies(seconds)]
    for number, utilisation in enumerate(UTILISATIONS):
        steps("a queue", number, len(UTILISATIONS))
        checks.append(queue(utilisation, seconds))
    steps("a stall", 0, 1)
    return [*checks, stall()]


def of_pairs(measured: list[Repeat]) -> Iterator[Check]:
    """One check for each length of run and each difference between its targets."""
    for profile, percent in dict.fromkeys((repeat.profile, repeat.planted_pct) for repeat in measured):
        those = [repeat for repeat in measured if (repeat.profile, repeat.planted_pct) == (profile, percent)]
        yield found(those, FOUND_MIN.get((profile, percent), 0)) if percent else identical(those)


def report(checks: list[Check], measured: list[Repeat]) -> None:
    table = Table("what", "truth", "measured", "")
    for check in checks:
        table.add_row(check.what, check.truth, check.measured, "ok" if check.ok else "[red]no[/red]")
    Console(width=100).print(table)
    bad = [check.what for check in checks if not check.ok]
    if bad:
        raise Fallen(f"This machine cannot be trusted now: {'; '.join(bad)}. Stop other work on it, or use another.")
    for profile in dict.fromkeys(repeat.profile for repeat in measured):
        least = max(repeat.detectable_pct for repeat in measured if repeat.profile == profile)
        print(f"Smallest detectable difference of CPU in a {profile} run on this machine: about {least:.0f}%")


def latencies(seconds: float) -> Iterator[Check]:
    """Percentiles of a script that answers after 3 ms, and each twentieth time after 30 ms."""
    due, seen = played(100, seconds, 7, FIXED_US, SLOW_US, EVERY, 0, 0, 0)
    truth = np.array(scripted_us(due, FIXED_US, SLOW_US, EVERY))
    for percentile in (50, 90, 99):
        yield latency_check(f"latency p{percentile}", truth, seen, percentile)


def stall() -> Check:
    """A second in which nothing is answered counts for everything that was due in it: no coordinated omission."""
    due, seen = played(100, 5, 7, FIXED_US, SLOW_US, EVERY, STALL_AT, STALL_US / 1e6, 0)
    truth = np.array(scripted_us(due, FIXED_US, SLOW_US, EVERY, STALL_AT, STALL_US))
    return latency_check("p99 with a stall of 1 s", truth, seen, 99)


def latency_check(what: str, truth_us: Any, seen_us: Any, percentile: float) -> Check:
    truth, measured = (float(np.percentile(times, percentile)) / 1000 for times in (truth_us, seen_us))
    ok = abs(measured - truth) <= LATENCY_SLACK_MS + LATENCY_SLACK * truth
    return Check(what, f"{truth:.2f} ms", f"{measured:.2f} ms", ok)


def queue(utilisation: float, seconds: float) -> Check:
    """Mean wait in an M/D/1 queue: ρ·D / (2·(1−ρ)) (Pollaczek 1930, Khinchine 1932).

    A short run of a queue strays far from its mean, so the schedule is the first whose own path (Lindley 1952) has
    the theory's mean within 1%: what is left is the instrument's error.
    """
    rate = utilisation / (SERVICE_US / 1e6)
    theory = utilisation * SERVICE_US / (2 * (1 - utilisation))
    seed = next(
        seed
        for seed in range(10_000)
        if abs(np.mean(waits_us(due_times_us(rate, seconds, seed), SERVICE_US)) / theory - 1) < 0.01
    )
    _, seen = played(rate, seconds, seed, SERVICE_US, 0, 0, 0, 0, 1)
    measured = float(np.mean(seen)) - SERVICE_US
    ok = abs(measured / theory - 1) <= QUEUE_SLACK
    return Check(
        f"wait in a queue at {100 * utilisation:.0f}%", f"{theory / 1000:.1f} ms", f"{measured / 1000:.1f} ms", ok
    )


def played(rate_per_s: float, seconds: float, seed: int, *script: float) -> tuple[list[int], Any]:
    """Due times and measured latencies, µs, of a schedule on a scripted target."""
    words = [sys.executable, "-m", "loadtests.scripted", *map(str, script)]
    with subprocess.Popen(words, env=inherited(), stdout=subprocess.PIPE, text=True) as target:
        try:
            assert target.stdout is not None
            url = f"http://127.0.0.1:{int(target.stdout.readline())}"
            words = [sys.executable, "-m", "loadtests.known", url, str(rate_per_s), str(seconds), str(seed)]
            played = json.loads(
                subprocess.run(words, env=inherited(), capture_output=True, text=True, check=True).stdout
            )
        finally:
            target.kill()
    return played["due"], np.array(played["done"]) - np.array(played["due"])


def pairs(out: Path, number: int, quick: bool, steps: Steps) -> Iterator[Repeat]:
    """One run, judged as runs of each length: crud, its A/A control, and copies that burn 10% (and 5%) more."""
    planted, lengths = (PLANTED_PCT[:1], SHORT) if quick else (PLANTED_PCT, LENGTHS)
    length = [*lengths.values()][-1]
    session = comparison(
        Options(rate=RATE_PER_S, seed=number, out=out if not out.exists() else None),
        rungs=",".join(["crud"] * (2 + len(planted))),
        read_shares=READ_SHARE,
        profile="thorough",
    )
    plan = msgspec.structs.replace(
        session.plan, slice_s=SLICE_S, probes=0, warm_up_s=1.0, rounds=length.rounds, restarts=length.restarts
    )
    names = dict(zip([*plan.rungs][2:], planted, strict=True))
    begun = (out / "manifest.json").exists()
    if not begun or not read_any_manifest(out).complete:
        run(Session(plan, replace(session.access, out=out, resume=begun)), names, steps)
    for profile, length in lengths.items():
        yield from repeats_of(out, names, profile, length)


def run(session: Session, planted: dict[str, int], steps: Steps) -> None:
    with contextlib.ExitStack() as stack:
        supervisor = stack.enter_context(Processes())
        targets = [stack.enter_context(started(session, name, steps)) for name in session.plan.rungs]
        for target in targets:
            if target.name in planted:
                burn = [sys.executable, "-m", "crossover.planted", str(planted[target.name] / 100)]
                target.processes["planted"] = [target.supervisor.start("planted", burn, env=inherited())]
        job = job_of(session, targets)
        endpoints = tuple(
            msgspec.structs.replace(endpoint, rung=f"crud + {planted[endpoint.name]}%")
            if endpoint.name in planted
            else endpoint
            for endpoint in job.endpoints
        )
        drive(msgspec.structs.replace(job, endpoints=endpoints), supervisor, targets, steps)


def repeats_of(folder: Path, planted: dict[str, int], profile: str, length: Profile) -> Iterator[Repeat]:
    """A run of this length: its first starts, and of each the first rounds."""
    findings = find(folder)
    baseline, control, *_ = findings.run.targets
    start, place = pl.col("restart").rank("dense"), pl.col("round").rank("dense").over("restart")
    costs = findings.costs.filter((start <= length.restarts) & (place <= length.rounds))
    for name, percent in ({control: 0} | planted).items():
        (found,) = judged(findings.run, [family(costs, baseline, name, None)])
        if found.ratio is None or found.interval is None or found.detectable_pct is None:
            raise Fallen(f"{folder} has too few valid rounds to calibrate by.")
        yield Repeat(profile, percent, found.ratio, *found.interval, found.verdict, found.detectable_pct)


def identical(those: list[Repeat]) -> Check:
    missed = sum(not repeat.low <= 1 <= repeat.high for repeat in those)
    wrong = sum(repeat.verdict in ("better", "worse") for repeat in those)
    ok = missed <= MISSES_MAX * len(those) and wrong <= WRONG_MAX * len(those)
    measured = f"{ratios(those)}; {missed} of {len(those)} missed, {wrong} called different"
    return Check(f"identical, {those[0].profile} run", "ratio 1", measured, ok)


def found(those: list[Repeat], share_min: float) -> Check:
    """The interval holds what was planted, and leaves out 1 as often as the profile promises."""
    percent, profile = those[0].planted_pct, those[0].profile
    hits = sum(repeat.low > 1 for repeat in those)
    missed = sum(not repeat.low <= 1 + percent / 100 <= repeat.high for repeat in those)
    measured = f"{ratios(those)}; {missed} of {len(those)} missed, found in {hits}"
    ok = hits >= share_min * len(those) and missed <= MISSES_MAX * len(those)
    return Check(f"planted +{percent}%, {profile} run", f"ratio {1 + percent / 100:.2f}", measured, ok)


def ratios(those: list[Repeat]) -> str:
    found = [repeat.ratio for repeat in those]
    return f"{found[0]:.3f}" if len(found) == 1 else f"{min(found):.3f} to {max(found):.3f}"


def write(path: Path, found: dict[str, Any]) -> None:
    rows = {key: [row._asdict() for row in value] if isinstance(value, list) else value for key, value in found.items()}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(rows, indent=2) + "\n")
    temporary.rename(path)
