"""Every rung answers the conversation of the conformance check with the bytes of `crud`, times and cursors included."""

from typing import Any

import msgspec
import pytest

from ladder.environment import LEVELS
from ladder.rung import rungs
from loadtests.conformance import check
from loadtests.history import Entry
from loadtests.http import HttpClient
from loadtests.oracle import Oracle, judge_everything
from loadtests.script import Script
from tests.conftest import SYSTEMS

REFERENCE = "crud"
CLOCK = "step:2026-01-01T23:59:59.985000Z"  # the conversation passes midnight, so that there are two days to report


def compared_with_crud(level: str) -> Any:
    """All of one level at once. Of another than the first, in the long form, a rung for each set of servers: its level
    is in the clients of servers alone, and `test_model` holds every rung at every level to the model."""
    others = [one for one in SYSTEMS if one[1] == level and one != (REFERENCE, LEVELS[0])]
    if level != LEVELS[0]:
        others = [*{rungs()[one[0]].servers: one for one in reversed(others)}.values()][::-1]
    marks = [pytest.mark.long] if level != LEVELS[0] else []
    return pytest.param(others, marks=marks, id="-".join([level, *(rung for rung, _ in others)]))


@pytest.mark.parametrize("others", map(compared_with_crud, LEVELS))
def test_every_rung_answers_with_the_bytes_of_crud(others: list[tuple[str, str]], fresh_target: Any) -> None:
    compared = [fresh_target(REFERENCE, CLOCK), *(fresh_target(rung, CLOCK, clients) for rung, clients in others)]
    targets = [(target.name, HttpClient(target.url)) for target in compared]
    verdict = check(targets, seed=1, nonce="same bytes", one_clock=True)
    assert verdict.ok, verdict.first_difference
    assert verdict.operations > 550


def test_what_crud_answers_is_what_the_conversation_demands(fresh_target: Any) -> None:
    """In case every rung is wrong alike: the oracle reckons without any code of theirs."""
    script, client = Script(1, "same bytes", "settled"), HttpClient(fresh_target(REFERENCE, CLOCK).url)
    oracle = Oracle(client)
    for number, step in enumerate(script.commands()):
        answer = client.request(step.method, step.path, step.body, dict(step.headers))
        if step.name and answer.status not in (400, 415) and "not-an-id" not in step.path:
            version = msgspec.json.decode(answer.body).get("version")
            body = msgspec.json.decode(step.body) if step.body else {}
            oracle.record([Entry(step.name, step.path.lower(), answer.status, number, number + 0.5, body, version)])
    words = (script.word, "birne", "tea")
    evidence = oracle.ask_everything(words)
    assert judge_everything(oracle.history, evidence, words) == ([], 0)
    assert len(msgspec.json.decode(evidence.answers["/reports/daily-sales?days=366"].body)["days"]) == 2
