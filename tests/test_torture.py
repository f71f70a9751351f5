"""Under torture nothing is lost, and a lie told to the servers of a real system is found over HTTP."""

import contextlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import redis

from crossover.errors import UserError
from crossover.progress import Steps
from crossover.torture.deployment import Deployment
from crossover.torture.faults import BEHIND_S, OVERLAPPING, Scheduled, faults_of, kinds_of, wanted_kinds
from crossover.torture.links import DELAY_S, Links
from crossover.torture.load import Load
from crossover.torture.nemesis import EVERY_S, Fault, schedule, torment
from crossover.torture.run import Torture, torture
from ladder.rung import Rung, rung, rungs
from loadtests.http import HttpClient
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import namespace_of
from servers.supervisor import Processes
from tests.family import GONE_S_MAX, descendants, folders_of, gone, reapers_of
from tests.service import wait_until
from tests.threads import listening


@pytest.mark.parametrize(
    ("name", "seconds", "kinds"), [("crud", 8, 3), pytest.param("cqrs", 14, 4, marks=pytest.mark.long)]
)
def test_a_tortured_rung_loses_nothing(name: str, seconds: int, kinds: int, tmp_path: Path) -> None:
    report = torture(name, seconds=seconds, seed=4, faults="all", out=tmp_path / "out")
    assert report.clean, (tmp_path / "out" / "findings.jsonl").read_text()
    assert len(report.kinds) >= kinds and report.acknowledged > 100
    assert report.unknown > 0, "the faults are felt by the clients"
    assert (report.parked == "3 of 3 poisoned") == (name == "cqrs")
    kept = (tmp_path / "out" / "operations.jsonl").read_text().splitlines()
    assert len(kept) == report.operations


def test_the_load_of_a_torture_comes_at_the_rate_that_is_asked_for(serve: Any) -> None:
    def took_s(rate_per_s: float) -> float:
        load = Load(serve("noop").url, 1, rate_per_s)
        load.fill()
        filled, start_s = len(load.entries), load.now_s()
        load.during(lambda: wait_until(lambda: len(load.entries) > filled + 20))
        load.close()
        return load.now_s() - start_s

    assert took_s(10) > 1.0, "20 operations take two seconds"
    wait_until(lambda: took_s(500) < 1.0)  # or a twentieth of one, unless the machine is busy


def test_commands_that_go_on_while_a_killed_server_starts_have_recovered_before_it_answers(serve: Any) -> None:
    load, found = Load(serve("noop").url, 1, 200), list[Fault]()
    load.fill()

    @contextmanager
    def killed(_: Any) -> Iterator[None]:
        yield
        started_s = load.now_s()
        wait_until(lambda: any(sent_s > started_s for sent_s, _ in load.acknowledged))
        wait_until(lambda: load.now_s() > load.acknowledged[-1][1] and load.now_s() > started_s + 0.2)

    fault, deployment = (
        Scheduled("kill-it", "it", killed, (0.0, 0.0), within_s=1.0),
        SimpleNamespace(check=lambda: None),
    )
    until_s, chosen = load.now_s() + EVERY_S + 0.1, random.Random(1)
    load.during(lambda: torment(deployment, load, [fault], chosen, until_s, found.append))  # type: ignore[arg-type]
    load.close()
    assert found[0].recovery_s is not None and found[0].recovery_s < found[0].start_took_s


@contextmanager
def tortured(name: str) -> Iterator[Torture]:
    with Processes() as supervisor, Links() as links, Steps("test") as steps:
        with Torture(Deployment(supervisor, links, rung(name)), 1, [], steps) as torture:
            yield torture


def sql(torture: Torture, *statements: str) -> None:
    with psycopg.connect(torture.deployment.urls[POSTGRES.name], autocommit=True) as connection:
        connection.execute(f"SET search_path = {namespace_of('cqrs')}".encode())
        for statement in statements:
            connection.execute(statement.encode())


def document_altered(torture: Torture) -> None:
    with redis.Redis.from_url(torture.deployment.urls[REDIS.name]) as store:
        key = store.keys(f"{namespace_of('cqrs')}:*customer:*")[0]
        store.set(key, store.get(key).replace(b'"spent_cents":', b'"spent_cents":1'))


def order_gone(torture: Torture) -> None:
    first = "(SELECT id FROM orders ORDER BY id LIMIT 1)"
    sql(torture, f"DELETE FROM order_lines WHERE order_id = {first}", f"DELETE FROM orders WHERE id = {first}")


