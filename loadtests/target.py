"""One target under load: a slice is the load and then the drain of the backlog, and its CPU is counted over both."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from loadtests.cpu import Accounts, read_machine
from loadtests.history import Entry
from loadtests.http import HttpClient, drained, lag_in
from loadtests.openloop import OpenLoopUser, Played, Sample
from loadtests.operations import Operation, Round
from loadtests.oracle import Oracle
from loadtests.plan import Endpoint
from loadtests.probes import observe
from loadtests.staleness import DELAYS_US, StalenessRow, TokenRow, read_applied, read_counts

DRAIN_S = 10.0
WARM_WITHIN = 0.05
_READY = Operation(0, "ready", "read", "GET", "/ready")
Rows = dict[str, list[tuple[Any, ...]]]  # by table of `loadtests.format`, in the order of its columns


class Figures(NamedTuple):
    """What one slice yields; the cost is empty when the target's pids are not known."""

    work: Round
    played: Played
    drain_us: int
    drained: bool
    lag_events_at_end: int
    cpu_us: dict[str, int]
    steal_share: float | None
    throttled_share: float | None
    staleness: list[StalenessRow]
    tokens: list[TokenRow]
    applied: list[tuple[float, int]]  # seconds, events that took at most so long
    counts: dict[str, int]  # by the name of its counter

    def rows(self, number: int, *slice_columns: Any) -> Rows:
        """As slice `number`, whose row begins with these columns."""
        played, counts = self.played, Counter(sample.outcome for sample in self.played.samples)
        offered, reads = len(played.samples), sum(sample.operation.kind == "read" for sample in played.samples)
        return {
            "samples": [
                (number, o.name, o.kind, o.due_us, s.sent_us, s.done_us, s.status, s.outcome, s.size)
                for s in played.samples
                for o in (s.operation,)
            ],
            "slices": [
                (
                    *(number, *slice_columns, played.started_at_us, played.wall_us, self.drain_us),
                    *(offered, counts["ok"] + counts["refused"], counts["refused"], counts["dropped"]),
                    *(counts["error"], reads, offered - reads, played.generator_cpu_us, self.steal_share),
                    *(self.throttled_share, self.drained, self.lag_events_at_end),
                )
            ],
            "cpu": [(number, component, cpu_us) for component, cpu_us in self.cpu_us.items()],
            "staleness": [(number, *row) for row in self.staleness],
            "applied": [(number, *bucket) for bucket in self.applied],
            "counts": [(number, *counted) for counted in self.counts.items()],
            "tokens": [(number, *row) for row in self.tokens],
        }


class Warmth:
    """When targets are warm: their CPU an operation in the last three windows of a second agrees."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._windows: defaultdict[str, list[float]] = defaultdict(list)
        self._open: dict[str, tuple[float, int, int]] = {}  # seconds, µs, operations of the window under way

    def add(self, slice_s: float, found: Mapping[str, Figures]) -> None:
        self.seconds += slice_s
        for target, figures in found.items():
            seconds, cpu_us, operations = self._open.get(target, (0.0, 0, 0))
            seconds, cpu_us = seconds + slice_s, cpu_us + sum(figures.cpu_us.values())
            operations += len(figures.played.samples)
            if seconds >= 1.0:
                self._windows[target].append(cpu_us / max(1, operations))
                seconds, cpu_us, operations = 0.0, 0, 0
            self._open[target] = seconds, cpu_us, operations

    def enough(self, at_most_s: float) -> bool:
        if self.seconds >= at_most_s:
            return True
        lasts = [windows[-3:] for windows in self._windows.values()]
        return bool(lasts) and all(len(last) == 3 and 0 < max(last) <= min(last) * (1 + WARM_WITHIN) for last in lasts)


class ComponentGone(Exception):
    """A process of a target has ended; the message is one sentence."""


class TargetUnderTest:
    """Its load generator, its CPU accounts, and the oracle that records what it was sent."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.name = endpoint.name
        self.client = HttpClient(endpoint.url, token=endpoint.token)
        self.oracle = Oracle(self.client)
        self.attach(endpoint)

    def attach(self, endpoint: Endpoint) -> None:
        """Use these processes of the target; called again after a restart. The oracle's history continues."""
        self.client.move_to(endpoint.url)
        self.user = OpenLoopUser(endpoint.url, token=endpoint.token)
        self.accounts = Accounts(endpoint.processes)
        self._counts = True  # whether it reports counters: not known yet

    def warm_up(self) -> None:
        """Of the load generator; the target has its warm-up rounds."""
        self.user.warm_up()

    def run(self, work: Round, slice_s: float, delays_us: Sequence[int] = DELAYS_US) -> Figures:
        self._require_alive()
        self._set_up(work)
        counts = read_counts(self.client) if self._counts else {}
        self._counts = bool(counts)
        machine, before = read_machine(), self.accounts.read()
        applied = read_applied(self.client) if work.probes else {}
        played, probed = observe(self.user, work.operations, work.probes, slice_s, delays_us)
        drain_us, lag = self.drain()
        after, machine_after = self.accounts.read(), read_machine()
        self._require_alive()
        self.oracle.record([*_commands(played.samples, played.started_at_us), *_commands(probed.commands, 0)])
        return Figures(
            work=work,
            played=played,
            drain_us=drain_us,
            drained=lag == 0,
            lag_events_at_end=lag,
            cpu_us=self.accounts.between(before, after),
            steal_share=machine_after.stolen_since(machine) if machine and machine_after else None,
            throttled_share=machine_after.throttled_since(machine) if machine and machine_after else None,
            staleness=probed.rows,
            tokens=probed.tokens,
            applied=[(s, n - applied.get(s, 0)) for s, n in read_applied(self.client).items()] if applied else [],
            counts={name: max(0, n - counts[name]) for name, n in read_counts(self.client).items() if name in counts}
            if counts
            else {},
        )

    def _set_up(self, work: Round) -> None:
        """What the probes need is acknowledged and visible before the window opens."""
        for probe in work.probes:
            if probe.setup is not None:
                sample, _ = self.user.send(probe.setup, 0)
                self.oracle.record(_commands([sample], 0))
        if work.probes:
            self.drain()

    def drain(self) -> tuple[int, int]:
        """Wait for an empty backlog; returns how long that took, in µs, and what was left at the end."""
        start_ns, lag = time.monotonic_ns(), drained(self.lag, DRAIN_S)
        return (time.monotonic_ns() - start_ns) // 1_000, lag

    def lag(self) -> int | None:
        """Events behind, over the fast path; None when the target does not report it now."""
        sample, body = self.user.send(_READY, 0)
        return lag_in(sample.status, body)

    def _require_alive(self) -> None:
        if gone := self.accounts.missing():
            raise ComponentGone(f"Target {self.name}: its {gone[0]} has ended during the run.")


def _commands(samples: Iterable[Sample], start_us: int) -> Iterator[Entry]:
    """The commands that were sent; `start_us` is the slice's start by the monotonic clock."""
    for sample in samples:
        operation = sample.operation
        if operation.kind == "write" and sample.outcome != "dropped":
            times = ((start_us + sample.sent_us) / 1e6, (start_us + sample.done_us) / 1e6)
            body = msgspec.json.decode(operation.body) if operation.body else {}
            yield Entry(operation.name, operation.path, sample.status, *times, body)
