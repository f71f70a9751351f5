"""The open-loop user: sends each operation at its due time, whatever became of those before.

Built on Locust's FastHttpSession. Importing this module imports Locust, which monkey-patches the process.
"""

import ctypes
import gc
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gevent
import locust
from gevent.event import Event
from gevent.hub import get_hub
from locust.contrib.fasthttp import FastHttpSession
from locust.env import Environment

from loadtests.operations import Operation, outcome_of

POOL_SIZE = 256  # far more than a target in health ever needs; a full pool is counted as dropped operations
TIMEOUT_S = 10.0

_CLOCK_MONOTONIC, _ABSOLUTE, _CLOEXEC, _NONBLOCK = 1, 1, 0o2000000, 0o4000


class Sample(NamedTuple):
    """What became of one operation; times in µs since the start of the slice, status 0 without an answer."""

    operation: Operation
    sent_us: int
    done_us: int
    status: int
    outcome: str  # "ok", "refused", "error" or "dropped"
    size: int
    version: int = 0


class Played(NamedTuple):
    samples: list[Sample]
    started_at_us: int  # by the monotonic clock
    wall_us: int  # until the last answer, at least the slice
    generator_cpu_us: int


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
        # An environment of its own without a runner: nobody listens, so Locust keeps no statistics at our cost.
        super().__init__(Environment(host=url))
        self._session = FastHttpSession(
            base_url=url.rstrip("/"),
            request_event=self.environment.events.request,
            user=None,
            concurrency=pool_size,
            max_retries=0,
            max_redirects=0,
            network_timeout=TIMEOUT_S,
            connection_timeout=TIMEOUT_S,
        )
        self._session.client.cookiejar = None  # nobody sets cookies here; looking for them costs time
        # A refusal is an answer: as an exception it would cost the generator more than the request did.
        self._session.client.valid_response_codes = frozenset(range(100, 600))
        self._headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._body_headers = self._headers | {"Content-Type": "application/json"}
        self._pool_size, self._in_flight = pool_size, 0
        self._idle = Event()

    def send(self, operation: Operation, start_ns: int) -> tuple[Sample, Any]:
        """One request, now; the answer is Locust's response object."""
        sent_ns = time.monotonic_ns()
        response = self._session.request(
            operation.method,
            operation.path,
            data=operation.body,
            headers=self._headers if operation.body is None else self._body_headers,
        )
        done_ns = time.monotonic_ns()
        status = response.status_code or 0
        sample = Sample(
            operation,
            (sent_ns - start_ns) // 1_000,
            (done_ns - start_ns) // 1_000,
            status,
            outcome_of(status),
            len(response.content or b"") if status else 0,
        )
        return sample, response

    def play(self, operations: Sequence[Operation], slice_s: float) -> Played:
        """Sends every operation at its due time and waits for all answers; samples keep the operations’ order."""
        samples: list[Sample | None] = [None] * len(operations)
        over = Event()
        waiting = iter(enumerate(operations))
        upcoming = next(waiting, None)

        def send_what_is_due() -> None:
            """Runs in the hub: what is late goes at once, together with what is due."""
            nonlocal upcoming
            now_us = (time.monotonic_ns() - start_ns) // 1_000
            while upcoming is not None and upcoming[1].due_us <= now_us:
                index, operation = upcoming
                if self._in_flight >= self._pool_size:
                    samples[index] = Sample(operation, now_us, now_us, 0, "dropped", 0)
                else:
                    self._in_flight += 1
                    gevent.spawn_raw(self._send_one, operation, index, start_ns, samples)
                upcoming = next(waiting, None)
            if upcoming is not None:
                alarm.set(start_ns + upcoming[1].due_us * 1_000)
            elif now_us < end_us:
                alarm.set(start_ns + end_us * 1_000)
            else:
                over.set()

        end_us = int(slice_s * 1e6)
        # A collection in the middle of a slice would delay what is due just then.
        gc.collect()
        gc.disable()
        alarm = Alarm(send_what_is_due)
        cpu_ns = time.process_time_ns()
        start_ns = time.monotonic_ns()
        try:
            alarm.set(start_ns + (upcoming[1].due_us if upcoming else end_us) * 1_000)
            over.wait()
            while self._in_flight:
                self._idle.clear()
                self._idle.wait()
        finally:
            alarm.close()
            gc.enable()
        wall_us = (time.monotonic_ns() - start_ns) // 1_000
        cpu_us = (time.process_time_ns() - cpu_ns) // 1_000
        assert None not in samples, "every operation has a sample"
        return Played([sample for sample in samples if sample is not None], start_ns // 1_000, wall_us, cpu_us)

    def close(self) -> None:
        self._session.client.close()

    def _send_one(self, operation: Operation, index: int, start_ns: int, samples: list[Sample | None]) -> None:
        try:
            samples[index] = self.send(operation, start_ns)[0]
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
