"""What tests share: each server of the ladder once a session, and targets in namespaces of their own."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from crossover.start import let_in
from crossover.targets import LOOPBACK, Target, listen, target_env
from crossover.urls import every_server, given_urls
from crud_impl.session import NETWORK
from ladder.environment import LEVELS, Environment
from ladder.rung import Rung, rung, rungs
from servers import opensearch
from servers.kafka import KAFKA
from servers.postgres import POSTGRES
from servers.rabbitmq import RABBITMQ
from servers.redis import CACHE, REDIS, STREAMS
from servers.replica import REPLICAS
from servers.server import Failed, Server, Unusable, fresh_namespace
from servers.supervisor import Processes
from tests.service import PATIENCE_S, patient, settle

# What the library clients of tests, and the servers that tests start by themselves, would go by.
for name in os.environ.keys() - let_in(os.environ).keys():
    if re.match(r"PG|GIT_|MPL|LC_|.*_PROXY$", name.upper()):
        del os.environ[name]

os.environ["CROSSOVER_DEBUG"] = "1"  # a bug is a traceback, also of the command line
Serve = Callable[..., Target]
UrlOf = Callable[[Server], str]
SUMMARY: list[str] = []
# Tests share a target of every rung and client level, all there until the end: more connections than a run needs. A
# standby must offer as many as its primary.
for database in (POSTGRES, *REPLICAS):
    database.settings = {**database.settings, "max_connections": "500"}


def can_be_had(one: Rung) -> bool:
    """Whether its servers are there, given or installed."""
    for server in one.servers:
        if server.name not in given_urls():
            try:
                server.private()
            except Unusable as reason:
                SUMMARY.append(f"{one.name} was not tried: {reason}")
                return False
    return True


RUNGS = [name for name, one in rungs().items() if can_be_had(one)]
# Every rung, or those of RUNGS=crud,cqrs alone, by every client level that it can have: (rung, level).
ASKED = os.environ["RUNGS"].split(",") if "RUNGS" in os.environ else RUNGS
SYSTEMS = [(name, level) for name in ASKED for level in (LEVELS if rung(name).servers else LEVELS[:1])]


def one_short(cases: Iterable[Any]) -> list[Any]:
    """Of a claim whose cases take seconds each, all but the first belong to the long form."""
    return [pytest.param(one, marks=[pytest.mark.long] * (number > 0)) for number, one in enumerate(cases)]


LONG_LEVELS = one_short(LEVELS)
# The same of every rung, each with its first level short.
LONG_SYSTEMS = [
    pytest.param(one, marks=[pytest.mark.long] if one[1] != LEVELS[0] else [], id="-".join(one)) for one in SYSTEMS
]


# After which stores are given up in this process; targets, in processes of their own, keep these times.
GIVEN_UP_AFTER = [f"ladder.connections.{name}_TIMEOUT_S" for name in ("POOL", "REDIS", "SEARCH")]
GIVEN_UP_AFTER += ["crud_impl.session.CONNECT_S_MAX"]


@pytest.fixture(scope="session", autouse=True)
def patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patient(patched, *GIVEN_UP_AFTER)
        patched.setitem(NETWORK, "connect_timeout", int(PATIENCE_S))
        yield


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    with Processes() as held:
        yield held


@pytest.fixture(scope="session")
def url_of(processes: Processes) -> UrlOf:
    """`url_of(server)`: the one given by its variable, or one of the session's own. Not durable: who kills a server
    starts another."""
    urls = given_urls()

    def started(server: Server) -> str:
        if server.name not in urls:
            durability = "none" if "none" in server.durabilities else "full"
            try:
                urls[server.name] = server.start(processes, durability=durability)
            except (Unusable, Failed) as reason:
                pytest.skip(f"no {server.title}: {reason}")
        return urls[server.name]

    return started


def address_of(server: Server) -> Any:
    """A fixture: the URL of the session's."""
    return pytest.fixture(scope="session", name=f"{server.name}_url")(lambda url_of: url_of(server))


postgres_url = address_of(POSTGRES)
redis_url = address_of(REDIS)
cache_url = address_of(CACHE)
streams_url = address_of(STREAMS)
kafka_url = address_of(KAFKA)
rabbitmq_url = address_of(RABBITMQ)
opensearch_url = address_of(opensearch.OPENSEARCH)


