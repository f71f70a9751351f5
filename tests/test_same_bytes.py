"""Every rung answers the conversation of the conformance check with the bytes of `crud`, times and cursors included."""

from operator import itemgetter
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


FIRST = ("views", "cqrs", "event_sourced")  # tables, documents, events; `test_model` holds every rung to the model


def compared_with_crud(level: str) -> Any:
    """All of one level at once: of the first those that answer in a way of their own, and in the long form the others;
    of another level a rung for each set of servers, as a level is in the clients of servers alone."""
    others = [one for one in SYSTEMS if one[1] == level and one != (REFERENCE, LEVELS[0])]
    if level != LEVELS[0]:
        return [[*{rungs()[one[0]].servers: one for one in reversed(others)}.values()][::-1]]
    return [[one for one in others if (one[0] in FIRST) == first] for first in (True, False)]


COMPARED = [
    pytest.param(
        others, marks=[pytest.mark.long] * (number > 0), id="-".join([others[0][1], *map(itemgetter(0), others)])
    )
    for number, others in enumerate(others for level in LEVELS for others in compared_with_crud(level) if others)
]


@pytest.mark.parametrize("others", COMPARED)
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
