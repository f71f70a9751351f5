"""A target: one rung served at a URL, with its workers, on private servers or on the user's own."""

import contextlib
import json
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from crossover.errors import UserError
from crossover.start import inherited
from crossover.urls import servers_of
from ladder.environment import CLIENTS, CLOCK, LEVELS, NAMESPACE, PRIVATE, TOKEN
from ladder.rung import forms, rung, rungs
from loadtests.dataset import SIZES
from loadtests.http import HttpClient, Unreachable
from servers.server import namespace_of
from servers.supervisor import Processes

Progress = Callable[[str, int, int], None]
LOOPBACK = "127.0.0.1"
DATA = "loadtests.dataset:named"
PREPARE_S_MAX, LOAD_S_MAX, REBUILD_S_MAX, HEALTHY_S_MAX = 120.0, 3600.0, 3600.0, 120.0


def quiet(phase: str, done: int, total: int) -> None:
    """Progress that nobody is shown."""


@dataclass(frozen=True)
class Target:
    """A rung in its place on servers; `url` and `processes` are known once it is launched.

    `processes` are the root pids of each component; servers that are the user's own have none.
    """

    name: str
    rung: str
    env: dict[str, str] = field(repr=False)
    supervisor: Processes = field(repr=False, compare=False)
    url: str = ""
    processes: dict[str, list[int]] = field(default_factory=dict)

    def try_out(self) -> None:
        """Use the rung on its servers as the service will, on names of its own, and leave nothing there."""
        self._step("try", self.rung, within_s=PREPARE_S_MAX)

    def prepare(self, beside: Sequence[str] = (), *, private: bool = False) -> None:
        """Try it out, unless its servers are `private`, then create what the rung keeps on them; `beside`: the rungs
        that will share them."""
        self._step("prepare", self.rung, *([PRIVATE] if private else beside), within_s=PREPARE_S_MAX)

    def load(self, size: str, seed: int, until: datetime | None = None, progress: Progress = quiet) -> None:
        """Load a data set, and build the views of it; what is there already stays."""
        end = (until or midnight()).astimezone(UTC).isoformat()
        self._step("load", self.rung, DATA, end, size, str(seed), within_s=LOAD_S_MAX, progress=progress)

    def rebuild(self, progress: Progress = quiet, *, live: bool = False) -> int:
        """Build the views anew, `live` beside those that answer; returns how many events or rows that took."""
        words = ["live"] if live else []
        return self._step("rebuild", self.rung, *words, within_s=REBUILD_S_MAX, progress=progress)

    def _step(self, *words: str, within_s: float, progress: Progress = quiet) -> int:
        """Run a step of the ladder to its end, and show its progress; returns how much was done.

        What is wrong with a server of the user's own is reported in the step's one sentence.
        """
        supervisor, child, done = self.supervisor, f"{self.name}/{words[0]}", 0
        supervisor.start(child, ladder_command(*words), env=process_env(self.env))

        def finished() -> bool:
            nonlocal done
            ended = child in supervisor.ended  # asked first, so that the last line is not missed
            last = supervisor.last_lines(child, lines=1)
            if last.startswith("{") and last.endswith("}"):
                line = json.loads(last)
                done = int(line["done"])
                progress(line["phase"], done, int(line["total"]))
            return ended

        supervisor.wait(finished, f"{words[0]} of {self.name}", within_s, tick_s=0.02)
        if supervisor.ended[child] == 2:
            raise UserError(supervisor.last_lines(child, lines=1))
        if supervisor.ended[child] != 0:
            raise supervisor.died(child, f"The step {words[0]} of {self.name}")
        return done

    def launch(self, listening: socket.socket, *, beside: Mapping[str, list[int]] | None = None) -> "Target":
        """Start the workers and the app over servers that are ready, and wait until the app is healthy.

        `beside`: the components that run already; otherwise the private servers that the rung needs.
        """
        supervisor, env = self.supervisor, process_env(self.env)
        servers = [server.name for server in rung(self.rung).servers if server.name in supervisor.pids]
        processes = {name: [supervisor.pids[name]] for name in servers} if beside is None else dict(beside)
        for worker in rung(self.rung).worker_names:
            command = ladder_command("worker", self.rung, worker)
            processes[worker] = [supervisor.start(f"{self.name}/{worker}", command, env=env)]
        host, port = listening.getsockname()[:2]
        command = ladder_command("app", self.rung, "--host", host, "--fd", "{fd}")
        with listening:  # our copy is closed after this: should the app end, nothing answers in its place
            processes["app"] = [supervisor.start(f"{self.name}/app", command, env=env, listening=listening)]
        reached = LOOPBACK if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
        launched = replace(self, url=f"http://{reached}:{port}", processes=processes)
        launched.wait_until_healthy()
        return launched

    def wait_until_healthy(self) -> None:
        client = HttpClient(self.url, token=self.env.get(TOKEN))

        def healthy() -> bool:
            self.check()
            with contextlib.suppress(Unreachable):
                return client.get("/health").status == 200
            return False

        self.supervisor.wait(healthy, f"{self.name} to be healthy", HEALTHY_S_MAX)

    def restarted(self) -> "Target":
        """The same target with fresh processes at the same address; its servers and their data stay."""
        address = urlsplit(self.url)
        assert address.hostname is not None and address.port is not None, "a target that was launched has an address"
        self.stop()
        beside = {name: pids for name, pids in self.processes.items() if not self._own(name)}
        return self.launch(listen(address.hostname, address.port), beside=beside)

    def check(self) -> None:
        """`Failed`, with the end of its log, when a part of this target has ended."""
        self.supervisor.poll()
        for component in self.processes:
            child = f"{self.name}/{component}" if self._own(component) else component
            if child in self.supervisor.ended:
                raise self.supervisor.died(child, f"The {component} of {self.name}")

    def stop(self) -> None:
        """Stop this target's own processes, and leave the servers to others."""
        for component in filter(self._own, self.processes):
            self.supervisor.stop(f"{self.name}/{component}")

    def _own(self, component: str) -> bool:
        return f"{self.name}/{component}" in self.supervisor.pids


