"""A target: one rung served at a URL, with its workers, on servers of its own or on those it is given."""

import contextlib
import os
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from crossover.errors import Fallen, UserError
from crossover.namespaces import namespace_of
from crossover.processes import Household, household
from crossover.servers import start_postgres, start_valkey
from ladder.rungs import RUNGS

Progress = Callable[[str, int, int], None]
SIZES = ("empty", "s", "m", "l")
LOOPBACK = "127.0.0.1"
PREPARE_S_MAX = 60.0
HEALTHY_S_MAX = 30.0
FILL_S_MAX = 900.0
FILL = """
import os, sys, datetime, crossover.seed
rung, size, seed, until = sys.argv[1:]
crossover.seed.seed(dict(os.environ), rung, size, int(seed), datetime.datetime.fromisoformat(until), lambda *_: None)
"""


@dataclass(frozen=True)
class Stores:
    """The URLs of the servers a target uses; a server that its rung does not need is None."""

    database_url: str | None = None
    redis_url: str | None = None


@dataclass(frozen=True)
class Target:
    """`processes` are the root pids of each component; servers that are the user's own have none."""

    name: str
    rung: str
    url: str
    processes: dict[str, list[int]]
    env: dict[str, str] = field(repr=False)
    house: Household = field(repr=False, compare=False)

    def check(self) -> None:
        """`Fallen`, with the end of its log, when a part of this target has ended."""
        self.house.hear(0)
        for component in self.processes:
            for child in (component, f"{self.name}/{component}"):
                if child in self.house.ended:
                    raise fallen(self.house, child, f"The {component} of {self.name}")

    def stop(self) -> None:
        """Stop this target's own processes, and leave the servers to others."""
        for component in self.processes:
            if f"{self.name}/{component}" in self.house.pids:
                self.house.stop(f"{self.name}/{component}")


def fallen(house: Household, child: str, what: str) -> Fallen:
    status, last = house.ended[child], house.place.last_lines(child)
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return Fallen(f"{what} {how}, so everything was stopped." + (f" Its last lines:\n{last}" if last else ""))


def needs_of(rung: str) -> set[str]:
    from ladder import serving as ladder_serving

    return ladder_serving.needs(rung)


def workers_of(rung: str) -> tuple[str, ...]:
    from ladder import serving as ladder_serving

    return ladder_serving.workers_of(rung)


def known_rung(rung: str) -> str:
    if rung not in RUNGS:
        raise UserError(f"There is no rung '{rung}': choose one of {', '.join(RUNGS)}.")
    return rung


def known_size(size: str) -> str:
    if size not in SIZES:
        raise UserError(f"There is no size '{size}': choose one of {', '.join(SIZES)}.")
    return size


def known_durability(durability: str, database_url: str | None) -> str:
    if durability not in ("full", "relaxed"):
        raise UserError(f"There is no durability '{durability}': choose full or relaxed.")
    if database_url and durability != "full":
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


def start_stores(house: Household, rungs: list[str], given: Stores = Stores(), *, durability: str = "full") -> Stores:
    """Start the servers that the rungs need and that were not given."""
    needs = {need for rung in rungs for need in needs_of(rung)}
    return Stores(
        (given.database_url or start_postgres(house, durability=durability)) if "postgres" in needs else None,
        (given.redis_url or start_valkey(house)) if "redis" in needs else None,
    )


def target_env(stores: Stores, *, namespace: str, clock: str | None, token: str | None) -> dict[str, str]:
    """The variables that a target's processes are told everything by."""
    env = {
        "DATABASE_URL": stores.database_url,
        "REDIS_URL": stores.redis_url,
        "CROSSOVER_NAMESPACE": namespace,
        "CROSSOVER_CLOCK": clock,
        "CROSSOVER_TOKEN": token,
    }
    return {key: value for key, value in env.items() if value is not None}


def process_env(env: dict[str, str]) -> dict[str, str]:
    """The surroundings of a child: ours, but nothing of ours where a target has, or has not, a word of its own.

    All hash alike: a seed of its own would give each start sets and dictionaries of another speed.
    """
    own = {"DATABASE_URL", "REDIS_URL", "CROSSOVER_NAMESPACE", "CROSSOVER_CLOCK", "CROSSOVER_TOKEN"}
    return {key: value for key, value in os.environ.items() if key not in own} | {"PYTHONHASHSEED": "0"} | env


def ladder_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "ladder.serving", *words]


def prepare(house: Household, name: str, rung: str, env: dict[str, str]) -> None:
    """Create what the rung keeps in its stores; what is wrong with a store of the user's is said in one sentence."""
    child = f"{name}/prepare"
    status = house.run(child, ladder_command("prepare", rung), env=process_env(env), within_s=PREPARE_S_MAX)
    if status == 2:
        raise UserError(house.place.last_lines(child, lines=1))
    if status != 0:
        raise fallen(house, child, f"Preparing the stores of {name}")


