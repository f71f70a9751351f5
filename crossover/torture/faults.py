"""The faults that a rung can suffer, one for each place.

A fault is a context manager: entering it causes the fault, leaving it removes the cause. Two faults overlap where a
server is killed while a process stands still.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import NamedTuple

from crossover.errors import UserError
from crossover.torture.deployment import RESTART_S_MAX, Deployment
from crossover.torture.links import FAULTS as LINK_FAULTS
from crossover.torture.links import link_name
from ladder.rung import Rung, has_views, rungs
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
    Server,
)

HOLD_S, AT_ONCE_S = (0.2, 0.7), (0.0, 0.1)
BEHIND_S = (0.9, 1.4)  # until a standby is too far behind, and then some
RECOVERY_S_MAX = 15.0
FEED_FAULTS = ("duplicate", "reorder")
CLOCK_SHIFTS_S = (3600, -3600)
OVERLAPPING = "overlapping"


class Scheduled(NamedTuple):
    """A fault that can be applied; `rebuilds`: the views replay themselves after it, which would hide a loss;
    `refuses`: a server refuses while it lasts; `restores`: the data goes back to when it began."""

    kind: str
    where: str
    apply: Callable[[Deployment], AbstractContextManager[None]]
    hold_s: tuple[float, float] = HOLD_S
    rebuilds: bool = False
    refuses: bool = False
    restores: bool = False
    within_s: float = RECOVERY_S_MAX  # it is given up


def faults_of(one: Rung) -> Iterator[Scheduled]:
    """What a rung can suffer, by its processes and by the capabilities of its servers."""
    processes = ("app", *one.worker_names)
    for process in processes:
        yield Scheduled(f"kill-{process}", process, partial(_killed, process))
        yield Scheduled(f"pause-{process}", process, partial(_paused, process))
    for server in one.servers:
        yield from _faults_of_server(server, processes, has_views(one))
    to_servers = (link_name(process, server.name) for process in processes for server in one.servers)
    for link in ("client-app", *to_servers):
        yield from _faults_of_link(link)
    for shift_s in CLOCK_SHIFTS_S:
        yield Scheduled("clock", f"app {shift_s:+d} s", partial(_clock_wrong, shift_s))
    for worker in one.worker_names:
        yield Scheduled(f"second-{worker}", worker, partial(_joined, worker, "second"))
        for fault in FEED_FAULTS:
            yield Scheduled(fault, worker, partial(_joined, worker, fault))


def _faults_of_server(server: Server, processes: Sequence[str], views: bool) -> Iterator[Scheduled]:
    name, loses, needed = server.name, isinstance(server, Flushable), not isinstance(server, Evicting)
    if isinstance(server, Killable):
        yield Scheduled(f"kill-{name}", name, partial(_killed, name), rebuilds=loses, refuses=needed)
        for process in processes:
            both = partial(_overlapping, name, process)
            yield Scheduled(OVERLAPPING, f"{name} killed, {process} paused", both, rebuilds=loses)
    if isinstance(server, Pausable):
        yield Scheduled(f"pause-{name}", name, partial(_paused, name))
    if isinstance(server, Forking):
        yield Scheduled("kill-backend", name, partial(_backend_killed, server, name), AT_ONCE_S)
    if isinstance(server, Flushable):
        yield Scheduled("flush", name, partial(_flushed, server), AT_ONCE_S, rebuilds=True)
    if isinstance(server, Evicting):
        yield Scheduled("evict", name, partial(_evicted, server, name), AT_ONCE_S)
    if isinstance(server, DiskFillable):
        yield Scheduled("disk-full", name, partial(_disk_full, name), within_s=RECOVERY_S_MAX + server.disk_check_s)
    if isinstance(server, Refusing):
        for how in server.refusals:
            yield Scheduled(f"{how}-{name}", name, partial(_refusing, server, how), refuses=needed)
    if isinstance(server, Copyable):
        back = partial(_restored, server, name)
        yield Scheduled(f"restored-{name}", name, back, (0.5, 1.0), rebuilds=views, restores=True)
        yield Scheduled(f"copied-{name}", name, partial(_copied, server, name), AT_ONCE_S)
    if isinstance(server, FailingOver):
        yield Scheduled(f"failed-over-{name}", name, lambda on: server.failing_over(on.supervisor), rebuilds=True)
    if isinstance(server, Replicating):
        yield Scheduled(f"far-behind-{name}", name, lambda on: server.falling_behind(on.supervisor), BEHIND_S)
        yield from _faults_of_link(link_name(name, server.source), BEHIND_S)


def _faults_of_link(link: str, hold_s: tuple[float, float] = HOLD_S) -> Iterator[Scheduled]:
    return (Scheduled(fault, link, partial(_disturbed, link, fault), hold_s) for fault in LINK_FAULTS)


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
