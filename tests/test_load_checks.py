"""Conformance and ledger: they pass honest targets, and a target that tells one lie is caught by name."""

import random

import pytest

from loadtests import conformance
from loadtests.dataset import Dataset
from loadtests.fill import fill
from loadtests.http import HttpClient
from loadtests.ledger import Ledger, NotFilled, Verdict
from loadtests.operations import Operation, OperationStream, outcome_of
from loadtests.workload import load
from tests import load_targets as targets
from tests.load_targets import Lie, serving

DATA = Dataset(3, 20, 10, 30)


def kept_books(url: str, lose: float = 0.0) -> Verdict:
    """Fills, plays a few rounds one operation after the other, and closes the books.

    A share `lose` of the answers never reaches the client, which then cannot know what came of them.
    """
    client, rng = HttpClient(url), random.Random(1)
    fill(client, DATA)
    ledger, stream = Ledger(client), OperationStream(DATA, load("shop"), "books")
    ledger.open(*stream.watched(500))
    for number in range(6):
        outcomes = []
        for operation in stream.round(30, number, slice_s=0.5).operations:
            answer = client.request(operation.method, operation.path, operation.body)
            lost = rng.random() < lose
            if operation.kind == "write":
                outcomes.append((operation, "error" if lost else outcome_of(answer.status)))
        ledger.record(outcomes)
    return ledger.close()


def test_the_books_of_an_honest_target_balance() -> None:
    with serving(targets.honest()) as (url,):
        verdict = kept_books(url)
    assert verdict.ok and verdict.first is None
    assert verdict.operations == verdict.acknowledged > 200
    assert (verdict.lost, verdict.phantom, verdict.differing, verdict.unknown) == (0, 0, 0, 0)


def test_lost_answers_resolve_to_what_happened() -> None:
    with serving(targets.honest()) as (url,):
        verdict = kept_books(url, lose=0.3)
    assert verdict.ok, verdict.first
    assert verdict.unknown > 50


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (targets.wrong_total, "its lines add up to"),
        (targets.wrong_price, "its price was"),
        (targets.unpaid, "the acknowledged commands make it"),
        (targets.wrong_spending, "spent_cents is 7"),
    ],
)
def test_a_lie_about_content_is_differing(lie: Lie, says: str) -> None:
    with serving(targets.lying(lie)) as (url,):
        verdict = kept_books(url)
    assert not verdict.ok and verdict.differing > 0 and verdict.lost == 0
    assert verdict.first is not None and says in verdict.first


def test_stock_that_goes_astray_is_differing() -> None:
    placed = [0]

    def shrinking(asked: str, status: int, body: bytes) -> bytes:
        placed[0] += asked.startswith("PUT /orders/")
        return targets.wrong_stock(asked, status, body) if placed[0] > DATA.size.orders else body

    with serving(targets.lying(shrinking)) as (url,):
        verdict = kept_books(url)
    assert verdict.differing > 0 and verdict.first is not None and "stock is" in verdict.first


def test_an_acknowledged_order_that_is_not_there_is_lost() -> None:
    with serving(targets.forgetting(every=40)) as (url,):
        verdict = kept_books(url)
    assert verdict.lost >= 1 and verdict.first is not None and "was acknowledged" in verdict.first


def test_a_refused_order_that_is_there_is_a_phantom() -> None:
    with serving(targets.two_faced(every=37)) as (url,):
        client = HttpClient(url)
        for index in range(40):  # as the fill would take a refusal for a failure, orders are placed here
            client.request("PUT", f"/customers/{DATA.customer_id(index % 20)}", b'{"name":"A"}')
        client.request("PUT", f"/products/{DATA.product_id(0)}", b'{"name":"P","price_cents":1,"stock":1000}')
        ledger = Ledger(client)
        body = b'{"customer_id":"%s","lines":[{"product_id":"%s","quantity":1}]}'
        filled_in = body % (DATA.customer_id(0).encode(), DATA.product_id(0).encode())
        for index in range(40):
            place = Operation(0, "place", "write", "PUT", f"/orders/{DATA.order_id(index)}", filled_in)
            ledger.record([(place, outcome_of(client.request("PUT", place.path, place.body).status))])
        verdict = ledger.close()
    assert (verdict.phantom, verdict.lost) == (1, 0)
    assert verdict.first is not None and "but the order was refused" in verdict.first


def test_a_target_without_the_data_of_the_run_is_told_so() -> None:
    with serving(targets.honest()) as (url,):
        with pytest.raises(NotFilled, match="does not hold the data of this run"):
            Ledger(HttpClient(url)).open([DATA.customer_id(0)], [])


def conform(*urls: str) -> conformance.Conformance:
    named = [(name, HttpClient(url)) for name, url in zip("ab", urls, strict=False)]
    return conformance.check(named, seed=1, nonce="run")


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
