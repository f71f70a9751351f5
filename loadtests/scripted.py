"""A raw HTTP server with known latencies, against which the figures of a load generator can be checked.

`python -m loadtests.scripted FIXED_US SLOW_US EVERY STALL_AT STALL_S QUEUE` answers each request after FIXED_US, every
EVERY-th after SLOW_US, and at request number STALL_AT the whole process stands still for STALL_S. With QUEUE 1 one
request is served at a time, first come first served. It prints its port. Functions below compute the true latencies.
"""

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Sequence

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def due_times_us(rate_per_s: float, seconds: float, seed: int = 7) -> list[int]:
    """Arrivals of a Poisson process."""
    rng, due_s, times = random.Random(seed), 0.0, []
    while (due_s := due_s + rng.expovariate(rate_per_s)) < seconds:
        times.append(int(due_s * 1e6))
    return times


def scripted_us(
    due: Sequence[int], fixed_us: int, slow_us: int = 0, every: int = 0, stall_at: int = 0, stall_us: int = 0
) -> list[int]:
    """The true latency of each request that comes at its due time."""
    found, stands_from = [], due[stall_at - 1] if stall_at else 0
    for number, came in enumerate(due, 1):
        delay = slow_us if every and number % every == 0 else fixed_us
        if stall_at and number >= stall_at and came < stands_from + stall_us:
            # The one it stalls at is timed from before the stall; those behind it arrive when the stall is over.
            arrival = came if number == stall_at else stands_from + stall_us
            found.append(max(arrival + delay, stands_from + stall_us) - came)
        else:
            found.append(delay)
    return found


def waits_us(due: Sequence[int], service_us: int) -> list[int]:
    """How long each waits for those before it (Lindley 1952)."""
    found, free = [], 0
    for came in due:
        found.append(max(0, free - came))
        free = max(came, free) + service_us
    return found


class Script(asyncio.Protocol):
    seen = 0
    free_at = 0.0
    fixed_us = slow_us = every = stall_at = stall_s = queue = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.text = b""

    def data_received(self, data: bytes) -> None:
        came = time.monotonic()
        self.text += data
        if not self.text.endswith(b"\r\n\r\n"):  # requests here have no body and are never pipelined
            return
        self.text = b""
        Script.seen += 1
        if self.seen == self.stall_at:
            time.sleep(self.stall_s)
        delay_s = (self.slow_us if self.every and self.seen % self.every == 0 else self.fixed_us) / 1e6
        Script.free_at = max(came, Script.free_at if self.queue else 0.0) + delay_s
        asyncio.get_running_loop().call_at(Script.free_at, self.transport.write, ANSWER)


async def main(script: Sequence[str]) -> None:
    names = ("fixed_us", "slow_us", "every", "stall_at", "stall_s", "queue")
    for name, value in zip(names, script, strict=True):
        setattr(Script, name, float(value))
    server = await asyncio.get_running_loop().create_server(Script, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while True:  # it never sleeps: a loop that does wakes up to a millisecond late
        await asyncio.sleep(0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1:]))