def known_rung(name: str) -> str:
    try:
        rung(name)
    except KeyError:
        known = [form for one in rungs().values() for form in forms(one)]
        raise UserError(f"There is no rung '{name}': choose one of {', '.join(known)}.") from None
    return name


def known_size(size: str) -> str:
    if size not in SIZES:
        raise UserError(f"There is no size '{size}': choose one of {', '.join(SIZES)}.")
    return size


def known_durability(durability: str, urls: Mapping[str, str], rung_names: list[str]) -> str:
    """One that a private server of these rungs can be started with; those of the user's own keep theirs."""
    servers = servers_of(rung_names).values()
    offered = dict.fromkeys(["full"] + [name for server in servers for name in server.durabilities if name != "none"])
    if durability not in offered:
        raise UserError(f"There is no durability '{durability}': choose one of {', '.join(offered)}.")
    if durability != "full" and any(durability in server.durabilities and server.name in urls for server in servers):
        raise UserError("--durability is for private servers: yours keep their own, and a run records it.")
    return durability


def known_clients(level: str) -> str:
    if level not in LEVELS:
        raise UserError(f"There are no clients '{level}': choose {' or '.join(LEVELS)}.")
    return level


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, taken before anything starts so that a port in use is found first; port 0 is any free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise UserError(f"Cannot listen on {host}:{port} ({error}): give another --host or --port.") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by each connection: without it an answer in two packets can wait 40 ms for an acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise UserError(f"Cannot listen on {host}:{port} ({error.strerror}): give another --host or --port.") from None
    return listening


def start_servers(
    supervisor: Processes, rung_names: list[str], given: Mapping[str, str] = {}, *, durability: str = "full"
) -> dict[str, str]:
    """Start the servers that the rungs need and that were not given; the URL of each, by name."""
    urls, servers = dict(given), servers_of(rung_names)
    for name in servers.keys() & urls.keys():  # before anything is started for nothing
        servers[name].check(urls[name])
    for name, server in servers.items():
        if name not in urls:
            urls[name] = server.start(
                supervisor, durability=durability if durability in server.durabilities else "full"
            )
    return urls


def target_env(
    name: str,
    urls: Mapping[str, str],
    *,
    namespace: str,
    clients: str = LEVELS[0],
    clock: str | None = None,
    token: str | None = None,
) -> dict[str, str]:
    """The variables that the processes of a rung are told everything by."""
    env = {server.variable: urls[server.name] for server in rung(name).servers}
    env |= {NAMESPACE: namespace, CLIENTS: clients}
    return env | ({CLOCK: clock} if clock else {}) | ({TOKEN: token} if token else {})


def process_env(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: what every process of ours inherits, and what it is told by itself."""
    return inherited() | dict(env)


def ladder_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "ladder.run", *words]


def midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@contextlib.contextmanager
def serving(
    rung_name: str,
    *,
    urls: Mapping[str, str] = {},
    name: str | None = None,
    size: str = "empty",
    seed: int = 1,
    host: str = LOOPBACK,
    port: int = 0,
    clock: str | None = None,
    token: str | None = None,
    durability: str = "full",
    clients: str = LEVELS[0],
    namespace: str | None = None,
    ephemeral: bool = False,
    code: Path | None = None,
    until: datetime | None = None,
    beside: Sequence[str] = (),
    progress: Progress = quiet,
) -> Iterator[Target]:
    """Serve a rung with its workers, on private servers where no URL is given; on leaving, nothing of it runs.

    What it keeps on given servers stays for the next time under the same name, unless it is `ephemeral`. `code`: the
    folder of another checkout, whose ladder is served instead of ours. `beside`: the rungs that will
    share given servers.
    """
    known_rung(rung_name)
    known_size(size)
    known_durability(durability, urls, [rung_name])
    known_clients(clients)
    if host not in (LOOPBACK, "localhost", "::1") and not token:
        raise UserError(f"Listening on {host} lets others in: set {TOKEN}, or leave --host at {LOOPBACK}.")
    if code and not (code / "ladder" / "run.py").exists():
        raise UserError("That revision is too old to be served by this one: it has no ladder/run.py.")
    if code and CLIENTS not in (code / "ladder" / "environment.py").read_text("utf-8"):
        raise UserError("That revision is too old to be served by this one: its clients have no level.")
    name = name or rung_name
    with listen(host, port) as listening, Processes() as supervisor:
        progress(f"starting {name}", 0, 1)
        started = start_servers(supervisor, [rung_name], urls, durability=durability)
        namespace = namespace or namespace_of(name)
        env = target_env(rung_name, started, namespace=namespace, clients=clients, clock=clock, token=token)
        if ephemeral and any(server.name in urls for server in rung(rung_name).servers):
            supervisor.at_end(ladder_command("drop", rung_name), env=process_env(env))
        env |= {"PYTHONPATH": str(code)} if code else {}  # found before what is installed
        target = Target(name, rung_name, env, supervisor)
        target.prepare(beside, private=not any(server.name in urls for server in rung(rung_name).servers))
        if size != "empty":
            target.load(size, seed, until, progress)
        yield target.launch(listening)
