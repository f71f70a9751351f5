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

from crossover.errors import Fallen
from crossover.namespaces import namespace_of
from crossover.processes import Household
from crossover.servers import postgres_folders, run_postgres, start_postgres, start_valkey
from crossover.targets import LOOPBACK, Stores, fallen, listen, needs_of, prepare, process_env, target_env, workers_of
from crossover.torture.links import Link
from crossover.torture.wire import Wire

T = TypeVar("T")
DISK_MIB = 512
RESTART_S_MAX = 20.0
RUN_S_MAX = 120.0


class Stage:
    """`serving` is the module that runs the app and the workers: another one tries a mutant of theirs."""

    def __init__(self, house: Household, rung: str, serving: str) -> None:
        self.house, self.rung, self.serving = house, rung, serving
        self.namespace = namespace_of(rung)
        self.needs, self.workers = needs_of(rung), workers_of(rung)
        self.links: dict[str, Link] = {}
        self.port = 0  # where the clients find the app
        self._app_port = 0
        self._stores = Stores()
        self._envs: dict[str, dict[str, str]] = {}
        self._turn = asyncio.Lock()  # the household is not for several threads at once
        self.disk = self._mount_disk() if "postgres" in self.needs else None

    @property
    def parts(self) -> list[str]:
        """Everything that can be killed."""
        return ["app", *self.workers, *sorted(self.needs)]

    @property
    def database_url(self) -> str:
        assert self._stores.database_url is not None, "the rungs that can be tortured keep their truth in PostgreSQL"
        return self._stores.database_url

    @property
    def redis_url(self) -> str:
        assert self._stores.redis_url is not None, "asked only where there is a Redis"
        return self._stores.redis_url

    @property
    def env(self) -> dict[str, str]:
        """What leads to the stores directly, past the links."""
        return self._env(self._stores)

    def _env(self, stores: Stores) -> dict[str, str]:
        return process_env(target_env(stores, namespace=self.namespace, clock=None, token=None))

    # Setting up and taking down

    def start_stores(self) -> None:
        redis = start_valkey(self.house) if "redis" in self.needs else None
        self._stores = Stores(start_postgres(self.house), redis)
        prepare(self.house, self.rung, self.rung, self.env)

    async def open(self) -> None:
        for user in ("app", *self.workers):
            self._envs[user] = self._env(await self._lead(user))
        for part in ("app", *self.workers):
            await self.start(part)
        link = self.links["client-app"] = Link(lambda: asyncio.open_connection(LOOPBACK, self._app_port))
        self.port = await link.listen_tcp()

    async def _lead(self, user: str) -> Stores:
        """Links from one process to its stores, and the addresses that lead over them."""
        sockets = self.house.place.sockets
        postgres, redis = sockets / f"{user}-pg", sockets / f"{user}-redis.sock"
        postgres.mkdir()
        await self._link(f"{user}-postgres", postgres / ".s.PGSQL.5432", sockets / "postgres" / ".s.PGSQL.5432")
        if "redis" not in self.needs:
            return Stores(f"postgresql://crossover@/postgres?host={postgres}")
        await self._link(f"{user}-redis", redis, sockets / "redis.sock")
        return Stores(f"postgresql://crossover@/postgres?host={postgres}", f"unix://{redis}")

    async def _link(self, name: str, here: Path, beyond: Path) -> None:
        link = self.links[name] = Link(lambda: asyncio.open_unix_connection(beyond))
        await link.listen_on(here)

    def close(self) -> None:
        for link in self.links.values():
            link.close()

    async def rebuild(self) -> None:
        """Have the read store cleared and built anew from the truth, past the links."""
        if await self.run("rebuild", "ladder.serving") != 0:
            raise fallen(self.house, "rebuild", f"The rebuild of {self.rung}")

    async def run(self, word: str, module: str) -> int:
        """Run a command of a module for this rung, past the links, and return its exit status."""
        command = [sys.executable, "-m", module, word, self.rung]
        return await self._in_turn(lambda: self.house.run(word, command, env=self.env, within_s=RUN_S_MAX))

    # Processes

    async def start(self, part: str, *, clock: str | None = None) -> None:
        """Start a part and, of a server, wait until it answers."""
        match part:
            case "postgres":
                await self._in_turn(self._run_postgres)
            case "redis":
                await self._in_turn(lambda: start_valkey(self.house))
            case "app":
                await self._in_turn(lambda: self._start_app(clock))
            case _:
                await self.start_process(part, self.serving, "worker", self.rung, part, user=part)

    async def start_process(self, name: str, module: str, *words: str, user: str) -> None:
        """Start a process that reaches the stores over the links of `user`."""
        command = [sys.executable, "-m", module, *words]
        env = self._envs[user] | {"PGAPPNAME": name}
        await self._in_turn(lambda: self.house.start(name, command, env=env))

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
            self.house.start("app", command, env=env, listening=listening)

    def _run_postgres(self) -> None:
        """Backends that outlive their postmaster for a moment keep a new one from starting, so try again."""
        for left in reversed(range(50)):
            try:
                run_postgres(self.house)
                return
            except Fallen:
                if left == 0:
                    raise

    async def kill(self, part: str) -> None:
        """SIGKILL, and wait until it is gone; what has ended by itself already is gone too."""
        self.signal(self.house.pids[part], signal.SIGKILL)
        await self._in_turn(
            lambda: self.house.wait(lambda: part in self.house.ended, f"the end of {part}", RESTART_S_MAX)
        )

    def signal_all(self, part: str, number: signal.Signals) -> None:
        """To a part and, of PostgreSQL, to its backends, which are groups of their own."""
        for pid in (self.house.pids[part], *_children(self.house.pids[part])):
            self.signal(pid, number)

    @staticmethod
    def signal(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    async def check(self) -> None:
        """`Fallen`, with the end of its log, when a part ended that nobody killed."""
        await self._in_turn(lambda: self.house.hear(0))
        for part in self.parts:
            if part in self.house.ended:
                raise fallen(self.house, part, f"The {part} of {self.rung}")

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
            await self._in_turn(lambda: self.house.hear(0.02))
            if "postgres" in self.house.ended:
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
        data, _ = postgres_folders(self.house)
        umount = shutil.which("umount")
        if os.geteuid() != 0 or umount is None or not sys.platform.startswith("linux"):
            return None
        data.mkdir(mode=0o700)
        self.house.finally_run([umount, "-l", data], env={"PATH": "/usr/bin:/bin"})
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


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
