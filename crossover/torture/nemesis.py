"""The nemesis: applies a seeded schedule of faults, one after the other, while the load goes on.

A fault is a context manager: entering it causes the fault, leaving it removes the cause. Two times are measured from
that moment: recovery, until a fresh write is acknowledged, and convergence, until its writer sees it. For a killed
process the moment is when it is started again, so its whole start counts. Two faults overlap where a server is killed
while a process stands still.
"""

import json
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import NamedTuple

from msgspec import Struct

from crossover.errors import UserError
from crossover.torture.deployment import RESTART_S_MAX, Deployment
from crossover.torture.links import FAULTS as LINK_FAULTS
from crossover.torture.links import link_name
from crossover.torture.load import Load
from ladder.rung import Rung, has_views, rungs
from loadtests.http import Unreachable
from servers.server import (
    Copyable,
    DiskFillable,
    Evicting,
    FailingOver,
    Flushable,
    Forking,
    Killable,
    Pausable,
    Refusing,
    Replicating,
)

EVERY_S = 1.5
BEHIND_S = (0.9, 1.4)  # until a standby is too far behind, and then some
PROBE_S = 0.05
RECOVERY_S_MAX = 15.0
READY_S_MAX = 1.0  # until /ready says that a server refuses
FEED_FAULTS = ("duplicate", "reorder")
CLOCK_SHIFTS_S = (3600, -3600)
OVERLAPPING = "overlapping"


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


class Scheduled(NamedTuple):
    """A fault that can be applied; `rebuilds`: the views replay themselves after it, which would hide a loss;
    `refuses`: a server refuses while it lasts; `restores`: the data goes back to when it began."""

    kind: str
    where: str
    apply: Callable[[Deployment], AbstractContextManager[None]]
    hold_s: tuple[float, float] = (0.2, 0.7)
    rebuilds: bool = False
    refuses: bool = False
    restores: bool = False
    within_s: float = RECOVERY_S_MAX  # it is given up


def faults_of(one: Rung) -> list[Scheduled]:
    """What a rung can suffer, by the capabilities of its servers and by its workers: one for each place."""
    found = []
    processes = ("app", *one.worker_names)
    for process in processes:
        found.append(Scheduled(f"kill-{process}", process, partial(_killed, process)))
        found.append(Scheduled(f"pause-{process}", process, partial(_paused, process)))
    for server in one.servers:
        name, loses, needed = server.name, isinstance(server, Flushable), not isinstance(server, Evicting)
        if isinstance(server, Killable):
            found.append(Scheduled(f"kill-{name}", name, partial(_killed, name), rebuilds=loses, refuses=needed))
            for process in processes:
                both = partial(_overlapping, name, process)
                found.append(Scheduled(OVERLAPPING, f"{name} killed, {process} paused", both, rebuilds=loses))
        if isinstance(server, Pausable):
            found.append(Scheduled(f"pause-{name}", name, partial(_paused, name)))
        if isinstance(server, Forking):
            found.append(Scheduled("kill-backend", name, partial(_backend_killed, server, name), (0.0, 0.1)))
        if isinstance(server, Flushable):
            found.append(Scheduled("flush", name, partial(_flushed, server), (0.0, 0.1), rebuilds=True))
        if isinstance(server, Evicting):
            found.append(Scheduled("evict", name, partial(_evicted, server, name), (0.0, 0.1)))
        if isinstance(server, DiskFillable):
            within_s = RECOVERY_S_MAX + server.disk_check_s
            found.append(Scheduled("disk-full", name, partial(_disk_full, name), within_s=within_s))
        if isinstance(server, Refusing):
            refusals = ((how, partial(_refusing, server, how)) for how in server.refusals)
            found += [Scheduled(f"{how}-{name}", name, apply, refuses=needed) for how, apply in refusals]
        if isinstance(server, Copyable):
            back = Scheduled(f"restored-{name}", name, partial(_restored, server, name), (0.5, 1.0), restores=True)
            found.append(back._replace(rebuilds=has_views(one)))
            found.append(Scheduled(f"copied-{name}", name, partial(_copied, server, name), (0.0, 0.1)))
        if isinstance(server, FailingOver):
            found.append(Scheduled(f"failed-over-{name}", name, partial(_failed_over, server), rebuilds=True))
        if isinstance(server, Replicating):
            found.append(Scheduled(f"far-behind-{name}", name, partial(_behind, server), BEHIND_S))
            link = link_name(name, server.source)
            found += [Scheduled(fault, link, partial(_disturbed, link, fault), BEHIND_S) for fault in LINK_FAULTS]
    to_servers = (link_name(process, server.name) for process in processes for server in one.servers)
    for link in ("client-app", *to_servers):
        found += [Scheduled(fault, link, partial(_disturbed, link, fault)) for fault in LINK_FAULTS]
    found += [Scheduled("clock", f"app {shift_s:+d} s", partial(_clock_wrong, shift_s)) for shift_s in CLOCK_SHIFTS_S]
    for worker in one.worker_names:
        found.append(Scheduled(f"second-{worker}", worker, partial(_joined, worker, "second")))
        found += [Scheduled(fault, worker, partial(_joined, worker, fault)) for fault in FEED_FAULTS]
    return found


