"""Rungs served live for a lesson: ask them all the same, look into their stores, hold their projector still."""

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
import psycopg
import redis

from crossover.targets import Target, serving
from loadtests import conformance
from loadtests.format import Conformance
from loadtests.http import HttpClient, HttpResponse

CLOCK = "step:2026-01-05T09:00:00+00:00"  # the same for all, so that recorded times are no difference
SETTLE_S = 10.0
WATCH_S_MAX = 5.0


class Service:
    """One rung, served. `names` are shown in place of the ids they stand for."""

    def __init__(self, target: Target, names: dict[str, str]) -> None:
        self.target, self.client, self.names = target, HttpClient(target.url), names
        self.token: str | None = None  # the one of the last command's answer

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
        """Waits until nothing is left to project; returns how long that took, s."""
        start = time.perf_counter()
        assert self.client.settle(SETTLE_S), "the projector catches up"
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
        """What each store says about an id: every row of PostgreSQL and every key of Redis that mentions it."""
        rows = [tuple(map(self.named, row)) for row in (*self._rows(id), *self._keys(id))]
        return pl.DataFrame(rows, schema=["store", "place", "content"], orient="row")

    def named(self, text: str) -> str:
        for id, name in self.names.items():
            text = text.replace(id, name)
        return text

    def watch(self, command: tuple[str, str, Any], read: str) -> pl.DataFrame:
        """Sends a command, then reads without pause until its version shows: when (ms since the acknowledgement) what
        was seen."""
        answer = self.ask(*command)
        acknowledged, wanted = time.perf_counter(), msgspec.json.decode(answer.body)["version"]
        looks: list[tuple[float, int, str]] = []
        while (at := time.perf_counter() - acknowledged) < WATCH_S_MAX:
            seen = self.ask("GET", read)
            version = msgspec.json.decode(seen.body)["version"] if seen.status == 200 else 0
            looks.append((1e3 * at, version, "new" if version >= wanted else "old"))
            if version >= wanted:
                break
        return pl.DataFrame(looks, schema=["ms after the acknowledgement", "version seen", "state"], orient="row")

    def race(self, times: int, lines: list[dict[str, Any]], customer: str, *, token: bool = False) -> pl.DataFrame:
        """Places orders and reads each at once, with the token of the command or without: `stale` (was the first
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

    def _rows(self, id: str) -> Iterator[tuple[str, str, str]]:
        with psycopg.connect(self.target.env["DATABASE_URL"]) as connection:
            connection.execute(f"SET search_path TO {self.target.env['CROSSOVER_NAMESPACE']}")
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"
            ).fetchall()
            for (table,) in tables:
                found = connection.execute(
                    f"SELECT row FROM (SELECT to_jsonb({table})::text AS row FROM {table}) AS t WHERE row LIKE %s",
                    (f"%{id}%",),
                )
                yield from (("PostgreSQL", table, row) for (row,) in found)

    def _keys(self, id: str) -> Iterator[tuple[str, str, str]]:
        prefix = self.target.env["CROSSOVER_NAMESPACE"] + ":"
        if "REDIS_URL" not in self.target.env:
            return
        with redis.Redis.from_url(self.target.env["REDIS_URL"], decode_responses=True) as client:
            for key in sorted(client.scan_iter(match=f"{prefix}*")):
                kind = client.type(key)
                content = str(client.get(key) if kind == "string" else client.zrange(key, 0, -1))
                if id in key or id in content:
                    yield "Redis", f"{key.removeprefix(prefix)} ({kind})", content


@dataclass
class Classroom:
    """Several rungs side by side; `close()` ends their servers, and so does the end of the kernel."""

    services: dict[str, Service]
    names: dict[str, str]
    _stack: contextlib.ExitStack

    @classmethod
    def open(cls, *rungs: str, size: str = "empty") -> "Classroom":
        pl.Config(fmt_str_lengths=1000, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True, tbl_rows=60)
        names: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            targets = {rung: stack.enter_context(serving(rung, size=size, clock=CLOCK)) for rung in rungs}
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