def start_target(
    house: Household,
    rung: str,
    stores: Stores,
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
    progress: Progress | None = None,
) -> Target:
    """Prepare the stores, fill them, start the workers and the app, and wait until it is healthy."""
    env = target_env(stores, namespace=namespace, clock=clock, token=token)
    env |= {"PYTHONPATH": str(code)} if code else {}  # found before what is installed
    prepare(house, name, rung, env)
    if size != "empty" and code:
        fill_by_code(house, name, [rung, size, str(seed), (until or midnight()).isoformat()], env)
    elif size != "empty":
        from crossover.seed import seed as fill

        fill(env, rung, size, seed, until or midnight(), progress or (lambda phase, done, total: None))
    return launch(house, name, rung, env, listening)


def fill_by_code(house: Household, name: str, words: list[str], env: dict[str, str]) -> None:
    """As another checkout fills its own tables; ours may look different."""
    child = f"{name}/fill"
    status = house.run(child, [sys.executable, "-c", FILL, *words], env=process_env(env), within_s=FILL_S_MAX)
    if status != 0:
        raise fallen(house, child, f"Filling the stores of {name}")


def launch(house: Household, name: str, rung: str, env: dict[str, str], listening: socket.socket) -> Target:
    """Start the workers and the app over stores that are ready, and wait until the app is healthy."""
    host, port = listening.getsockname()[:2]
    needs = needs_of(rung)
    processes: dict[str, list[int]] = {
        server: [house.pids[server]]
        for server in ("postgres", "redis", "planted")
        if server in (needs | {"planted"}) & house.pids.keys()
    }
    for worker in workers_of(rung):
        processes[worker] = [
            house.start(f"{name}/{worker}", ladder_command("worker", rung, worker), env=process_env(env))
        ]
    command = ladder_command("app", rung, "--host", host, "--fd", "{fd}")
    with listening:  # our copy is closed after this: should the app end, nothing answers in its place
        processes["app"] = [house.start(f"{name}/app", command, env=process_env(env), listening=listening)]
    reached = LOOPBACK if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
    target = Target(name, rung, f"http://{reached}:{port}", processes, env, house)
    wait_until_healthy(target)
    return target


def restarted(target: Target) -> Target:
    """The same target with fresh processes at the same address; its servers and their data stay."""
    address = urllib.parse.urlsplit(target.url)
    target.stop()
    assert address.hostname is not None and address.port is not None, "a target has an address"
    return launch(target.house, target.name, target.rung, target.env, listen(address.hostname, address.port))


def wait_until_healthy(target: Target) -> None:
    def healthy() -> bool:
        target.check()
        try:
            with urllib.request.urlopen(health, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False

    health = urllib.request.Request(f"{target.url}/health", headers=authorization(target.env.get("CROSSOVER_TOKEN")))
    target.house.wait(healthy, f"{target.name} to be healthy", HEALTHY_S_MAX)


def authorization(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@contextlib.contextmanager
def serving(
    rung: str,
    *,
    name: str | None = None,
    size: str = "empty",
    seed: int = 1,
    host: str = LOOPBACK,
    port: int = 0,
    clock: str | None = None,
    token: str | None = None,
    database_url: str | None = None,
    redis_url: str | None = None,
    durability: str = "full",
    namespace: str | None = None,
    fleeting: bool = False,
    code: Path | None = None,
    until: datetime | None = None,
    progress: Progress | None = None,
    state_dir: Path | None = None,
) -> Iterator[Target]:
    """Serve a rung with its workers, on private servers where no URL is given; on leaving, nothing of it runs.

    What it keeps in given servers stays for the next time under the same name, unless it is `fleeting`. `code`: the
    folder of another checkout, whose ladder is served instead of ours.
    """
    known_rung(rung)
    known_size(size)
    known_durability(durability, database_url)
    if host not in (LOOPBACK, "localhost", "::1") and not token:
        raise UserError(f"Listening on {host} lets others in: set CROSSOVER_TOKEN, or leave --host at {LOOPBACK}.")
    name = name or rung
    with listen(host, port) as listening, household(state_dir) as house:
        if progress:
            progress(f"starting {name}", 0, 1)
        stores = start_stores(house, [rung], Stores(database_url, redis_url), durability=durability)
        namespace = namespace or namespace_of(name)
        if fleeting and (database_url or redis_url):
            env = process_env(target_env(stores, namespace=namespace, clock=None, token=None))
            house.finally_run([sys.executable, "-m", "crossover.namespaces", namespace], env=env)
        yield start_target(
            house,
            rung,
            stores,
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