@pytest.fixture
def namespace(request: pytest.FixtureRequest, url_of: UrlOf) -> Iterator[Callable[[], str]]:
    """A factory of fresh namespaces; what a test put into them, on the servers it asks for, is dropped after it."""
    given: list[str] = []

    def fresh() -> str:
        given.append(fresh_namespace("test"))
        return given[-1]

    yield fresh
    for server in every_server().values():
        if f"{server.name}_url" in request.fixturenames:  # asking for another would start it
            for name in given:
                server.drop(url_of(server), name)


def pytest_configure() -> None:
    """A hook, as benchmarks import this file and must measure the engine that is served."""
    opensearch.JAVA_OPTIONS += ("-XX:TieredStopAtLevel=1",)  # an engine of tests lives for a minute: half of its CPU


SERVERS = [*every_server()]


def stands_on(item: pytest.Item) -> tuple[int, str]:
    """The server that a test needs, of several the one that the ladder adds last, and the rung that it is a case of."""

    def named(value: Any) -> set[str]:
        if isinstance(value, list | tuple):
            return {name for one in value for name in named(one)}
        return {value} & {*RUNGS} if isinstance(value, str) else set()

    cases = getattr(item, "callspec", None)
    of = named([*cases.params.values()]) if cases else set[str]()
    asked = {f"{server.name}_url" for one in of for server in rungs()[one].servers}
    asked.update(getattr(item, "fixturenames", ()))
    last = max((place for place, name in enumerate(SERVERS, 1) if f"{name}_url" in asked), default=0)
    return last, max(of, default="")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every worker begins with its part of what takes long, so that at the end none waits for another. Then come tests
    of the same servers and rung together, so that only one worker starts them."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [one for one in items if one.get_closest_marker("long")]
    first = {*long}
    short = sorted((one for one in items if one not in first), key=stands_on, reverse=True)
    cuts = [len(short) * number // workers for number in range(workers + 1)]  # a file's tests share its fixtures
    items[:] = [
        one for at in range(workers) for part in (long[at::workers], short[cuts[at] : cuts[at + 1]]) for one in part
    ]


@pytest.fixture
def summary() -> list[str]:
    """Lines that are printed when all tests have run."""
    return SUMMARY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if SUMMARY:
        terminalreporter.section("what was caught")
        terminalreporter.write("\n".join(SUMMARY) + "\n")


class Targets:
    """Starts targets on the session's servers, each in a namespace of its own, and stops them."""

    numbers = count(1)

    def __init__(self, processes: Processes, url_of: UrlOf) -> None:
        self.processes, self.url_of = processes, url_of
        self.running: list[Target] = []

    def start(self, name: str, clock: str | None = None, clients: str = LEVELS[0]) -> Target:
        urls = {server.name: self.url_of(server) for server in rung(name).servers}
        env = target_env(name, urls, namespace=fresh_namespace(f"test_{name}"), clients=clients, clock=clock)
        placed = Target(f"{name}-{next(self.numbers)}", name, env, self.processes)
        rung(name).prepare(Environment(env))  # the step is a process, which has tests of its own: most of it is imports
        target = placed.launch(listen(LOOPBACK, 0))
        self.running.append(target)
        return target

    def close(self) -> None:
        for target in self.running:
            with contextlib.suppress(Failed):  # a test may have killed the reaper
                target.stop()
            for server in rung(target.rung).servers:
                server.drop(target.env[server.variable], target.env["CROSSOVER_NAMESPACE"])


@pytest.fixture(scope="session")
def serve(processes: Processes, url_of: UrlOf) -> Iterator[Serve]:
    """`serve(rung, clock=None, clients=…)`: a target that all tests share; they keep to ids of their own."""
    targets, known = Targets(processes, url_of), dict[tuple[str, str | None, str], Target]()

    def shared(name: str, clock: str | None = None, clients: str = LEVELS[0]) -> Target:
        if (name, clock, clients) not in known:
            known[name, clock, clients] = target = targets.start(name, clock, clients)
            with httpx.Client(base_url=target.url, timeout=30) as client:
                settle(client)  # until its read stores are built, queries are refused
        return known[name, clock, clients]

    yield shared
    targets.close()


@pytest.fixture
def fresh_target(processes: Processes, url_of: UrlOf) -> Iterator[Serve]:
    """`fresh_target(rung, clock=None, clients=…)`: a target with empty servers that is this test's alone."""
    targets = Targets(processes, url_of)
    yield targets.start
    targets.close()