def kinds_of(one: Rung) -> list[str]:
    return list(dict.fromkeys([fault.kind for fault in faults_of(one)] + ["poison"] * bool(one.worker_names)))


def wanted_kinds(faults: str, one: Rung) -> list[str]:
    """`all`, `none`, or a comma-separated list of kinds; kinds that this rung cannot suffer are left out later."""
    if faults in ("all", "none"):
        return kinds_of(one) if faults == "all" else []
    kinds = list(dict.fromkeys(word.strip() for word in faults.split(",")))
    known = dict.fromkeys(kind for other in (*rungs().values(), one) for kind in kinds_of(other))
    if unknown := [kind for kind in kinds if kind not in known]:
        raise UserError(f"There is no fault '{unknown[0]}': choose from {', '.join(known)}, all or none.")
    return kinds


def is_possible(fault: Scheduled, deployment: Deployment) -> bool:
    """A disk is filled where one could be mounted, and a feed is faulty where there is one."""
    if fault.kind == "disk-full":
        return fault.where in deployment.disks
    return fault.kind not in (f"second-{fault.where}", *FEED_FAULTS) or fault.where in deployment.fed()


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
    deadline_s = load.now_s() + READY_S_MAX
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


@contextmanager
def _killed(part: str, deployment: Deployment) -> Iterator[None]:
    deployment.kill(part)
    yield
    deployment.start(part)


@contextmanager
def _paused(part: str, deployment: Deployment) -> Iterator[None]:
    deployment.signal_all(part, signal.SIGSTOP)
    try:
        yield
    finally:
        deployment.signal_all(part, signal.SIGCONT)


@contextmanager
def _overlapping(server: str, process: str, deployment: Deployment) -> Iterator[None]:
    """The process goes on once the server is back, and finds that its connection is not."""
    with _paused(process, deployment), _killed(server, deployment):
        yield


@contextmanager
def _backend_killed(server: Forking, name: str, deployment: Deployment) -> Iterator[None]:
    """The server may restart itself then: what its backend was writing in shared memory cannot be trusted."""
    if pid := server.a_backend(deployment.urls[name]):
        deployment.signal(pid, signal.SIGKILL)
    yield


@contextmanager
def _flushed(server: Flushable, deployment: Deployment) -> Iterator[None]:
    server.flush(deployment.supervisor)
    yield


@contextmanager
def _evicted(server: Evicting, name: str, deployment: Deployment) -> Iterator[None]:
    server.evict(deployment.urls[name])
    yield


@contextmanager
def _disk_full(name: str, deployment: Deployment) -> Iterator[None]:
    deployment.fill_disk(name)
    yield
    deployment.free_disk(name)


def _refusing(server: Refusing, how: str, deployment: Deployment) -> AbstractContextManager[None]:
    return server.refusing_writes(deployment.supervisor, how)


def _behind(server: Replicating, deployment: Deployment) -> AbstractContextManager[None]:
    return server.falling_behind(deployment.supervisor)


def _failed_over(server: FailingOver, deployment: Deployment) -> AbstractContextManager[None]:
    return server.failing_over(deployment.supervisor)


@contextmanager
def _copied(server: Copyable, name: str, deployment: Deployment) -> Iterator[None]:
    """A copy goes on in place of the original."""
    deployment.supervisor.stop(name)
    server.put_data(deployment.supervisor, server.copy_data(deployment.supervisor))
    yield
    deployment.start(name)


@contextmanager
def _restored(server: Copyable, name: str, deployment: Deployment) -> Iterator[None]:
    """By its owner, to a copy of its data: what was acknowledged since is lost."""
    deployment.supervisor.stop(name)
    copy = server.copy_data(deployment.supervisor)
    deployment.start(name)
    yield
    deployment.supervisor.stop(name)
    server.put_data(deployment.supervisor, copy)
    deployment.start(name)


@contextmanager
def _disturbed(link: str, fault: str, deployment: Deployment) -> Iterator[None]:
    deployment.links.disturb(link, fault)
    try:
        yield
    finally:
        deployment.links.restore(link)


@contextmanager
def _clock_wrong(shift_s: int, deployment: Deployment) -> Iterator[None]:
    """The app is started anew with a wrong clock, and again with a right one."""
    deployment.kill("app")
    deployment.start("app", clock=f"shift:{shift_s}")
    deployment.await_status("/health", RESTART_S_MAX)
    yield
    deployment.kill("app")
    deployment.start("app")


@contextmanager
def _joined(worker: str, fault: str, deployment: Deployment) -> Iterator[None]:
    """Another process does the worker's work beside it, and is killed in the middle of it."""
    deployment.start_faulty("extra", worker, fault)
    yield
    deployment.kill("extra")
