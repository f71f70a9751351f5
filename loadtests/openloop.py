"""The open-loop user: sends each operation at its due time, even if earlier ones have no response yet.

It is a Locust user that fires Locust's request events but has its own sockets: a FastHttpSession would use nearly as
much CPU as a small target. Importing this module imports Locust, which monkey-patches the process.
"""

import ctypes
import gc
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import locust
from gevent.event import Event
from gevent.hub import get_hub
from locust.env import Environment

from loadtests.operations import Operation, outcome_of
from loadtests.wire import TIMEOUT_S, ConnectionPool, PooledConnection

POOL_SIZE = 256  # far more than a target in health ever needs; a full pool is counted as dropped operations

WARM_CONNECTIONS = 16  # as many requests at once as a slice has in flight on a bad day

_CLOCK_MONOTONIC, _ABSOLUTE, _CLOEXEC, _NONBLOCK = 1, 1, 0o2000000, 0o4000


class Sample(NamedTuple):
    """The outcome of one operation; times in µs since the start of the slice, status 0 without a response."""

    operation: Operation
    sent_us: int
    done_us: int
    status: int
    outcome: str  # "ok", "refused", "error" or "dropped"
    size: int
    token: str = ""  # the consistency token of the response to a probe's command


class Played(NamedTuple):
    samples: list[Sample]
    started_at_us: int  # by the monotonic clock
    wall_us: int  # until the last response, at least the slice
    generator_cpu_us: int


def sample_of(operation: Operation, start_ns: int, sent_ns: int, status: int, body: bytes) -> Sample:
    sent_us, done_us = (sent_ns - start_ns) // 1_000, (time.monotonic_ns() - start_ns) // 1_000
    return Sample(operation, sent_us, done_us, status, outcome_of(status), len(body))


