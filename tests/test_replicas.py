"""`--replicas`: reads are spread over the standbys that may be read from, and one that is gone leaves the others."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from contract.messages import Query, QueryResult
from contract.position import Position
from crossover.errors import UserError
from crossover.urls import every_server
from crossover.variants import in_variants
from crud_impl.standby import Standby
from ladder.environment import NAMESPACE, Environment
from ladder.rung import rung
from loadtests.conformance import check
from loadtests.http import HttpClient
from servers.postgres import POSTGRES
from servers.replica import REPLICAS
from servers.server import Unusable
from servers.supervisor import Processes
from tests.conftest import Targets
from tests.family import killed
from tests.service import PATIENCE_S, Shop, client_of, fresh_id, patient, wait_until
from tests.test_replica import SLOWNESS

TWO = rung("replica:2")


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


@pytest.fixture(scope="module")
def urls(processes: Processes) -> dict[str, str]:
    try:
        return {server.name: server.start(processes, durability="none") for server in TWO.servers}
    except Unusable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many reads each standby was asked for."""
    counter, answer = Counter[str](), Standby.answer

    async def counted(self: Standby, query: Query, wanted: Position | None) -> QueryResult:
        counter[self.name] += 1
        return await answer(self, query, wanted)

    monkeypatch.setattr(Standby, "answer", counted)
    return counter


def test_each_of_two_standbys_answers_half_and_one_that_is_gone_leaves_the_other(
    processes: Processes, urls: dict[str, str], asked: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, *SLOWNESS)
    variables = {server.variable: urls[server.name] for server in TWO.servers}
    env = Environment(variables | {NAMESPACE: "crossover_test_replicas"})
    TWO.prepare(env)
    with client_of(TWO.system(env)) as client, ExitStack() as behind:

        def ready() -> dict[str, Any]:
            return dict(client.get("/ready").json())

        wait_until(lambda: "reason" not in ready())
        customer = f"/customers/{Shop(client).customer()}"
        wait_until(lambda: client.get(customer).status_code == 200 and ready()["lag_bytes"] == 0)
        asked.clear()
        for _ in range(20):
            written = client.put(f"/customers/{fresh_id()}", json={"name": "Ada"})
            token = {"Consistency-Token": written.headers["consistency-token"], "Prefer": "wait=5"}
            assert client.get(written.headers["location"], headers=token).status_code == 200
        assert min(asked["replica"], asked["replica_2"]) >= 10 and ready()["reads_on_primary"] == 0

        killed(REPLICAS[1].process_ids(processes))
        processes.wait(lambda: "replica_2" in processes.ended, "its end", PATIENCE_S)
        assert all(client.get(customer).status_code == 200 for _ in range(10))
        assert ready()["reason"].startswith("Reads go to the other standbys: replica_2: ")
        asked.clear()
        assert all(client.get(customer).status_code == 200 for _ in range(10))
        assert asked == {"replica": 10} and ready()["reads_on_primary"] == 0

        REPLICAS[1].restart(processes, durability="none")
        wait_until(lambda: "reason" not in ready())
        monkeypatch.setattr("crud_impl.standby.LAG_S_MAX", 0.5)
        for replica in REPLICAS[:2]:
            behind.enter_context(replica.falling_behind(processes))

        def both_behind() -> bool:
            client.put(f"/customers/{fresh_id()}", json={"name": "Ada"})
            return str(ready().get("reason")).count(" bytes behind") == 2

        wait_until(both_behind)
        assert ready()["reason"].startswith("Reads go to the primary: replica: it is ")
        assert client.get(customer).status_code == 200 and ready()["reads_on_primary"] == 1
        behind.close()
        wait_until(lambda: "reason" not in ready())


@pytest.mark.long
def test_two_standbys_answer_with_the_bytes_of_crud(processes: Processes, urls: dict[str, str]) -> None:
    targets = Targets(processes, lambda server: urls[server.name])
    try:
        both = [targets.start("crud"), targets.start("replica:2")]
        verdict = check([(each.name, HttpClient(each.url)) for each in both], seed=1, nonce="replicas")
        assert verdict.ok, verdict.first_difference
    finally:
        targets.close()


def test_each_standby_is_a_server_of_its_own() -> None:
    assert [server.name for server in rung("replica:3").servers] == ["postgres", "replica", "replica_2", "replica_3"]
    assert rung("replica:1").servers == rung("replica").servers and len(rung("replica:4").servers) == 5
    assert [every_server()[name].variable for name in ("replica", "replica_4")] == ["REPLICA_URL", "REPLICA_4_URL"]
    with Processes() as other, pytest.raises(Unusable, match="Set REPLICA_2_URL too: a private standby follows"):
        REPLICAS[1].start(other)
    with pytest.raises(Unusable, match="Set REPLICA_2_URL: this rung needs PostgreSQL standby 2"):
        Environment({POSTGRES.variable: "", "REPLICA_URL": "there"}).url(REPLICAS[1])


def chosen(words: str, *declared: str) -> str:
    return " ".join(in_variants(words.split(), lambda _: declared))


def test_the_option_of_a_rung_chooses_its_variant_wherever_it_is_named() -> None:
    assert chosen("compare --rungs crud,orm --orm naive") == "compare --rungs crud,orm:naive"
    assert chosen("compare --rungs=crud,replica --replicas=2") == "compare --rungs=crud,replica:2"
    assert chosen("serve orm --orm naive") == "serve orm:naive" and chosen("serve orm --seed 1") == "serve orm --seed 1"
    assert chosen("plan replica --replicas 2", "--replicas") == "plan replica --replicas 2"
    several = "serve broker --projectors 2 --transport redis-streams --partitions=4"
    assert chosen(several) == "serve broker:redis-streams-4-partitions-2-projectors"
    for words, sentence in (
        ("serve crud --orm naive", "--orm is for the rung orm, which was not asked for: name it, or leave --orm out."),
        ("serve replica:3 --replicas=2", "--replicas is for the rung replica, which was not asked for: name it, or"),
        ("serve replica --replicas 5", "There is no --replicas '5': choose one of 1, 2, 3, 4."),
        ("serve orm --orm", "There is no --orm '': choose one of naive."),
        ("serve broker --partitions 3", "There is no --partitions '3': choose one of 1, 2, 4, 8."),
    ):
        with pytest.raises(UserError) as caught:
            chosen(words)
        assert str(caught.value).startswith(sentence)
