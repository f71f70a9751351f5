"""A target: one rung served at a URL, with its workers, on private servers or on those it is given."""

import contextlib
import json
import os
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from crossover.errors import UserError
from ladder.environment import CLOCK, NAMESPACE, TOKEN
from ladder.rung import names, rung, rungs
from servers.server import namespace_of, variants
from servers.supervisor import Processes

Progress = Callable[[str, int, int], None]
SIZES = ("empty", "s", "m", "l")
LOOPBACK = "127.0.0.1"
PREPARE_S_MAX = 60.0
HEALTHY_S_MAX = 30.0
REBUILD_S_MAX = 3600.0
LOAD_S_MAX = 3600.0
DATA = "loadtests.dataset:named"


@dataclass(frozen=True)
class Target:
    """`processes` are the root pids of each component; servers that are the user's own have none."""

    name: str
    rung: str
    url: str
    processes: dict[str, list[int]]
    env: dict[str, str] = field(repr=False)
    supervisor: Processes = field(repr=False, compare=False)

    def check(self) -> None:
        """`Failed`, with the end of its log, when a part of this target has ended."""
        self.supervisor.poll()
        for component in self.processes:
            for child in (component, f"{self.name}/{component}"):
                if child in self.supervisor.ended:
                    raise self.supervisor.died(child, f"The {component} of {self.name}")

    def stop(self) -> None:
        """Stop this target's own processes, and leave the servers to others."""
        for component in self.processes:
            self.supervisor.stop(f"{self.name}/{component}")


def quiet(phase: str, done: int, total: int) -> None:
    """Progress that nobody is shown."""


def known_rung(name: str) -> str:
    if name not in names():
        raise UserError(f"There is no rung '{name}': choose one of {', '.join(rungs())}.")
    return name


def known_size(size: str) -> str:
    if size not in SIZES:
        raise UserError(f"There is no size '{size}': choose one of {', '.join(SIZES)}.")
    return size


def known_durability(durability: str, urls: Mapping[str, str], rung_names: list[str]) -> str:
    """Of private servers; those of the user's own keep theirs."""
    servers = {server.name: server for name in rung_names for server in rung(name).servers}
    offered = variants([*servers.values()]) or ["full"]
    if durability not in offered:
        raise UserError(f"There is no durability '{durability}': choose one of {', '.join(offered)}.")
    if durability != "full" and any(durability in s.durabilities and name in urls for name, s in servers.items()):
        raise UserError("--durability is for private servers: yours keep their own, and a run records it.")
    return durability


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
    servers = {server.name: server for name in rung_names for server in rung(name).servers}
    return {
        name: given.get(name)
        or server.start(supervisor, durability=durability if durability in server.durabilities else "full")
        for name, server in servers.items()
    }


def target_env(
    name: str, urls: Mapping[str, str], *, namespace: str, clock: str | None = None, token: str | None = None
) -> dict[str, str]:
    """The variables that the processes of a rung are told everything by."""
    env = {server.variable: urls[server.name] for server in rung(name).servers}
    env |= {NAMESPACE: namespace} | ({CLOCK: clock} if clock else {}) | ({TOKEN: token} if token else {})
    return env