class Alarm:
    """Calls back at times of the monotonic clock, to within some tens of µs and without spinning.

    libev rounds its timeouts up to whole milliseconds; a timer of the kernel (timerfd) does not. Where there is none
    (outside Linux) it is libev's own timer, and the lag shows in the samples.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._ring, self._loop = ring, get_hub().loop
        self._settime = getattr(libc, "timerfd_settime", None)
        self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, _CLOEXEC | _NONBLOCK) if self._settime else -1
        self._spec = (ctypes.c_long * 4)()
        self._watcher = None
        if self._fd >= 0:  # watched all the time: to start and stop watching would cost more than the timer
            self._watcher = self._loop.io(self._fd, 1)
            self._watcher.start(self._rung)

    def set(self, due_ns: int) -> None:
        """The next call; at once when the time is over."""
        if self._fd >= 0 and self._settime is not None:
            self._spec[2], self._spec[3] = divmod(due_ns, 1_000_000_000)
            self._settime(self._fd, _ABSOLUTE, self._spec, None)
        else:
            self._watcher = self._loop.timer(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            self._watcher.start(self._ring)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
        if self._fd >= 0:
            os.close(self._fd)

    def _rung(self) -> None:
        os.read(self._fd, 8)
        self._ring()


def wait_until(due_ns: int) -> None:
    """Lets others run until then."""
    if due_ns <= time.monotonic_ns():
        return
    reached = Event()
    alarm = Alarm(reached.set)
    try:
        alarm.set(due_ns)
        reached.wait()
    finally:
        alarm.close()


class OpenLoopUser(locust.User):  # type: ignore[misc] # Locust comes without types that mypy would follow
    """One user of one target that keeps many requests in flight."""

    abstract = True

    def __init__(self, url: str, *, token: str | None = None, pool_size: int = POOL_SIZE) -> None:
        # An environment of its own without a runner: without listeners Locust keeps no statistics at our cost.
        super().__init__(Environment(host=url))
        self._pool, self._pool_size = ConnectionPool(url, token=token), pool_size

    def send(self, operation: Operation, start_ns: int, token: str = "") -> tuple[Sample, bytes]:
        """Send one request now and wait for its response; other greenlets run meanwhile."""
        found: list[tuple[Sample, bytes]] = []
        there = Event()

        def answered(status: int, body: bytes) -> None:
            sample = sample_of(operation, start_ns, sent_ns, status, body)
            found.append((sample._replace(token=connection.header("consistency-token")), body))
            there.set()

        request = self._pool.request(operation.method, operation.path, operation.body, token)
        sent_ns = time.monotonic_ns()
        connection = self._pool.acquire()
        connection.send(request, answered)
        if not there.wait(TIMEOUT_S):
            connection.abort()
        return found[0]

    def play(self, operations: Sequence[Operation], slice_s: float) -> Played:
        """Send every operation at its due time and wait for all responses; samples keep the operations’ order.

        An operation without a response ten seconds after the end of the slice is an error.
        """
        samples: list[Sample | None] = [None] * len(operations)
        requests = [self._request(operation) for operation in operations]
        in_flight: dict[int, PooledConnection] = {}
        over, idle = Event(), Event()
        upcoming, end_us = 0, int(slice_s * 1e6)

        def send_what_is_due() -> None:
            """Runs in the hub: late operations are sent at once, together with those now due."""
            nonlocal upcoming
            now_us = (time.monotonic_ns() - start_ns) // 1_000
            while upcoming < len(operations) and operations[upcoming].due_us <= now_us:
                if len(in_flight) < self._pool_size:
                    send(upcoming)
                else:
                    samples[upcoming] = Sample(operations[upcoming], now_us, now_us, 0, "dropped", 0)
                upcoming += 1
            if upcoming < len(operations):
                alarm.set(start_ns + operations[upcoming].due_us * 1_000)
            elif now_us < end_us:
                alarm.set(start_ns + end_us * 1_000)
            else:
                over.set()

        def send(index: int) -> None:
            def answered(status: int, body: bytes) -> None:
                samples[index] = sample_of(operations[index], start_ns, sent_ns, status, body)
                del in_flight[index]
                if not in_flight and over.is_set():
                    idle.set()

            sent_ns = time.monotonic_ns()
            connection = in_flight[index] = self._pool.acquire()
            connection.send(requests[index], answered)

        # A collection in the middle of a slice would delay the operations due just then.
        gc.collect()
        gc.disable()
        alarm = Alarm(send_what_is_due)
        cpu_ns = time.process_time_ns()
        start_ns = time.monotonic_ns()
        try:
            alarm.set(start_ns + (operations[0].due_us if operations else end_us) * 1_000)
            over.wait()
            if in_flight and not idle.wait(TIMEOUT_S):
                for connection in [*in_flight.values()]:
                    connection.abort()
        finally:
            alarm.close()
            gc.enable()
        wall_us = (time.monotonic_ns() - start_ns) // 1_000
        cpu_us = (time.process_time_ns() - cpu_ns) // 1_000
        played = [sample for sample in samples if sample is not None]
        assert len(played) == len(operations), "every operation has a sample"
        self._tell_locust(played)
        return Played(played, start_ns // 1_000, wall_us, cpu_us)

    def warm_up(self) -> None:
        """Open connections and run every path once, so that the first slice does not pay for them."""
        self.play([Operation(0, "ready", "read", "GET", "/ready")] * WARM_CONNECTIONS, 0)

    def close(self) -> None:
        self._pool.close()

    def _request(self, operation: Operation) -> bytes:
        return self._pool.request(operation.method, operation.path, operation.body)

    def _tell_locust(self, samples: Sequence[Sample]) -> None:
        """Its request events, after the slice: listeners cost the load nothing."""
        for sample in samples:
            self.environment.events.request.fire(
                request_type=sample.operation.method,
                name=sample.operation.name,
                response_time=(sample.done_us - sample.operation.due_us) / 1_000,
                response_length=sample.size,
                exception=None if sample.outcome in ("ok", "refused") else RuntimeError(sample.outcome),
                context={},
            )
