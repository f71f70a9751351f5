"""What tests share: one PostgreSQL and one Valkey a session, and targets in namespaces of their own."""

import contextlib
import os
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from crossover.errors import Fallen, UserError
from crossover.namespaces import drop_namespace, fresh_namespace
from crossover.processes import Household, household
from crossover.servers import start_postgres, start_valkey
from crossover.targets import LOOPBACK, Stores, Target, listen, needs_of, start_target

Serve = Callable[..., Target]


@pytest.fixture(scope="session")
def house() -> Iterator[Household]:
    with household() as held:
        yield held


@pytest.fixture(scope="session")
def postgres_url(house: Household) -> str:
    """A PostgreSQL: DATABASE_URL, or one of the session's own. Not durable: who pulls the plug starts another."""
    if given := os.environ.get("DATABASE_URL"):
        return given
    return _or_skip("PostgreSQL", lambda: start_postgres(house, durability="none"))


@pytest.fixture(scope="session")
def redis_url(house: Household) -> str:
    """A Valkey: REDIS_URL, or one of the session's own."""
    if given := os.environ.get("REDIS_URL"):
        return given
    return _or_skip("Valkey", lambda: start_valkey(house))


def _or_skip(server: str, start: Callable[[], str]) -> str:
    try:
        return start()
    except (UserError, Fallen) as reason:
        pytest.skip(f"no {server}: {reason}")


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """A factory of fresh namespaces (schema and key prefix); what a test put into them is dropped after it."""
    given: list[str] = []

    def fresh() -> str:
        given.append(fresh_namespace("test"))
        return given[-1]

    yield fresh
    for name in given:
        drop_namespace(name, *_started(request))


def _started(request: pytest.FixtureRequest) -> tuple[str | None, str | None]:
    """The servers that this test uses: asking for one that it does not would start it."""
    return (
        request.getfixturevalue("postgres_url") if "postgres_url" in request.fixturenames else None,
        request.getfixturevalue("redis_url") if "redis_url" in request.fixturenames else None,
    )


SUMMARY: list[str] = []


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

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.request = request
        self.house: Household = request.getfixturevalue("house")
        self.running: list[Target] = []

    def start(self, rung: str, clock: str | None = None) -> Target:
        needs = needs_of(rung)
        stores = Stores(
            self.request.getfixturevalue("postgres_url") if "postgres" in needs else None,
            self.request.getfixturevalue("redis_url") if "redis" in needs else None,
        )
        name = f"{rung}-{next(self.numbers)}"
        namespace = fresh_namespace(f"test_{rung}")
        listening = listen(LOOPBACK, 0)
        target = start_target(self.house, rung, stores, listening, name=name, namespace=namespace, clock=clock)
        self.running.append(target)
        return target

    def close(self) -> None:
        for target in self.running:
            with contextlib.suppress(Fallen):  # a test may have killed it, and the keeper with it
                target.stop()
            env = target.env
            drop_namespace(env["CROSSOVER_NAMESPACE"], env.get("DATABASE_URL"), env.get("REDIS_URL"))


@pytest.fixture(scope="session")
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """`serve(rung, clock=None)`: a target that all tests share; they keep to ids of their own."""
    targets, known = Targets(request), dict[tuple[str, str | None], Target]()

    def shared(rung: str, clock: str | None = None) -> Target:
        if (rung, clock) not in known:
            known[rung, clock] = targets.start(rung, clock)
        return known[rung, clock]

    yield shared
    targets.close()


@pytest.fixture
def fresh_target(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """`fresh_target(rung, clock=None)`: a target with empty stores that is this test's alone."""
    targets = Targets(request)
    yield targets.start
    targets.close()
