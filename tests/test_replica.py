"""The rung `replica`: a token is waited for, and whatever is wrong with the standby sends reads to the primary."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest

from contract.ports import utc_now
from crud_impl.connections import Connection
from crud_impl.replicated import ReplicatedOrders
from crud_impl.standby import Standby
from ladder.connections import connect, database
from ladder.environment import CLIENTS, LEVELS, NAMESPACE, Environment
from ladder.rung import rung
from servers.postgres import POSTGRES
from servers.replica import REPLICA
from servers.server import Unusable
from servers.supervisor import Processes
from tests.conftest import LONG_LEVELS
from tests.family import killed
from tests.service import PATIENCE_S, Shop, client_of, fresh_id, patient, wait_until

SLOWNESS = [f"crud_impl.standby.{name}" for name in ("PROBE_S_MAX", "OPEN_S_MAX", "LAG_S_MAX")]  # of a standby in use


class Cluster:
    """A primary and its standby, of these tests alone."""

    def __init__(self, processes: Processes) -> None:
        self.processes, self.primary = processes, POSTGRES.start(processes, durability="none")
        self.standby = REPLICA.start(processes, durability="none")
        self.namespace = "crossover_test_replica"

    def env(self, level: str = LEVELS[0]) -> Environment:
        addresses = {POSTGRES.variable: self.primary, REPLICA.variable: self.standby}
        return Environment(addresses | {NAMESPACE: self.namespace, CLIENTS: level})

    def tell(self, statement: str) -> Any:
        """Have the standby do something."""
        with psycopg.connect(self.standby, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchone()

    @contextmanager
    def far_behind(self) -> Iterator[None]:
        with REPLICA.falling_behind(self.processes):
            wait_until(lambda: self.tell("SELECT pg_get_wal_replay_pause_state()") == ("paused",))
            yield

    @contextmanager
    def killed(self) -> Iterator[None]:
        killed(REPLICA.process_ids(self.processes))
        self.processes.wait(lambda: REPLICA.name in self.processes.ended, "its end", PATIENCE_S)
        yield
        REPLICA.restart(self.processes, durability="none")

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        pids = REPLICA.process_ids(self.processes)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Processes() as processes:
        try:
            cluster = Cluster(processes)
        except Unusable as reason:
            pytest.skip(str(reason))
        rung("replica").prepare(cluster.env())
        yield cluster


def ready(client: httpx.Client) -> dict[str, Any]:
    answer = client.get("/ready")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def used_again(client: httpx.Client) -> None:
    wait_until(lambda: client.get("/ready").json().get("reason", "") == "" and ready(client)["lag_bytes"] == 0)


def test_a_standby_has_the_settings_of_its_primary_and_follows_it(cluster: Cluster) -> None:
    assert REPLICA.check(cluster.standby, 5).settings == POSTGRES.check(cluster.primary, 5).settings
    REPLICA.follow(cluster.standby, cluster.primary, PATIENCE_S)


@pytest.mark.parametrize("level", LONG_LEVELS)
def test_the_standby_answers_and_a_token_is_waited_for(
    cluster: Cluster, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, "crud_impl.standby.PROBE_EVERY_S", *SLOWNESS)  # only the reads themselves ask
    env = cluster.env(level)
    with client_of(rung("replica").system(env)) as client:
        shop = Shop(client)
        for _ in range(30):
            written = client.put(f"/customers/{fresh_id()}", json={"name": "Ada"})
            token = {"Consistency-Token": written.headers["consistency-token"], "Prefer": "wait=5"}
            read = client.get(written.headers["location"], headers=token)
            assert read.status_code == 200, read.text
            again = token | {"Consistency-Token": read.headers["consistency-token"]}
            assert client.get(written.headers["location"], headers=again).status_code == 200
        used_again(client)
        assert client.get(f"/customers/{shop.customer()}", headers={"Consistency-Token": "1t1.5-0"}).json()["type"] == (
            "urn:crossover:behind"
        )
        used_again(client)  # what was written last is replayed
        before = ready(client)
        assert (before["lag_events"], before["lag_bytes"], before["reads_on_primary"]) == (0, 0, 0)
        assert b"replica_reads_on_primary_total 0.0" in client.get("/metrics").content


@pytest.mark.parametrize("level", LONG_LEVELS)
def test_beyond_the_lag_limit_the_primary_answers_which_is_counted_and_said(
    cluster: Cluster, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, *SLOWNESS)
    with client_of(rung("replica").system(cluster.env(level))) as client:
        used_again(client)
        with cluster.far_behind():
            written = client.put(f"/customers/{fresh_id()}", json={"name": "Ada"})
            where, token = written.headers["location"], written.headers["consistency-token"]
            assert client.get(where).status_code == 404  # what the standby knows
            monkeypatch.setattr("crud_impl.standby.LAG_S_MAX", 0.5)
            read = client.get(where, headers={"Consistency-Token": token, "Prefer": "wait=5"})
            assert read.status_code == 200
            state = ready(client)
            assert state["reason"].endswith("bytes behind.") and state["lag_events"] == 0
            assert state["lag_bytes"] > 0 and state["lag_seconds"] >= 0.5 and state["reads_on_primary"] >= 1
        patient(monkeypatch, *SLOWNESS)
        used_again(client)
        counted = ready(client)["reads_on_primary"]
        assert client.get(where).status_code == 200 and ready(client)["reads_on_primary"] == counted


@pytest.mark.parametrize("level", LONG_LEVELS)
@pytest.mark.parametrize("fault", [Cluster.killed, Cluster.standing_still])
def test_a_standby_that_is_gone_costs_a_moment_and_no_answer(
    cluster: Cluster, level: str, fault: Callable[[Cluster], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(rung("replica").system(cluster.env(level))) as client:
        used_again(client)
        customer = Shop(client).customer()
        with fault(cluster):
            assert client.get(f"/customers/{customer}").status_code == 200
            wait_until(lambda: "reason" in ready(client))
            with monkeypatch.context() as patched:
                patched.setattr(Standby, "answer", None)  # whoever asks the standby waits a second
                for _ in range(5):
                    assert client.get(f"/customers/{Shop(client).customer()}").status_code == 200
            assert ready(client)["reads_on_primary"] >= 5
        patient(monkeypatch, *SLOWNESS)
        used_again(client)
        counted = ready(client)["reads_on_primary"]
        assert client.get(f"/customers/{customer}").status_code == 200 and ready(client)["reads_on_primary"] == counted


def test_reads_that_wait_for_a_standby_which_stands_still_have_it_probed_at_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, "crud_impl.standby.CALM_S")
    with client_of(rung("replica").system(cluster.env())) as client, ThreadPoolExecutor(6) as pool:
        customer = f"/customers/{Shop(client).customer()}"
        used_again(client)
        with cluster.standing_still():
            answers = list(pool.map(lambda _: client.get(customer), range(6)))
        assert {answer.status_code for answer in answers} == {200}, "they wait for a second at most"
        assert ready(client)["reads_on_primary"] == 6


class Cancelling:
    """Opens connections on which recovery cancels so many reads of customers."""

    def __init__(self, env: Environment) -> None:
        self._connect, self.left = connect(env, REPLICA), 0

    async def __call__(self, *, writing: bool) -> Connection:
        connection = await self._connect(writing=writing)
        rows = connection.rows

        async def cancelled(sql: str, params: dict[str, Any]) -> Any:
            if "FROM customers" in sql and self.left:
                self.left -= 1
                raise psycopg.errors.SerializationFailure("canceling statement due to conflict with recovery")
            return await rows(sql, params)

        connection.rows = cancelled  # type: ignore[method-assign]
        return connection


@pytest.mark.parametrize("level", LONG_LEVELS)
def test_a_read_that_recovery_cancelled_is_asked_once_more_and_then_on_the_primary(
    cluster: Cluster, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, *SLOWNESS)
    env = cluster.env(level)
    cancelling = Cancelling(env)
    standby = Standby(cancelling, connections=2, timeout_s=PATIENCE_S)
    with client_of(ReplicatedOrders(database(env), [standby], utc_now)) as client:
        customer = Shop(client).customer()
        used_again(client)
        for cancelled, on_primary in ((1, 0), (2, 1), (0, 1)):
            cancelling.left = cancelled
            assert client.get(f"/customers/{customer}").status_code == 200
            assert ready(client)["reads_on_primary"] == on_primary and "reason" not in ready(client)


def refused(what: Callable[[], object]) -> str:
    with pytest.raises(Unusable) as caught:
        what()
    return str(caught.value)


def test_what_is_no_standby_of_this_database_is_refused_in_one_sentence(cluster: Cluster, postgres_url: str) -> None:
    assert refused(lambda: REPLICA.check(cluster.primary)) == (
        "REPLICA_URL leads to no standby: give the address of a streaming standby of the database at DATABASE_URL."
    )
    assert refused(lambda: REPLICA.follow(cluster.standby, postgres_url)) == (
        "The standby at REPLICA_URL is of another cluster than the database at DATABASE_URL: give one that follows it."
    )
    with cluster.far_behind():
        assert refused(lambda: REPLICA.follow(cluster.standby, cluster.primary, 0.2)) == (
            "The standby at REPLICA_URL has not replayed within 0.2 s what was written to the database at DATABASE_URL:"
            " start its replication, or give one that follows it."
        )
    assert refused(lambda: REPLICA.check("postgresql://nobody@127.0.0.1:1/x")).startswith("REPLICA_URL cannot be reach")
    with Processes() as other:
        assert refused(lambda: REPLICA.start(other)) == (
            "Set REPLICA_URL too: a private standby follows a private primary only."
        )


def test_a_promoted_standby_is_not_read_from_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, "crud_impl.standby.PROBE_EVERY_S", *SLOWNESS)  # only the reads themselves notice
    with Processes() as processes:
        cluster = Cluster(processes)
        rung("replica").prepare(cluster.env())
        with client_of(rung("replica").system(cluster.env())) as client:
            customer = Shop(client).customer()
            used_again(client)
            assert cluster.tell("SELECT pg_promote()") == (True,)
            cluster.tell(f"DELETE FROM {cluster.namespace}.customers RETURNING id")
            assert client.get(f"/customers/{customer}").status_code == 200
            assert ready(client)["reason"].startswith("Reads go to the primary: it was promoted")
            assert ready(client)["reads_on_primary"] == 1
        assert refused(lambda: REPLICA.check(cluster.standby)).startswith("REPLICA_URL leads to no standby")


def test_a_token_outlives_a_restart_of_the_primary_and_not_a_restore_which_leaves_the_standby_ahead() -> None:
    with Processes() as processes:
        cluster = Cluster(processes)
        rung("replica").prepare(cluster.env())
        with client_of(rung("replica").system(cluster.env())) as client:
            used_again(client)

            def write() -> tuple[str, dict[str, str]]:
                written = client.put(f"/customers/{fresh_id()}", json={"name": "Ada" * 60})
                token = written.headers["consistency-token"]
                return written.headers["location"], {"Consistency-Token": token, "Prefer": "wait=5"}

            def begin_again() -> None:
                POSTGRES.restart(processes, durability="none")
                wait_until(lambda: client.get("/health").status_code == client.get("/ready").status_code == 200)

            where, token = write()
            processes.stop(POSTGRES.name)
            copy = POSTGRES.copy_data(processes)
            begin_again()
            wait_until(lambda: client.get(where, headers=token).status_code == 200)
            for _ in range(50):
                lost, of_before = write()
            used_again(client)
            processes.stop(POSTGRES.name)
            POSTGRES.put_data(processes, copy)
            begin_again()
            reason = "it was ahead of the primary, so copy it anew and start this service again"
            wait_until(lambda: ready(client).get("reason") == f"Reads go to the primary: {reason}.")
            assert refused(lambda: REPLICA.follow(cluster.standby, cluster.primary)) == (
                "The standby at REPLICA_URL is ahead of the database at DATABASE_URL, so it follows another history of"
                " it: copy it anew with pg_basebackup."
            )
            for _ in range(100):  # the log is longer again than the token says
                write()
            assert client.get(where, headers=token).status_code == 200
            refusal = client.get(lost, headers=of_before)
            assert refusal.status_code == 503 and refusal.json()["type"] == "urn:crossover:behind"
            assert client.get(lost).status_code == 404
