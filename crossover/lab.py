"""The lab of the notebooks: serves rungs, compares their answers, inspects and pauses them; a service that stalls."""

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from crossover.targets import Target, serving
from ladder.environment import NAMESPACE
from ladder.rung import rung
from loadtests import conformance
from loadtests.format import Conformance
from loadtests.http import HttpClient, HttpResponse
from servers.server import Inspectable

CLOCK = "step:2026-01-05T09:00:00+00:00"  # the same for all, so that recorded times are no difference
SETTLE_S = 10.0
WATCH_S_MAX = 5.0


class Service:
    """One rung, served. `names` are shown in place of the ids they stand for."""

    def __init__(self, target: Target, names: dict[str, str]) -> None:
        self.target, self.client, self.names = target, HttpClient(target.url), names
        self.token: str | None = None  # of the last command

    def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, wait_s: int = 0
    ) -> HttpResponse:
        """One request; with a token the answer must reflect at least its position, or is refused after `wait_s`."""
        headers = {} if token is None else {"Consistency-Token": token, "Prefer": f"wait={wait_s}"}
        content = None if body is None else msgspec.json.encode(body)
        answer = self.client.request(method, path, content, headers)
        if method != "GET":
            self.token = answer.headers.get("consistency-token")
        return answer

    def get(self, path: str) -> dict[str, Any]:
        """The answer's JSON."""
        found: dict[str, Any] = msgspec.json.decode(self.ask("GET", path).body)
        return found

    def settle(self) -> float:
        """Wait until nothing is left to project; returns how long that took, in seconds."""
        start = time.perf_counter()
        settled = self.client.settle(SETTLE_S)
        assert settled, "the projector catches up"
        return time.perf_counter() - start

    @contextlib.contextmanager
    def held(self, component: str) -> Iterator[None]:
        """A component stands still (SIGSTOP) inside the block."""
        pids = self.target.processes[component]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def holds(self, id: str) -> pl.DataFrame:
        """What each server holds about an id: every row and every key that mentions it."""
        rows = []
        for server in rung(self.target.rung).servers:
            if isinstance(server, Inspectable):
                url, namespace = self.target.env[server.variable], self.target.env[NAMESPACE]
                rows += [(server.title, place, content) for place, content in server.mentions(url, namespace, id)]
        named = [tuple(map(self.named, row)) for row in rows]
        return pl.DataFrame(named, schema=["store", "place", "content"], orient="row")

    def named(self, text: str) -> str:
        for id, name in self.names.items():
            text = text.replace(id, name)
        return text

    def watch(self, command: tuple[str, str, Any], read: str) -> pl.DataFrame:
        """Send a command, then read without pause until its version shows: what was seen how many ms after the
        acknowledgement."""
        answer = self.ask(*command)
        acknowledged, wanted = time.perf_counter(), msgspec.json.decode(answer.body)["version"]
        reads: list[tuple[float, int, str]] = []
        while (at := time.perf_counter() - acknowledged) < WATCH_S_MAX:
            seen = self.ask("GET", read)
            version = msgspec.json.decode(seen.body)["version"] if seen.status == 200 else 0
            reads.append((1e3 * at, version, "new" if version >= wanted else "old"))
            if version >= wanted:
                break
        return pl.DataFrame(reads, schema=["ms after the acknowledgement", "version seen", "state"], orient="row")

    def race(self, times: int, lines: list[dict[str, Any]], customer: str, *, token: bool = False) -> pl.DataFrame:
        """Place orders and read each at once, with the token of the command or without: `stale` (was the first
        answer too old), `read_ms` (how long it took), `visible_ms` (acknowledgement to the first answer with it)."""
        rows = []
        for _ in range(times):
            path = f"/orders/{uuid.uuid4()}"
            self.ask("PUT", path, {"customer_id": customer, "lines": lines})
            acknowledged = time.perf_counter()
            seen = self.ask("GET", path, token=self.token if token else None, wait_s=1)
            read, stale = time.perf_counter(), seen.status == 404
            while seen.status != 200 and time.perf_counter() < acknowledged + WATCH_S_MAX:
                seen = self.ask("GET", path)
            visible = time.perf_counter() if stale else read
            rows.append((stale, 1e3 * (read - acknowledged), 1e3 * (visible - acknowledged)))
        return pl.DataFrame(rows, schema=["stale", "read_ms", "visible_ms"], orient="row")