def event_altered(torture: Torture) -> None:
    last = "(SELECT max(id) FROM outbox WHERE body LIKE '%OrderPlaced%')"
    sql(torture, f"""UPDATE outbox SET body = replace(body, '"total_cents":', '"total_cents":1') WHERE id = {last}""")


TIME_FOR_ONE_S = EVERY_S + 0.5  # fault


LIES: list[tuple[Callable[[Torture], None], Callable[[Torture], object], str]] = [
    (document_altered, lambda t: t.check("a lie"), "GET /customers/"),
    (order_gone, lambda t: t.check("a lie"), "repeat"),  # views still show it: only the write side tells
    (event_altered, Torture.rebuild, "after a rebuild"),  # live views still show it: only a rebuild tells
]


@pytest.mark.long
def test_lies_told_to_the_servers_of_a_system_are_found() -> None:
    """One after the other; the system was clean before, and what is found of each is not found before it."""
    with tortured("cqrs") as torture:
        torture.faults("quiet", [], 3)
        torture.check("quiet")
        torture.rebuild()
        assert torture.results.findings == []
        for lie, look, found in LIES:
            lie(torture)
            assert not any(found in finding.what for finding in torture.results.findings)
            look(torture)
            assert any(found in finding.what for finding in torture.results.findings), lie.__name__


@pytest.mark.long
def test_a_standby_that_is_cut_off_from_its_primary_or_held_back_is_not_read_from_until_it_has_caught_up() -> None:
    faults = [fault for fault in faults_of(rung("replica")) if fault.hold_s == BEHIND_S]
    assert [fault.kind for fault in faults] == ["far-behind-replica", "cut", "blackhole", "delay", "drop-replies"]
    assert {fault.where for fault in faults} == {"replica", "replica-postgres"}
    with tortured("replica") as torture:
        for fault in faults[:3]:
            watched = fault._replace(refuses=True)
            torture.faults("behind", [watched], TIME_FOR_ONE_S)
        torture.check("behind")
        assert torture.results.findings == []
        assert all("Reads go to the primary: it is" in str(fault.reason) for fault in torture.results.faults)
        (restored,) = (fault for fault in faults_of(rung("replica")) if fault.kind == "restored-postgres")
        torture.faults("restored", [restored], TIME_FOR_ONE_S)
        torture.check("restored")
        assert torture.results.findings == []
        assert all(None not in (fault.recovery_s, fault.convergence_s) for fault in torture.results.faults)
        client = HttpClient(torture.deployment.url)
        wait_until(lambda: b"reason" not in client.get("/ready").body)  # the standby was copied anew


@pytest.mark.long
def test_a_server_that_refuses_is_told_of_in_ready_and_takes_writes_again() -> None:
    """And a /ready that stays green is found."""
    faults = [fault for fault in faults_of(rung("cqrs")) if fault.refuses]
    with tortured("cqrs") as torture:
        for fault in faults:
            torture.faults("refusing", [fault], TIME_FOR_ONE_S)
        torture.check("refusing")
        assert torture.results.findings == []
        told = {fault.kind: fault.reason for fault in torture.results.faults}
        assert "it is a standby" in str(told["read-only-postgres"])
        assert "read only replica" in str(told["read-only-redis"]) and "maxmemory" in str(told["out-of-memory-redis"])
        assert all(told.values()) and len(told) == len(faults) == 5
        torture.faults("green", [Scheduled("nothing", "app", lambda _: nullcontext(), refuses=True)], TIME_FOR_ONE_S)
        assert "/ready gave no reason" in torture.results.findings[0].what
        assert torture.results.report(rung="cqrs", seed=1, seconds=1).reasons == "5 of 6"


@pytest.mark.long
def test_views_that_outlive_a_restore_are_found() -> None:
    """Where nobody looks at the history of a position, a projector keeps its checkpoint after a restore."""
    (restored,) = (fault for fault in faults_of(rung("cqrs")) if fault.restores)
    with tortured("cqrs") as torture:
        torture.faults("restored", [restored], TIME_FOR_ONE_S)
        torture.check("restored")
        assert torture.results.findings == [], "what was lost is no finding"
        assert len(torture.results.restored) == 1 and torture.results.report(rung="cqrs", seed=1, seconds=1).unknown
        holds = "outbox_holds(named text, at xid8, last bigint, counted bigint) RETURNS text LANGUAGE sql"
        sql(torture, f"CREATE OR REPLACE FUNCTION {holds} AS 'SELECT outbox_history()'")
        torture.faults("restored again", [restored], TIME_FOR_ONE_S)
        torture.check("restored again")
        assert any(finding.kind in ("phantom", "lost", "differing") for finding in torture.results.findings)