def process_env(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: ours, but nothing of ours where a target has, or has not, a word of its own.

    All hash alike: a seed of its own would give each start sets and dictionaries of another speed.
    """
    own = {NAMESPACE, CLOCK, TOKEN} | {server.variable for one in rungs().values() for server in one.servers}
    return {key: value for key, value in os.environ.items() if key not in own} | {"PYTHONHASHSEED": "0"} | dict(env)


def ladder_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "ladder.run", *words]


def run_step(
    supervisor: Processes, target: str, words: list[str], env: Mapping[str, str], within_s: float, progress: Progress
) -> int:
    """Run a step of the ladder to its end, showing its progress; how much of it was done at last.

    What is wrong with a server of the user's is said in one sentence.
    """
    child, done = f"{target}/{words[0]}", 0
    supervisor.start(child, ladder_command(*words), env=process_env(env))

    def finished() -> bool:
        nonlocal done
        ended = child in supervisor.ended  # asked first, so that what was said last is not missed
        for line in supervisor.last_lines(child, lines=1).splitlines():
            if line.startswith("{") and line.endswith("}"):
                said = json.loads(line)
                done = int(said["done"])
                progress(f"{said['phase']}", done, int(said["total"]))
        return ended

    supervisor.wait(finished, f"{words[0]} of {target}", within_s, tick_s=0.02)
    if supervisor.ended[child] == 2:
        raise UserError(supervisor.last_lines(child, lines=1))
    if supervisor.ended[child] != 0:
        raise supervisor.died(child, f"The step {words[0]} of {target}")
    return done


def prepare(supervisor: Processes, target: str, rung_name: str, env: Mapping[str, str]) -> None:
    """Create what the rung keeps on its servers."""
    run_step(supervisor, target, ["prepare", rung_name], env, PREPARE_S_MAX, quiet)


def load(
    supervisor: Processes,
    target: str,
    rung_name: str,
    env: Mapping[str, str],
    size: str,
    seed: int,
    until: datetime | None = None,
    progress: Progress = quiet,
) -> None:
    """Load a data set into servers that are prepared; one that is there already stays."""
    words = ["load", rung_name, DATA, (until or midnight()).astimezone(UTC).isoformat(), size, str(seed)]
    run_step(supervisor, target, words, env, LOAD_S_MAX, progress)


def rebuild(supervisor: Processes, target: str, rung_name: str, env: Mapping[str, str], progress: Progress) -> int:
    """Build the views anew on servers that are prepared; returns how many events or rows that took."""
    return run_step(supervisor, target, ["rebuild", rung_name], env, REBUILD_S_MAX, progress)


def start_target(
    supervisor: Processes,
    rung_name: str,
    urls: Mapping[str, str],
    listening: socket.socket,
    *,
    name: str,
    namespace: str,
    clock: str | None = None,
    token: str | None = None,
    size: str = "empty",
    seed: int = 1,
    code: Path | None = None,
    until: datetime | None = None,
    progress: Progress = quiet,
) -> Target:
    """Prepare the servers, load them, start the workers and the app, and wait until it is healthy."""
    env = target_env(rung_name, urls, namespace=namespace, clock=clock, token=token)
    env |= {"PYTHONPATH": str(code)} if code else {}  # found before what is installed
    prepare(supervisor, name, rung_name, env)
    if size != "empty":
        load(supervisor, name, rung_name, env, size, seed, until, progress)
    return launch(supervisor, name, rung_name, env, listening)


def launch(
    supervisor: Processes,
    name: str,
    rung_name: str,
    env: dict[str, str],
    listening: socket.socket,
    *,
    beside: Mapping[str, list[int]] | None = None,
) -> Target:
    """Start the workers and the app over servers that are ready, and wait until the app is healthy.

    `beside`: the components that run already; otherwise the private servers that the rung needs.
    """
    host, port = listening.getsockname()[:2]
    one, pids = rung(rung_name), supervisor.pids
    servers = {server.name: [pids[server.name]] for server in one.servers if server.name in pids}
    processes = dict(servers if beside is None else beside)
    for worker in one.worker_names:
        words = ladder_command("worker", rung_name, worker)
        processes[worker] = [supervisor.start(f"{name}/{worker}", words, env=process_env(env))]
    command = ladder_command("app", rung_name, "--host", host, "--fd", "{fd}")
    with listening:  # our copy is closed after this: should the app end, nothing answers in its place
        processes["app"] = [supervisor.start(f"{name}/app", command, env=process_env(env), listening=listening)]
    reached = LOOPBACK if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
    target = Target(name, rung_name, f"http://{reached}:{port}", processes, env, supervisor)
    wait_until_healthy(target)
    return target


def restarted(target: Target) -> Target:
    """The same target with fresh processes at the same address; its servers and their data stay."""
    address, supervisor = urllib.parse.urlsplit(target.url), target.supervisor
    assert address.hostname is not None and address.port is not None, "a target has an address"
    target.stop()
    beside = {name: pids for name, pids in target.processes.items() if f"{target.name}/{name}" not in supervisor.pids}
    listening = listen(address.hostname, address.port)
    return launch(supervisor, target.name, target.rung, target.env, listening, beside=beside)


def wait_until_healthy(target: Target) -> None:
    def healthy() -> bool:
        target.check()
        try:
            with urllib.request.urlopen(health, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False

    health = urllib.request.Request(f"{target.url}/health", headers=authorization(target.env.get(TOKEN)))
    target.supervisor.wait(healthy, f"{target.name} to be healthy", HEALTHY_S_MAX)


def authorization(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


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
    namespace: str | None = None,
    ephemeral: bool = False,
    code: Path | None = None,
    until: datetime | None = None,
    progress: Progress = quiet,
) -> Iterator[Target]:
    """Serve a rung with its workers, on private servers where no URL is given; on leaving, nothing of it runs.

    What it keeps on given servers stays for the next time under the same name, unless it is `ephemeral`. `code`: the
    folder of another checkout, whose ladder is served instead of ours.
    """
    known_rung(rung_name)
    known_size(size)
    known_durability(durability, urls, [rung_name])
    if host not in (LOOPBACK, "localhost", "::1") and not token:
        raise UserError(f"Listening on {host} lets others in: set {TOKEN}, or leave --host at {LOOPBACK}.")
    name = name or rung_name
    with listen(host, port) as listening, Processes() as supervisor:
        progress(f"starting {name}", 0, 1)
        started = start_servers(supervisor, [rung_name], urls, durability=durability)
        namespace = namespace or namespace_of(name)
        if ephemeral and any(server.name in urls for server in rung(rung_name).servers):
            env = process_env(target_env(rung_name, started, namespace=namespace))
            supervisor.at_end(ladder_command("drop", rung_name), env=env)
        yield start_target(
            supervisor,
            rung_name,
            started,
            listening,
            name=name,
            namespace=namespace,
            clock=clock,
            token=token,
            size=size,
            seed=seed,
            code=code,
            until=until,
            progress=progress,
        )
