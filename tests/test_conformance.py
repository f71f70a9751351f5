"""Conformance: targets that answer the same pass, and a target that tells one lie is found and named."""

from collections.abc import Callable

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from loadtests import conformance
from loadtests.dataset import Dataset
from loadtests.fill import fill
from loadtests.format import Conformance
from loadtests.http import HttpClient
from tests import load_targets as targets
from tests.load_targets import Ask, Lie, answering, lying, serving

DATA = Dataset(3, 20, 10, 30)


def conform(*urls: str, one_clock: bool = False) -> Conformance:
    named = [(name, HttpClient(url)) for name, url in zip("ab", urls, strict=False)]
    return conformance.check(named, seed=1, nonce=f"run {one_clock}", one_clock=one_clock)


def test_targets_that_answer_the_same_conform_whatever_else_they_hold() -> None:
    with serving(targets.honest(), targets.honest()) as (one, other):
        fill(HttpClient(one), DATA)
        verdict = conform(one, other)
        assert verdict.ok, verdict.first_difference
        assert verdict.operations > 400 and verdict.tempos == ("settled", "burst")


@pytest.mark.parametrize(
    "lie",
    [
        targets.wrong_total,
        targets.other_order_of_bytes,
        targets.white_space,
        targets.wrong_stock,
        targets.wrong_spending,
        targets.unpaid,
        targets.wrong_day,
        targets.wrong_top,
        targets.found_nothing,
        targets.other_code,
    ],
)
def test_one_lie_is_found_and_reported_readably(lie: Lie) -> None:
    with serving(targets.honest(), targets.lying(lie)) as (one, other):
        verdict = conform(one, other)
    assert not verdict.ok
    first = verdict.first_difference
    assert first is not None and first.startswith("settled: ")
    assert "a answered" in first and "but b answered" in first and len(first) < 800 and "\n" not in first


@pytest.mark.parametrize("lie", [targets.wrong_time, targets.other_cursor])
def test_with_one_clock_times_and_cursors_count_too(lie: Lie) -> None:
    steps = targets.steps
    with serving(targets.honest(steps()), targets.lying(lie, steps())) as (one, lying):
        assert not conform(one, lying, one_clock=True).ok


def test_without_one_clock_times_are_left_aside() -> None:
    steps = targets.steps
    with serving(targets.honest(steps()), targets.honest(steps()), targets.lying(targets.wrong_time)) as urls:
        assert conform(*urls[:2], one_clock=True).first_difference is None
        assert conform(urls[0], urls[2]).first_difference is None


def refusing(status: int, asked: str, /, **problem: object) -> ASGIApp:
    """Answers these requests with one refusal."""
    body, headers = msgspec.json.encode(problem), {"content-type": "application/problem+json"}

    async def refuse(request: Request, ask: Ask) -> Response:
        mine = f"{request.method} {request.url.path}".startswith(asked)
        return Response(body, status, headers) if mine else await ask(request)

    return answering(refuse)


AWAY = {"type": "urn:crossover:unavailable", "status": 503}
WRONG_ALIKE: dict[str, tuple[Callable[[], ASGIApp], str]] = {
    "every search is a 503": (lambda: refusing(503, "GET /search", **AWAY), "503 unavailable, not 200"),
    "no order is placed": (lambda: refusing(500, "PUT /orders", title="?"), "500 None in another form, not 201"),
    "another status in the body": (lambda: refusing(404, "DELETE", **AWAY), "404 unavailable in another form, not 405"),
    "another code": (lambda: lying(targets.other_code), "409 conflict, not 200 or 409 wrong-state"),
    "white space": (lambda: lying(targets.white_space), "201 in another form, not 201"),
    "another order of fields": (lambda: lying(targets.other_order_of_bytes), "201 in another form, not 201"),
    "a line break": (lambda: lying(lambda what, status, body: body + b"\r\n"), "201 in another form, not 201"),
    "no JSON": (lambda: lying(targets.replacing(rb"(?s).+", b"<html>", asked="GET /orders")), "without a JSON object"),
    "a redirect": (lambda: refusing(307, "PUT /customers"), "307 None in another form, not 201"),
}


@pytest.mark.parametrize("what", WRONG_ALIKE)
def test_what_is_wrong_on_all_sides_alike_is_wrong(what: str) -> None:
    make, told = WRONG_ALIKE[what]
    with serving(make(), make()) as (one, other):
        verdict = conform(one, other)
    assert not verdict.ok and verdict.first_difference is not None
    assert told in verdict.first_difference and "\n" not in verdict.first_difference
