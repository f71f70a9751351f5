"""The system under torture: one rung's servers, processes and links, each of which can be stopped and started alone."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from crossover.targets import LOOPBACK, Target, listen, process_env, start_servers, target_env
from crossover.torture.links import Links, link_name
from ladder.environment import CLOCK, LEVELS, Environment
from ladder.rung import DeadLetters, Rung
from loadtests.http import HttpClient, Unreachable
from servers.server import (
    DiskFillable,
    Failed,
    Killable,
    Linkable,
    Pausable,
    Redirecting,
    Replicating,
    Server,
    Unusable,
    namespace_of,
)
from servers.supervisor import Processes

DISK_MIB = 512
RESTART_S_MAX = 20.0
DISK_RECOVERY_S_MAX = 5.0  # of a server whose disk has space again
COMMAND_S_MAX = 120.0


class Deployment:
    """`module` runs the app and the workers: another one than the ladder's tries a mutant of theirs."""

    def __init__(
        self, supervisor: Processes, links: Links, rung: Rung, module: str = "ladder.run", clients: str = LEVELS[0]
    ) -> None:
        self.supervisor, self.links, self.rung, self.module = supervisor, links, rung, module
        self.clients = clients
        self.servers = {server.name: server for server in self.rung.servers}
        self.disks = {name for name, server in self.servers.items() if self._mount_disk(server)}
        self.urls: Mapping[str, str] = {}
        self.url = ""  # where clients find the app
        self._app: tuple[str, int] = (LOOPBACK, 0)
        self._envs: dict[str, dict[str, str]] = {}

    # Setting up

    def open(self) -> None:
        self.urls = start_servers(self.supervisor, [self.rung.name])
        self._target.prepare()
        linked = {server.name: self.linked(server) for server in self.rung.servers}
        for user in self.processes:
            self._envs[user] = self._env({name: urls[user] for name, urls in linked.items()})
        for server in self.rung.servers:
            if isinstance(server, Replicating):
                server.receive_by(self.supervisor, self._link_to(server.name, self.servers[server.source]))
        for process in self.processes:
            self.start(process)
        self.url = f"http://{LOOPBACK}:{self.links.over_tcp('client-app', lambda: self._app)}"

    def linked(self, server: Server) -> dict[str, str]:
        """The address of a server for each process, by way of a link of its alone."""
        if isinstance(server, Linkable):
            return {user: server.url_in(self._link_to(user, server)) for user in self.processes}
        url = urlsplit(self.urls[server.name])
        assert url.hostname and url.port, "what does not listen on a socket has a port"
        host, leads = url.hostname, dict.fromkeys(self.processes, url.port)

        def there(user: str) -> tuple[str, int]:
            return host, leads[user]

        links = {user: self.links.over_tcp(link_name(user, server.name), partial(there, user)) for user in leads}
        if isinstance(server, Redirecting):
            leads.update(server.redirect(self.supervisor, links))
        login, at, _ = url.netloc.rpartition("@")
        return {user: url._replace(netloc=f"{login}{at}{LOOPBACK}:{port}").geturl() for user, port in links.items()}

    def _link_to(self, user: str, server: Server) -> Path:
        """The folder of a socket that leads to a server's."""
        assert isinstance(server, Linkable), "it listens on a socket"
        folder = self.supervisor.sockets / link_name(user, server.name)
        folder.mkdir()
        there = server.socket(self.supervisor.sockets / server.name)
        self.links.over_socket(folder.name, server.socket(folder), there)
        return folder

    def _env(self, urls: Mapping[str, str]) -> dict[str, str]:
        namespace = namespace_of(self.rung.name)
        return process_env(target_env(self.rung.name, urls, namespace=namespace, clients=self.clients))

    @property
    def _target(self) -> Target:
        """What runs steps of the ladder past the links."""
        return Target(self.rung.name, self.rung.name, self._env(self.urls), self.supervisor)

    # Parts

    @property
    def processes(self) -> tuple[str, ...]:
        return ("app", *self.rung.worker_names)

    def fed(self) -> list[str]:
        """The workers that a feed drives, whose feed may therefore be faulty."""
        return [name for name, worker in self._workers().items() if hasattr(worker, "feed_through")]

    def with_dead_letters(self) -> list[str]:
        return [name for name, worker in self._workers().items() if isinstance(worker, DeadLetters)]

    def _workers(self) -> Mapping[str, object]:
        return self.rung.workers(Environment(self._env(self.urls)))

    def start(self, part: str, *, clock: str | None = None) -> None:
        if part in self.servers:
            self._restart(cast(Killable, self.servers[part]))
        elif part == "app":
            env = self._envs["app"] | ({CLOCK: clock} if clock else {})
            with listen(LOOPBACK, 0) as listening:  # another port each time: nobody else can have taken it
                self._app = (LOOPBACK, listening.getsockname()[1])
                command = [sys.executable, "-m", self.module, "app", self.rung.name, "--fd", "{fd}"]
                self.supervisor.start("app", command, env=env, listening=listening)
        else:
            self._run(part, part, self.module, "worker", self.rung.name, part)

    def start_faulty(self, name: str, worker: str, fault: str) -> None:
        """A worker of this name with a faulty feed; it has begun to read when this returns."""
        self.supervisor.log(name).unlink(missing_ok=True)
        self._run(name, worker, "crossover.torture.faulty_feed", fault, self.rung.name, worker)
        self.supervisor.wait_for(name, name, lambda: "reading" in self.supervisor.last_lines(name), RESTART_S_MAX)

    def _run(self, name: str, user: str, module: str, *words: str) -> None:
        self.supervisor.start(name, [sys.executable, "-m", module, *words], env=self._envs[user])

    def _restart(self, server: Killable) -> None:
        """What outlives a killed server for a moment can keep a new one from starting, so try again."""
        for left in reversed(range(50)):
            try:
                server.restart(self.supervisor)
                return
            except Failed:
                if left == 0:
                    raise

    def copy_again(self, source: str) -> None:
        """What repeats a server that was restored goes on from another state, so that /ready asks for a new copy."""
        copies = [each for each in self.servers.values() if isinstance(each, Replicating) and each.source == source]
        for server in copies:
            self.supervisor.stop(server.name)
            server.copy_again(self.supervisor)
            server.receive_by(self.supervisor, self.supervisor.sockets / link_name(server.name, source))
        if copies:
            self.kill("app")
            self.start("app")
            self.await_status("/ready", RESTART_S_MAX)

    def kill(self, part: str) -> None:
        """SIGKILL, and wait until it is gone; what has ended by itself already is gone too."""
        self.signal(self.supervisor.pids[part], signal.SIGKILL)
        self.supervisor.wait(lambda: part in self.supervisor.ended, f"the end of {part}", RESTART_S_MAX)

    def signal_all(self, part: str, number: signal.Signals) -> None:
        """To a part, and to the processes that it has split off."""
        server = self.servers.get(part)
        pids = server.process_ids(self.supervisor) if isinstance(server, Pausable) else [self.supervisor.pids[part]]
        for pid in pids:
            self.signal(pid, number)

    @staticmethod
    def signal(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def check(self) -> None:
        """`Failed`, with the end of its log, when a part ended that nobody killed."""
        self.supervisor.poll()
        for part in (*self.processes, *self.servers):
            if part in self.supervisor.ended:
                raise self.supervisor.died(part, f"The {part} of {self.rung.name}")

    def await_status(self, path: str, within_s: float) -> None:
        """Wait until the app answers 200."""
        client = HttpClient(self.url)

        def answers() -> bool:
            try:
                return client.get(path).status == 200
            except Unreachable:
                return False

        self.supervisor.wait(answers, f"{self.rung.name} to answer {path}", within_s, tick_s=0.02)

    def rebuild(self) -> None:
        """Have the views cleared and built anew from the events, past the links."""
        self._target.rebuild()

    def replay(self) -> bool:
        """Have the dead letters tried again, past the links; whether that healed all of them."""
        command = [sys.executable, "-m", "crossover.cli", "replay", self.rung.name]
        return self.supervisor.run("replay", command, env=self._env(self.urls), within_s=COMMAND_S_MAX) == 0

    # Disks

    def _mount_disk(self, server: Server) -> bool:
        """A small disk of its own for a server, so that it can be filled; only root may, and not everywhere."""
        umount = shutil.which("umount")
        if not isinstance(server, DiskFillable) or os.geteuid() != 0 or umount is None or sys.platform != "linux":
            return False
        data = server.data_folder(self.supervisor)
        data.mkdir(mode=0o700)
        self.supervisor.at_end([umount, "-l", data], env={"PATH": "/usr/bin:/bin"})
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(data)]
        return subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def fill_disk(self, name: str) -> None:
        filler = self._filler(name)
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(filler.parent).free - (1 << 20))
            file.seek(0, os.SEEK_END)
            while file.write(bytes(4096)):
                pass  # until there is no space left
        cast(DiskFillable, self.servers[name]).need_space(self.urls[name])

    def free_disk(self, name: str) -> None:
        """A server that gave up, or hangs, is started again; one that did not is waited for."""
        self._filler(name).unlink()
        deadline_s = time.monotonic() + DISK_RECOVERY_S_MAX
        while True:
            self.supervisor.poll()
            if name in self.supervisor.ended:
                return self.start(name)
            try:
                self.servers[name].check(self.urls[name])
                return None
            except Unusable:
                if time.monotonic() > deadline_s:  # without space its recovery can end, and the server hang for ever
                    self.kill(name)

    def _filler(self, name: str) -> Path:
        return cast(DiskFillable, self.servers[name]).data_folder(self.supervisor) / "filler"
