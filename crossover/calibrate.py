"""Measures what is known and prints truth beside measurement: whether this machine can be trusted, and for what."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from crossover.compare import drive, plan_of, started
from crossover.errors import Fallen
from crossover.preflight import Wish, require_free, wanted
from crossover.processes import household
from crossover.progress import Steps
from loadtests.scripted import due_times_us, scripted_us, waits_us

FIXED_US, SLOW_US, EVERY = 3_000, 30_000, 20
STALL_AT, STALL_US = 150, 1_000_000
SERVICE_US, UTILISATIONS = 40_000, (0.3, 0.5, 0.7)
LATENCY_SLACK_MS, LATENCY_SLACK, QUEUE_SLACK = 0.5, 0.02, 0.10
READ_SHARE, PLANTED_PCT = "80", (10, 5)
MISSES_MAX = 0.15  # of intervals at 95 % that do not hold the truth: 3 of 20
WRONG_MAX = 0.05  # of A/A verdicts: 1 of 20
FOUND_MIN = {10: 0.95, 5: 0.0}  # of planted differences by eight starts; +5 % is promised by the thorough profile alone


class Check(NamedTuple):
    """One truth and what was measured of it."""

    what: str
    truth: str
    measured: str
    ok: bool


class Repeat(NamedTuple):
    """What one run said of a target against the first: ratio with interval, verdict, difference it could have seen."""

    planted_pct: int
    ratio: float
    low: float
    high: float
    verdict: str
    detectable_pct: float


def calibrate(out: Path | None, *, quick: bool, repeats: int) -> None:
    """Raises Fallen when this machine cannot be trusted; each run of pairs is a folder of its own in `out`."""
    out = (out or Path("results") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-calibrate").absolute()
    require_free(out)
    with Steps("calibrate") as steps:
        alone = known(5 if quick else 20, steps)
        said: list[Repeat] = []
        for number in range(1, repeats + 1):
            said += pairs(out / f"pairs-{number:02}", quick, steps)
            checks = [*alone, *of_pairs(said, quick)]
            write(out / "calibration.json", {"quick": quick, "checks": checks, "repeats": said})
    tell(checks, said)


def known(seconds: float, steps: Steps) -> list[Check]:
    """What needs no system: scripted targets."""
    steps("known latencies", 0, 1)
    checks = [*latencies(seconds)]
    for number, utilisation in enumerate(UTILISATIONS):
        steps("a queue", number, len(UTILISATIONS))
        checks.append(queue(utilisation, seconds))
    steps("a stall", 0, 1)
    return [*checks, stall()]


def of_pairs(said: list[Repeat], quick: bool) -> list[Check]:
    planted = sorted({repeat.planted_pct for repeat in said} - {0})
    return [identical(said), *(found(said, percent, 0 if quick else FOUND_MIN[percent]) for percent in planted)]


def tell(checks: list[Check], said: list[Repeat]) -> None:
    table = Table("what", "truth", "measured", "")
    for check in checks:
        table.add_row(check.what, check.truth, check.measured, "ok" if check.ok else "[red]no[/red]")
    Console(width=100).print(table)
    bad = [check.what for check in checks if not check.ok]
    if bad:
        raise Fallen(f"This machine cannot be trusted now: {'; '.join(bad)}. Let it rest, or use another.")
    seen = max(repeat.detectable_pct for repeat in said)
    print(f"This machine can be trusted, in a run like these, for differences of CPU from about {seen:.0f} % on.")


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
    the theory's mean within 1 %: what is left is the instrument's error.
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
        f"wait in a queue at {100 * utilisation:.0f} %", f"{theory / 1000:.1f} ms", f"{measured / 1000:.1f} ms", ok
    )


def played(rate_per_s: float, seconds: float, seed: int, *script: float) -> tuple[list[int], Any]:
    """Due times and measured latencies, µs, of a schedule on a scripted target."""
    words = [sys.executable, "-m", "loadtests.scripted", *map(str, script)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as target:
        try:
            assert target.stdout is not None
            url = f"http://127.0.0.1:{int(target.stdout.readline())}"
            words = [sys.executable, "-m", "loadtests.known", url, str(rate_per_s), str(seconds), str(seed)]
            told = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        finally:
            target.kill()
    return told["due"], np.array(told["done"]) - np.array(told["due"])


def pairs(out: Path, quick: bool, steps: Steps) -> list[Repeat]:
    """One run: crud, its twin, and twins that burn 10 % (and 5 %) more than they need."""
    planted = PLANTED_PCT[:1] if quick else PLANTED_PCT
    wish = wanted(
        rungs=",".join(["crud"] * (2 + len(planted))),
        targets=[],
        pids=[],
        workload="shop",
        read_shares=READ_SHARE,
        rate_per_s=None,
        size="s",
        profile="standard",
        seed=1,
        out=out,
        database_url=None,
        redis_url=None,
        token=None,
    )
    names = dict(zip([*wish.rungs][2:], planted, strict=True))
    run(wish, names, quick, steps)
    return list(judged(out, names))


def run(wish: Wish, planted: dict[str, int], quick: bool, steps: Steps) -> None:
    with contextlib.ExitStack() as stack:
        house = stack.enter_context(household())
        targets = [stack.enter_context(started(wish, name, rung, steps)) for name, rung in wish.rungs.items()]
        for target in targets:
            if target.name in planted:
                burn = [sys.executable, "-m", "crossover.planted", str(planted[target.name] / 100)]
                target.processes["planted"] = [target.house.start("planted", burn, env=dict(os.environ))]
        plan = plan_of(replace(wish, kind="compare"), targets)
        plan |= {"probes": 0, "warm_up_s": 2.0} | ({"restarts": 4} if quick else {})
        for described in plan["targets"]:
            if described["name"] in planted:
                described["rung"] = f"crud + {planted[described['name']]} %"
        path = house.place.folder / "PLAN.json"
        path.write_text(json.dumps(plan))
        drive(path, house.place, targets, steps)


def judged(folder: Path, planted: dict[str, int]) -> Iterator[Repeat]:
    from analysis.findings import find

    findings = find(folder)
    twins = [(0, findings.identical[0].comparison)]
    for percent, comparison in [
        *twins,
        *((planted[c.target], c.comparison) for c in findings.cells if c.target in planted),
    ]:
        if comparison is None or comparison.interval is None or comparison.ratio is None:
            raise Fallen(f"{folder} has too few valid rounds to calibrate by.")
        yield Repeat(
            percent,
            comparison.ratio,
            *comparison.interval,
            comparison.verdict,
            comparison.detectable_pct or 0.0,
        )


def identical(said: list[Repeat]) -> Check:
    twins = [repeat for repeat in said if repeat.planted_pct == 0]
    missed = sum(not repeat.low <= 1 <= repeat.high for repeat in twins)
    wrong = sum(repeat.verdict in ("better", "worse") for repeat in twins)
    ok = missed <= MISSES_MAX * len(twins) and wrong <= WRONG_MAX * len(twins)
    return Check("identical targets", "ratio 1", f"{ratios(twins)}; {missed} missed, {wrong} called different", ok)


def found(said: list[Repeat], percent: int, share_min: float) -> Check:
    """The interval holds what was planted, and leaves out 1 as often as the profile promises."""
    those = [repeat for repeat in said if repeat.planted_pct == percent]
    hits = sum(repeat.low > 1 for repeat in those)
    missed = sum(not repeat.low <= 1 + percent / 100 <= repeat.high for repeat in those)
    measured = f"{ratios(those)}; {missed} missed, found in {hits} of {len(those)}"
    ok = hits >= share_min * len(those) and missed <= MISSES_MAX * len(those)
    return Check(f"planted +{percent} %", f"ratio {1 + percent / 100:.2f}", measured, ok)


def ratios(those: list[Repeat]) -> str:
    found = [repeat.ratio for repeat in those]
    return f"{found[0]:.3f}" if len(found) == 1 else f"{min(found):.3f} to {max(found):.3f}"


def write(path: Path, said: dict[str, Any]) -> None:
    rows = {key: [row._asdict() for row in value] if isinstance(value, list) else value for key, value in said.items()}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(rows, indent=2) + "\n")
    temporary.rename(path)