@dataclass
class Lab:
    """Several rungs side by side; `close()` ends their servers, and so does the end of the kernel."""

    services: dict[str, Service]
    names: dict[str, str]
    _stack: contextlib.ExitStack

    @classmethod
    def open(cls, *rungs: str, size: str = "empty", clock: str | None = CLOCK) -> "Lab":
        pl.Config(fmt_str_lengths=1000, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True, tbl_rows=60)
        names: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            targets = {rung: stack.enter_context(serving(rung, size=size, clock=clock)) for rung in rungs}
            services = {rung: Service(target, names) for rung, target in targets.items()}
            return cls(services, names, stack.pop_all())
        raise AssertionError("the block above returns or raises")

    def __getitem__(self, rung: str) -> Service:
        return self.services[rung]

    def ids(self, *names: str) -> list[str]:
        """A fresh id for each name; wherever something is shown, the name stands in its place."""
        made = [str(uuid.uuid4()) for _ in names]
        self.names.update(zip(made, names, strict=True))
        return made

    def ask(self, method: str, path: str, body: Any = None) -> pl.DataFrame:
        """The same request to every rung, settled afterwards: what each answered."""
        answers = {rung: service.ask(method, path, body) for rung, service in self.services.items()}
        for service in self.services.values():
            service.settle()
        rows = [(rung, answer.status, self[rung].named(answer.body.decode())) for rung, answer in answers.items()]
        return pl.DataFrame(rows, schema=["rung", "status", "answer"], orient="row")

    def conformance(self, seed: int = 1) -> Conformance:
        """Some hundred operations in two tempos, every answer compared byte for byte, times and cursors aside."""
        targets = [(rung, service.client) for rung, service in self.services.items()]
        return conformance.check(targets, seed=seed, nonce="lesson")

    def close(self) -> None:
        self._stack.close()


# A service that stalls for a second, two seconds in, asked by a client that waits and by one that keeps to its schedule

ANSWER, REQUEST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"GET / HTTP/1.1\r\nHost: lesson\r\n\r\n"
RATE_PER_S, SECONDS, STALL_S = 100, 6.0, (2.0, 3.0)


async def stalled() -> pl.DataFrame:
    """The same service asked both ways: `client` (waits | keeps to its schedule), `latency_ms` of each request."""
    rows = []
    for client, ask in (("waits for each answer", closed_loop), ("keeps to its schedule", open_loop)):
        start = time.perf_counter()
        begin, end = (start + at_s for at_s in STALL_S)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begin=begin, end=end) -> None:  # type: ignore[no-untyped-def]
            while await reader.read(len(REQUEST)):
                now = time.perf_counter()
                await asyncio.sleep(end - now if begin <= now < end else 0)
                writer.write(ANSWER)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            rows += [(client, 1e3 * s) for s in await ask(start, server.sockets[0].getsockname()[1])]
    return pl.DataFrame(rows, schema=["client", "latency_ms"], orient="row")


async def closed_loop(start: float, port: int) -> list[float]:
    """One request at a time, at the wanted pace as long as answers come."""
    found = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (sent := time.perf_counter()) < start + SECONDS:
        writer.write(REQUEST)
        await reader.readexactly(len(ANSWER))
        found.append(time.perf_counter() - sent)
        await asyncio.sleep(max(0.0, 1 / RATE_PER_S - found[-1]))
    writer.close()
    return found


async def open_loop(start: float, port: int) -> list[float]:
    """Each request at its due time, whatever became of those before; its latency counts from there."""

    async def one(due: float) -> float:
        await asyncio.sleep(due - time.perf_counter())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await reader.readexactly(len(ANSWER))
        writer.close()
        return time.perf_counter() - due

    return await asyncio.gather(*(one(start + place / RATE_PER_S) for place in range(int(RATE_PER_S * SECONDS))))
