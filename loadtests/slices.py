"""One slice: load on one target, then the wait until its backlog is empty, all inside one window of CPU accounts."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from loadtests.cpu import Accounts, read_steal
from loadtests.history import Entry
from loadtests.http import HttpClient
from loadtests.openloop import OpenLoopUser, Played, Sample
from loadtests.operations import Operation, Round
from loadtests.oracle import Oracle
from loadtests.plan import PlannedTarget
from loadtests.probes import observe
from loadtests.staleness import DELAYS_US, StalenessRow, TokenRow, read_applied

DRAIN_S = 10.0
_READY = Operation(0, "ready", "read", "GET", "/ready")


class Figures(NamedTuple):
    """What one slice yields; the cost is empty when the target's pids are not known."""

    played: Played
    drain_us: int
    drained: bool
    lag_events_at_end: int
    cpu_us: dict[str, int]
    steal_share: float | None
    staleness: list[StalenessRow]
    tokens: list[TokenRow]
    applied: list[tuple[float, int]]  # seconds, events that took at most so long


class ComponentGone(Exception):
    """A process of a target has ended; the message is one sentence."""


class Bench:
    """One target under load: its user, its CPU accounts and its oracle."""

    def __init__(self, target: PlannedTarget) -> None:
        self.name = target.name
        self.client = HttpClient(target.url, token=target.token)
        self.oracle = Oracle(self.client)
        self.attach(target)

    def attach(self, target: PlannedTarget) -> None:
        """Turns to the target's processes; again after they were restarted. Its history goes on."""
        self.target = target
        self.client.move_to(target.url)
        self.user = OpenLoopUser(target.url, token=target.token)
        self.accounts = Accounts(target.processes)

    def run(self, work: Round, slice_s: float, delays_us: Sequence[int] = DELAYS_US) -> Figures:
        self._require_alive()
        for probe in work.probes:
            if probe.setup is not None:
                sample, _ = self.user.send(probe.setup, 0)
                self.oracle.record(_commands([sample], 0))
        if work.probes:
            self.drain()
        steal, before = read_steal(), self.accounts.read()
        told = read_applied(self.client) if work.probes else {}
        if work.probes:
            seen = observe(self.user, work.operations, work.probes, slice_s, delays_us)
            played, commands, rows, pairs = seen
        else:
            played, commands, rows, pairs = self.user.play(work.operations, slice_s), [], [], []
        drain_us, lag = self.drain()
        after, steal_after = self.accounts.read(), read_steal()
        self._require_alive()
        self.oracle.record([*_commands(played.samples, played.started_at_us), *_commands(commands, 0)])
        return Figures(
            played=played,
            drain_us=drain_us,
            drained=lag == 0,
            lag_events_at_end=lag,
            cpu_us=self.accounts.between(before, after),
            steal_share=steal_after.share_since(steal) if steal and steal_after else None,
            staleness=rows,
            tokens=pairs,
            applied=[(s, count - told.get(s, 0)) for s, count in read_applied(self.client).items()] if told else [],
        )

    def drain(self) -> tuple[int, int]:
        """Waits for an empty backlog: (how long it took in µs, what was left at the end)."""
        start_ns = time.monotonic_ns()
        pause_s, lag = 0.002, self._left()
        while lag and time.monotonic_ns() - start_ns < DRAIN_S * 1e9:
            time.sleep(pause_s)  # cooperative: Locust has patched it
            pause_s, lag = min(pause_s * 2, 0.05), self._left()
        return (time.monotonic_ns() - start_ns) // 1_000, lag

    def _left(self) -> int:
        """One that says nothing counts as behind."""
        lag = self.lag()
        return 1 if lag is None else lag

    def lag(self) -> int | None:
        """Events behind; over its limit a target answers 503 with the same body. None where it says nothing."""
        _, body = self.user.send(_READY, 0)
        try:
            return msgspec.json.decode(body, type=_Lag).lag_events
        except msgspec.DecodeError:
            return None

    def _require_alive(self) -> None:
        if gone := self.accounts.missing():
            raise ComponentGone(f"Target {self.name}: its {gone[0]} has ended during the run.")


class _Lag(msgspec.Struct):
    lag_events: int


def _commands(samples: Iterable[Sample], start_us: int) -> Iterator[Entry]:
    """What was sent of them; `start_us` is the slice's start by the monotonic clock."""
    for sample in samples:
        operation = sample.operation
        if operation.kind == "write" and sample.outcome != "dropped":
            times = ((start_us + sample.sent_us) / 1e6, (start_us + sample.done_us) / 1e6)
            body = msgspec.json.decode(operation.body) if operation.body else {}
            yield Entry(operation.name, operation.path, sample.status, *times, body)


def completed(played: Played) -> dict[str, int]:
    counts = {"ok": 0, "refused": 0, "error": 0, "dropped": 0}
    for sample in played.samples:
        counts[sample.outcome] += 1
    return counts
