"""The system under torture: its servers, processes and links, each of which can be stopped and started alone."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.rows import dict_row

from crossover.targets import LOOPBACK, Target, listen, process_env, start_servers, target_env
from crossover.torture.links import Link
from crossover.torture.wire import Wire
from ladder.rung import rung as rung_of
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import Failed, Linkable, namespace_of
from servers.supervisor import Processes

T = TypeVar("T")
DISK_MIB = 512
RESTART_S_MAX = 20.0
RUN_S_MAX = 120.0


class Stage:
    """`serving` is the module that runs the app and the workers: another one tries a mutant of theirs."""

    def __init__(self, supervisor: Processes, rung: str, serving: str) -> None:
        self.supervisor, self.rung, self.serving = supervisor, rung, serving
        self.namespace = namespace_of(rung)
        self.servers, self.workers = rung_of(rung).servers, rung_of(rung).worker_names
        self.links: dict[str, Link] = {}
        self.port = 0  # where the clients find the app
        self._app_port = 0
        self._urls: dict[str, str] = {}
        self._envs: dict[str, dict[str, str]] = {}
        self._turn = asyncio.Lock()  # one change of the processes at a time
        self.disk = self._mount_disk() if any(server is POSTGRES for server in self.servers) else None

    @property
    def parts(self) -> list[str]:
        """Everything that can be killed."""
        return ["app", *self.workers, *(server.name for server in self.servers)]

    @property
    def database_url(self) -> str:
        return self._urls[POSTGRES.name]

    @property
    def redis_url(self) -> str:
        return self._urls[REDIS.name]

    @property
    def env(self) -> dict[str, str]:
        """What leads to the stores directly, past the links."""
        return self._env(self._urls)

    def _env(self, urls: dict[str, str]) -> dict[str, str]:
        return process_env(target_env(self.rung, urls, namespace=self.namespace))

    # Setting up and taking down

    def start_stores(self) -> None:
        self._urls = start_servers(self.supervisor, [self.rung])
        Target(self.rung, self.rung, self.env, self.supervisor).prepare()

    async def open(self) -> None:
        for user in ("app", *self.workers):
            self._envs[user] = self._env(await self._lead(user))
        for part in ("app", *self.workers):
            await self.start(part)
        link = self.links["client-app"] = Link(lambda: asyncio.open_connection(LOOPBACK, self._app_port))
        self.port = await link.listen_tcp()

    async def _lead(self, user: str) -> dict[str, str]:
        """Links from one process to its servers, and the addresses that lead over them."""
        urls = {}
        for server in self.servers:
            assert isinstance(server, Linkable), "private servers listen on Unix sockets"
            here = self.supervisor.sockets / f"{user}-{server.name}"
            here.mkdir()
            beyond = server.socket(self.supervisor.sockets / server.name)
            link = Link(lambda beyond=beyond: asyncio.open_unix_connection(beyond))  # type: ignore[misc]
            self.links[f"{user}-{server.name}"] = link
            await link.listen_on(server.socket(here))
            urls[server.name] = server.url_in(here)
        return urls

    def close(self) -> None:
        for link in self.links.values():
            link.close()

    async def rebuild(self) -> None:
        """Have the read store cleared and built anew from the truth, past the links."""
        if await self.run("rebuild", "ladder.run") != 0:
            raise self.supervisor.died("rebuild", f"The rebuild of {self.rung}")

    async def run(self, word: str, module: str) -> int:
        """Run a command of a module for this rung, past the links, and return its exit status."""
        command = [sys.executable, "-m", module, word, self.rung]
        return await self._in_turn(lambda: self.supervisor.run(word, command, env=self.env, within_s=RUN_S_MAX))

    # Processes

    async def start(self, part: str, *, clock: str | None = None) -> None:
        """Start a part and, of a server, wait until it answers."""
        match part:
            case "postgres":
                await self._in_turn(self._run_postgres)
            case "redis":
                await self._in_turn(lambda: REDIS.restart(self.supervisor))
            case "app":
                await self._in_turn(lambda: self._start_app(clock))
            case _:
                await self.start_process(part, self.serving, "worker", self.rung, part, user=part)

    async def start_process(self, name: str, module: str, *words: str, user: str) -> None:
        """Start a process that reaches the stores over the links of `user`."""
        command = [sys.executable, "-m", module, *words]
        env = self._envs[user] | {"PGAPPNAME": name}
        await self._in_turn(lambda: self.supervisor.start(name, command, env=env))

    async def connected(self, name: str) -> None:
        """Wait until a process that was started has come as far as its database."""
        found = "SELECT 1 FROM pg_stat_activity WHERE application_name = %(name)s"
        async with asyncio.timeout(RESTART_S_MAX):
            while not await self.ask(found, {"name": name}):
                await asyncio.sleep(0.02)

    async def answering(self) -> None:
        """Wait until the app answers."""
        wire = Wire(self.port)
        async with asyncio.timeout(RESTART_S_MAX):
            while (await wire.ask("GET", "/health")).status != 200:
                await asyncio.sleep(0.02)
        wire.close()

    def _start_app(self, clock: str | None) -> None:
        env = self._envs["app"] | ({"CROSSOVER_CLOCK": clock} if clock else {})
        command = [sys.executable, "-m", self.serving, "app", self.rung, "--fd", "{fd}"]
        with listen(LOOPBACK, 0) as listening:  # another port each time: nobody else can have taken it
            self._app_port = listening.getsockname()[1]
            self.supervisor.start("app", command, env=env, listening=listening)

    def _run_postgres(self) -> None:
        """Backends that outlive their postmaster for a moment keep a new one from starting, so try again."""
        for left in reversed(range(50)):
            try:
                POSTGRES.restart(self.supervisor)
                return
            except Failed:
                if left == 0:
                    raise

    async def kill(self, part: str) -> None:
        """SIGKILL, and wait until it is gone; what has ended by itself already is gone too."""
        self.signal(self.supervisor.pids[part], signal.SIGKILL)
        await self._in_turn(
            lambda: self.supervisor.wait(lambda: part in self.supervisor.ended, f"the end of {part}", RESTART_S_MAX)
        )

    def signal_all(self, part: str, number: signal.Signals) -> None:
        """To a part and, of PostgreSQL, to its backends, which are groups of their own."""
        pids = POSTGRES.process_ids(self.supervisor) if part == POSTGRES.name else [self.supervisor.pids[part]]
        for pid in pids:
            self.signal(pid, number)

    @staticmethod
    def signal(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    async def check(self) -> None:
        """`Fallen`, with the end of its log, when a part ended that nobody killed."""
        await self._in_turn(lambda: self.supervisor.poll())
        for part in self.parts:
            if part in self.supervisor.ended:
                raise self.supervisor.died(part, f"The {part} of {self.rung}")

    async def _in_turn(self, call: Callable[[], T]) -> T:
        async with self._turn:
            return await asyncio.to_thread(call)

    # Stores

    def sql(self, statement: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run a statement directly, past the links, and return its rows."""
        with psycopg.connect(self.database_url, autocommit=True, row_factory=dict_row, connect_timeout=5) as connection:
            connection.execute(f"SET search_path = {self.namespace}")
            cursor = connection.execute(statement, params)
            return cursor.fetchall() if cursor.description else []

    async def ask(self, statement: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self.sql, statement, params)

    async def revive_postgres(self) -> None:
        """Wait until it answers again by itself, or start it if it gave up."""
        while True:
            await self._in_turn(lambda: self.supervisor.poll())
            if "postgres" in self.supervisor.ended:
                return await self.start("postgres")
            with contextlib.suppress(psycopg.OperationalError):
                await self.ask("SELECT 1")
                return None

    async def provoke(self, statement: str) -> None:
        """Run a statement that may well be the end of the server."""
        with contextlib.suppress(psycopg.OperationalError):
            await self.ask(statement)

    # The disk

    def _mount_disk(self) -> Path | None:
        """A small disk of its own for PostgreSQL, so that it can be filled; only root may, and not everywhere."""
        data = POSTGRES.data_folder(self.supervisor)
        umount = shutil.which("umount")
        if os.geteuid() != 0 or umount is None or not sys.platform.startswith("linux"):
            return None
        data.mkdir(mode=0o700)
        self.supervisor.at_end([umount, "-l", data], env={"PATH": "/usr/bin:/bin"})
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", data],
            capture_output=True,
            check=False,
        )
        return data if mounted.returncode == 0 else None

    def fill_disk(self) -> None:
        assert self.disk is not None, "only a disk of our own is filled"
        with (self.disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.disk).free - (1 << 20))
            file.seek(0, os.SEEK_END)
            while file.write(bytes(4096)):
                pass  # until there is no space left

    def free_disk(self) -> None:
        assert self.disk is not None, "only a disk of our own is filled"
        (self.disk / "filler").unlink()