@pytest.mark.long
def test_ctrl_c_in_the_middle_leaves_nothing_but_the_history(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "crossover.cli", "torture", "crud", "--out", str(tmp_path / "out")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as command:
        try:
            assert command.stderr is not None
            assert any(" for 0." in line for line in command.stderr), "a fault is shown once it is over"
            (reaper,) = reapers_of(command.pid)
            family, folders = descendants(command.pid), folders_of(reaper)
            command.send_signal(signal.SIGINT)
            assert command.wait(GONE_S_MAX) == 130
        finally:
            command.kill()
    gone(family, list(folders))
    assert str(folders[0]) not in Path("/proc/mounts").read_text()
    assert (tmp_path / "out" / "operations.jsonl").stat().st_size > 0


def scheduled(seed: int) -> list[tuple[str, float, float]]:
    faults = [Scheduled(kind, "app", lambda _: pytest.fail("only scheduled")) for kind in kinds_of(rung("cqrs"))]
    return [(fault.kind, hold, pause) for fault, hold, pause in islice(schedule(faults, random.Random(seed)), 60)]


def test_a_seed_names_a_schedule_in_which_every_fault_has_its_turn() -> None:
    assert scheduled(1) == scheduled(1) != scheduled(2)
    kinds = kinds_of(rung("cqrs"))
    assert {kind for kind, _, _ in scheduled(1)[: len(kinds)]} == set(kinds)


def test_faults_follow_from_the_capabilities_of_servers_and_from_workers() -> None:
    class Queue:
        name, title, variable = "queue", "A queue", "QUEUE_URL"

        def flush(self, run: object) -> None: ...
        def restart(self, run: object, *, durability: str = "full") -> str: ...

        refusals = ("closed",)

        def refusing_writes(self, run: object, how: str) -> None: ...
        def failing_over(self, run: object) -> None: ...

    class Queued(Rung):
        name, idea, servers, worker_names = "queued", "", (Queue(),), ("sender",)

    kinds = kinds_of(Queued())
    assert {"kill-queue", "flush", "kill-sender", "second-sender", "duplicate", "poison"} <= set(kinds)
    assert {"closed-queue", "failed-over-queue"} <= set(kinds)
    assert not {"pause-queue", "kill-backend", "disk-full", "copied-queue", "restored-queue"} & set(kinds)
    assert len(kinds_of(rung("cqrs"))) == 27
    overlapping = [fault.where for fault in faults_of(rung("cqrs")) if fault.kind == OVERLAPPING]
    assert len(overlapping) == 4 and "redis killed, projector paused" in overlapping
    assert {"read-only-postgres", "copied-postgres", "restored-postgres"} <= set(kinds_of(rung("crud")))
    assert {"read-only-redis", "out-of-memory-redis", "failed-over-redis"} <= set(kinds_of(rung("cqrs")))


def test_kinds_that_no_rung_can_suffer_are_refused_by_name() -> None:
    assert wanted_kinds("all", rung("crud")) == kinds_of(rung("crud"))
    assert wanted_kinds("flush,cut", rung("crud")) == ["flush", "cut"], "left out later, and said so"
    with pytest.raises(UserError, match="There is no fault 'boredom'"):
        wanted_kinds("boredom", next(iter(rungs().values())))


def test_a_link_does_to_a_connection_what_its_fault_says() -> None:
    def asked(port: int, timeout_s: float = 60.0) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(b"?")
            return connection.recv(10)

    def echo(client: socket.socket) -> None:
        while data := client.recv(10):
            client.sendall(data)

    with Links() as links, listening(echo) as behind:
        port = links.over_tcp("link", lambda: ("127.0.0.1", behind))
        assert asked(port) == b"?"
        links.disturb("link", "cut")
        with contextlib.suppress(ConnectionError):
            assert asked(port) == b""
        links.restore("link")
        for fault in ("blackhole", "drop-replies"):
            links.disturb("link", fault)
            with pytest.raises(TimeoutError):
                asked(port, 0.2)
            links.restore("link")
            assert asked(port) == b"?"
        links.disturb("link", "delay")
        start_s = time.monotonic()
        assert asked(port) == b"?" and time.monotonic() - start_s >= 2 * DELAY_S
