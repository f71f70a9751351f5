"""A service that stalls once, asked by a client that waits politely and by one that keeps to its schedule."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import polars as pl

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REQUEST = b"GET / HTTP/1.1\r\nHost: lesson\r\n\r\n"


class Stall(NamedTuple):
    """A second of standing still, two seconds in."""

    rate_per_s: float = 100.0
    seconds: float = 6.0
    at_s: float = 2.0
    length_s: float = 1.0


STALL = Stall()
Client = Callable[[Stall, float, int], Awaitable[list[float]]]


async def stalled(stall: Stall = STALL) -> pl.DataFrame:
    """The same service asked both ways: `client` (waits | keeps to its schedule), `latency_ms` of each request."""
    waiting = await _session(stall, _closed)
    scheduled = await _session(stall, _open)
    rows = [("waits for each answer", ms) for ms in waiting] + [("keeps to its schedule", ms) for ms in scheduled]
    return pl.DataFrame(rows, schema=["client", "latency_ms"], orient="row")


async def _session(stall: Stall, client: Client) -> list[float]:
    start = time.perf_counter()
    begin, end = start + stall.at_s, start + stall.at_s + stall.length_s

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(len(REQUEST)):
            now = time.perf_counter()
            await asyncio.sleep(end - now if begin <= now < end else 0)
            writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        return await client(stall, start, server.sockets[0].getsockname()[1])


async def _closed(stall: Stall, start: float, port: int) -> list[float]:
    """One request at a time, at the wanted pace as long as answers come."""
    found = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (sent := time.perf_counter()) < start + stall.seconds:
        writer.write(REQUEST)
        await reader.readexactly(len(ANSWER))
        done = time.perf_counter()
        found.append(1e3 * (done - sent))
        await asyncio.sleep(max(0.0, 1 / stall.rate_per_s - (done - sent)))
    writer.close()
    return found


async def _open(stall: Stall, start: float, port: int) -> list[float]:
    """Each request at its due time, whatever became of those before; its time counts from there."""

    async def one(due: float) -> float:
        await asyncio.sleep(due - time.perf_counter())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await reader.readexactly(len(ANSWER))
        writer.close()
        return 1e3 * (time.perf_counter() - due)

    dues = [start + place / stall.rate_per_s for place in range(int(stall.rate_per_s * stall.seconds))]
    return await asyncio.gather(*map(one, dues))
