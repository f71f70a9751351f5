"""Each step of the ladder is one idea: small, and from a parent that exists."""

import pytest

from crossover.ladder_view import rung_diff
from crossover.targets import target_env
from ladder.environment import Environment
from ladder.rung import on_each_server, rung, rungs
from servers.server import Server

LINES_MAX = 16  # a step that changes more lines than this is two steps, or needs better parts


@pytest.mark.parametrize("name", rungs())
def test_a_rung_says_its_one_idea_and_its_cost_and_has_a_parent_before_it(name: str) -> None:
    one, ladder = rung(name), list(rungs())
    assert one.name == name
    assert one.idea.endswith(".") and one.cost.endswith(".")
    if one.parent is not None:
        assert ladder.index(one.parent) < ladder.index(name)


@pytest.mark.parametrize("name", rungs())
def test_the_servers_of_a_rung_are_servers_and_its_workers_those_it_names(name: str) -> None:
    one = rung(name)
    assert all(isinstance(server, Server) for server in one.servers)
    addresses = {
        "postgres": "postgresql://a@127.0.0.1:1/b",
        "redis": "redis://127.0.0.1:1",
        "cache": "redis://127.0.0.1:1",
        "streams": "redis://127.0.0.1:1",
        "replica": "postgresql://a@127.0.0.1:1/b",
        "opensearch": "http://127.0.0.1:1",
    }  # nobody is asked
    env = Environment(target_env(name, addresses, namespace="crossover_test"))
    assert tuple(one.workers(env)) == one.worker_names


@pytest.mark.parametrize("name", [name for name in rungs() if rung(name).parent])
def test_a_step_of_the_ladder_is_small(name: str) -> None:
    changes = rung_diff(name).splitlines()
    changed = [line for line in changes if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))]
    assert 0 < len(changed) <= LINES_MAX, "\n".join(changed)


def test_a_rung_is_tortured_once_over_each_server_that_can_take_the_place_of_one_of_its_own() -> None:
    assert on_each_server(rung("broker")) == ["broker", "broker:rabbitmq", "broker:kafka"]
    assert on_each_server(rung("replica")) == ["replica"], "another standby takes nobody's place"
    assert all(on_each_server(one)[0] == name for name, one in rungs().items())
