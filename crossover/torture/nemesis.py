"""The nemesis: applies a seeded schedule of faults, one after the other, while the load goes on.

Two times are measured from the moment that a fault's cause is gone: recovery, until a fresh write is acknowledged, and
convergence, until its writer sees it. For a killed process the moment is when it is started again, so its whole start
counts.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from msgspec import Struct

from crossover.torture.deployment import Deployment
from crossover.torture.faults import RECOVERY_S_MAX, Scheduled
from crossover.torture.load import Load
from loadtests.http import Unreachable

EVERY_S = 1.5
PROBE_S = 0.05
REASON_S_MAX = 1.0  # until /ready says that a server refuses


class Fault(Struct, frozen=True):
    """One fault, from its start until its cause was over, and when what came back; None where it never did.

    `reason` is what /ready said of a server that refused, "" if it was green or said nothing, None where no server
    refused. What was answered between the start and `restored_s` may be of the data before a restore.
    """

    kind: str
    where: str
    start_s: float
    end_s: float
    recovery_s: float | None
    convergence_s: float | None
    reason: str | None = None
    restored_s: float | None = None
    start_took_s: float = 0.0  # after `end_s`, until what was killed answered by itself


def schedule(faults: Sequence[Scheduled], rng: random.Random) -> Iterator[tuple[Scheduled, float, float]]:
    """All of them in a random order, then again in another: each with how long to hold it, and to the next one."""
    while faults:
        for fault in rng.sample(faults, len(faults)):
            yield fault, rng.uniform(*fault.hold_s), EVERY_S * rng.uniform(0.7, 1.1)


def torment(
    deployment: Deployment,
    load: Load,
    faults: Sequence[Scheduled],
    rng: random.Random,
    until_s: float,
    report: Callable[[Fault], None],
) -> None:
    """Apply faults until the time is over, each once the one before it has been recovered from."""
    for fault, hold_s, pause_s in schedule(faults, rng):
        start_s = load.now_s()
        if start_s + EVERY_S > until_s:
            break
        with fault.apply(deployment):
            reason = reason_in_ready(load) if fault.refuses else None
            time.sleep(hold_s)
            done, end_s = load.done(), load.now_s()
        took_s = load.now_s() - end_s
        if fault.restores:
            done = load.done()  # what was acknowledged before may be gone
        back = recovery(load, done, end_s, fault.within_s)  # with the views of the present history
        restored_s = load.now_s() if fault.restores else None
        report(Fault(fault.kind, fault.where, start_s, end_s, *back, reason, restored_s, took_s))
        if fault.restores:
            deployment.copy_again(fault.where)
        deployment.check()
        time.sleep(max(0.0, start_s + pause_s - load.now_s()))
    time.sleep(max(0.0, until_s - load.now_s()))


def reason_in_ready(load: Load) -> str:
    """What /ready says of a server that refuses right now."""
    deadline_s = load.now_s() + REASON_S_MAX
    while load.now_s() < deadline_s:
        with suppress(Unreachable):
            answer = load.client.get("/ready")
            if answer.status in (200, 503) and (reason := json.loads(answer.body).get("reason")):
                return str(reason)
        time.sleep(0.02)
    return ""


def recovery(
    load: Load, done: tuple[int, int], end_s: float, within_s: float = RECOVERY_S_MAX
) -> tuple[float | None, float | None]:
    """How long after `end_s` a write sent since was acknowledged, and one was seen by its writer; None for never.

    The load's own operations tell, those after `done`, and a probe every so often: one that hangs does not hide that
    others get through.
    """
    back: list[float | None] = [None, None]
    probe_s = end_s
    while None in back and load.now_s() - end_s < within_s:
        if load.now_s() >= probe_s:
            load.probe()
            probe_s = load.now_s() + PROBE_S
        for place, samples in enumerate((load.acknowledged, load.seen)):
            fresh = [done_s for sent_s, done_s in samples[done[place] :] if sent_s >= end_s]
            if back[place] is None and fresh:
                back[place] = min(fresh) - end_s
        time.sleep(0.005)
    return back[0], back[1]
