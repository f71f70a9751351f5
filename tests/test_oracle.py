"""The oracle passes honest targets, and catches every lie about what was acknowledged and what is shown."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
import pytest

from loadtests.dataset import Dataset
from loadtests.fill import fill
from loadtests.format import Ledger
from loadtests.history import Effect, Entry, History, may_hold
from loadtests.http import HttpClient, HttpResponse
from loadtests.judge import counts_that_sum_to, judge_rebuild
from loadtests.operations import OperationStream
from loadtests.oracle import Evidence, NotFilled, Oracle, judge_everything
from loadtests.sessions import judge_sessions, judge_statuses
from loadtests.workload import load
from tests import load_targets as targets
from tests.load_targets import Lie, serving

DATA = Dataset(3, 20, 10, 30)
ANN, TEA, FIRST, SECOND, REFUSED = (f"{n * 8}-{n * 4}-4{n * 3}-8{n * 3}-{n * 12}" for n in "12345")
ORDER, HISTORY = f"/orders/{FIRST}", f"/orders/{FIRST}/history"
CUSTOMER, PRODUCT, LIST = f"/customers/{ANN}", f"/products/{TEA}", f"/customers/{ANN}/orders"
TOP, DAYS, SEARCH = "/reports/top-products?limit=100", "/reports/daily-sales?days=366", "/search/orders?q=tea&limit=100"
WORDS = ("tea", "Eva")
GONE = HttpResponse(404, {}, b"")


def entry(name: str, path: str, status: int = 200, /, *, at: float, version: int | None = None, **body: Any) -> Entry:
    return Entry(name, path, status, at, at + 0.5, body, version, "a", True)


LINES = [{"product_id": TEA, "quantity": 2}]
STORY = [
    entry("register", CUSTOMER, 201, at=1, version=1, name="Ada 1"),
    entry("add_product", PRODUCT, 201, at=2, version=1, name="tea 2", price_cents=7, stock=9),
    entry("deliver", f"{PRODUCT}/deliveries/{SECOND}", 201, at=3, version=2, quantity=5),
    entry("place", ORDER, 201, at=4, version=1, customer_id=ANN, lines=LINES),
    entry("place", f"/orders/{SECOND}", 503, at=5, customer_id=ANN, lines=LINES),
    entry("place", f"/orders/{REFUSED}", 422, at=6, customer_id=TEA, lines=LINES),
    entry("pay", f"{ORDER}/pay", at=7, version=2),
    entry("rename", f"{CUSTOMER}/rename", at=8, version=2, name="Eva 3"),
    entry("reprice", f"{PRODUCT}/reprice", at=9, version=3, price_cents=8),
    entry("order", ORDER, at=10, version=2),
]


@dataclass
class Story:
    """What clients sent and what the target shows of it, to be altered by a lie."""

    entries: list[Entry]
    answers: dict[str, HttpResponse]
    repeats: dict[Effect, HttpResponse]
    rebuilt: dict[str, HttpResponse] = field(default_factory=dict)

    def findings(self) -> set[str]:
        history = History()
        history.record(self.entries)
        found, _ = judge_everything(history, Evidence(self.answers, self.repeats), WORDS)
        found += [*judge_sessions(self.entries)[0], *judge_statuses(self.entries)]
        return {finding.kind for finding in found + judge_rebuild(self.answers, self.rebuilt or self.answers)}


@cache
def honest() -> Story:
    """The commands sent to a real service, and what it answers: at first that it is busy, which is asked again."""
    with serving(targets.busy_when_asked()) as (url,):
        client, oracle = HttpClient(url), Oracle(HttpClient(url))
        oracle.record(STORY)
        for sent in STORY:
            if sent.name != "order":
                method = "PUT" if sent.name in ("register", "add_product", "deliver", "place") else "POST"
                answer = client.request(method, sent.path, msgspec.json.encode(sent.body))
                assert answer.status == (201 if sent.status == 503 else sent.status)
        evidence = oracle.ask_everything(WORDS)
    return Story(STORY, evidence.answers, evidence.repeats)


def a_story() -> Story:
    return Story([*STORY], {**honest().answers}, {**honest().repeats})


def test_an_honest_history_is_clean_and_its_unknown_is_resolved() -> None:
    assert a_story().findings() == set()
    history = History()
    history.record(STORY)
    assert judge_everything(history, Evidence(honest().answers, honest().repeats), WORDS) == ([], 1)
    assert len(honest().repeats) == 4


Tell = Callable[[Story], object]


def shown(path: str, *fields: Any) -> Any:
    """What the honest service shows, or one part of it."""
    found = msgspec.json.decode(honest().answers[path].body)
    for field_ in fields:
        found = found[field_]
    return found


def show(path: str, other: str | None = None, *, status: int = 200, body: bytes = b"{}") -> Tell:
    """The answer of another path, or this one."""
    return lambda t: t.answers.update({path: t.answers[other] if other else HttpResponse(status, {}, body)})


def edit(path: str, **fields: Any) -> Tell:
    return lambda t: t.answers.update({path: HttpResponse(200, {}, msgspec.json.encode(shown(path) | fields))})


def replace(path: str, old: str, new: str) -> Tell:
    def tell(t: Story) -> None:
        body = t.answers[path].body.replace(old.encode(), new.encode(), 1)
        assert body != t.answers[path].body, "the lie changes something"
        t.answers[path] = HttpResponse(200, {}, body)

    return tell


def priced(cents: int) -> Tell:
    """Consistent in itself: only the prices that the product had tell it."""
    fields = {"unit_price_cents": cents, "amount_cents": 2 * cents}
    return lambda t: edit(ORDER, lines=[shown(ORDER, "lines", 0) | fields], total_cents=2 * cents)(t)


def sent(name: str, path: str, status: int = 200, /, **fields: Any) -> Tell:
    return lambda t: t.entries.append(entry(name, path, status, at=11, **fields))


def repeated(name: str, id: str, status: int, version: int) -> Tell:
    body = msgspec.json.encode({"id": id, "version": version})
    return lambda t: t.repeats.update({Effect(name, id): HttpResponse(status, {}, body)})


def rebuilt(path: str, other: HttpResponse | None = None) -> Tell:
    return lambda t: t.rebuilt.update(t.answers | {path: other or t.answers[PRODUCT]})


LIES: dict[str, tuple[str, Tell]] = {
    # what was acknowledged, refused or never sent
    "an acknowledged order is gone": ("lost", show(ORDER, status=404)),
    "an acknowledged payment is gone": ("lost", edit(ORDER, status="placed", version=1)),
    "an acknowledged delivery is gone": ("differing", edit(PRODUCT, stock=0, version=2)),
    "an acknowledged rename is gone": ("lost", edit(CUSTOMER, name="Ada 1", version=1)),
    "a rename was overwritten": ("lost", edit(CUSTOMER, name="Ada 1")),
    "two renames got one version": ("lost", sent("rename", f"{CUSTOMER}/rename", version=2, name="Eva 4")),
    "a refused order is there": ("phantom", show(f"/orders/{REFUSED}", ORDER)),
    "an order nobody sent is there": ("phantom", lambda t: t.entries.pop(4)),
    "a payment nobody sent is there": ("phantom", lambda t: t.entries.pop(6)),
    "a payment of no order was accepted": ("phantom", sent("pay", f"/orders/{ANN}/pay", version=2)),
    "a change counted twice": ("duplicate", edit(CUSTOMER, version=3)),
    "a delivery counted twice": ("differing", edit(PRODUCT, stock=15, version=4)),
    "a delivery counted twice in the version alone": ("duplicate", edit(PRODUCT, version=4)),
    # what the shop adds up to
    "stock was taken twice": ("differing", edit(PRODUCT, stock=8)),
    "stock is negative": ("differing", edit(PRODUCT, stock=-1)),
    "more is sold than was ordered": ("differing", edit(PRODUCT, sold=5)),
    "an order was altered": ("differing", replace(ORDER, '"quantity":2', '"quantity":3')),
    "an order is another customer's": ("differing", replace(ORDER, f'"id":"{ANN}"', f'"id":"{TEA}"')),
    "an order has a price that was never set": ("differing", priced(9)),
    "an order has a price that was set later": ("differing", priced(8)),
    "an order's total is no sum": ("differing", edit(ORDER, total_cents=15)),
    "an order is in no state": ("differing", edit(ORDER, version=7)),
    # what queries show, byte for byte
    "a view is missing": ("lost", show(HISTORY, status=404)),
    "a view of nothing": ("phantom", show(f"/orders/{REFUSED}/history", HISTORY)),
    "a document is unreadable": ("differing", show(CUSTOMER)),
    "white space": ("differing", replace(CUSTOMER, ":", ": ")),
    "an order shows an old name": ("differing", replace(ORDER, "Eva 3", "Ada 1")),
    "a history skips a version": ("differing", replace(HISTORY, '"version":2', '"version":3')),
    "a history shows another change": ("differing", replace(HISTORY, '"paid"', '"cancelled"')),
    "a history lost a change": ("differing", lambda t: edit(HISTORY, changes=shown(HISTORY, "changes")[:1])(t)),
    "a customer's total is wrong": ("differing", edit(CUSTOMER, spent_cents=7)),
    "a customer's last order is another": ("differing", edit(CUSTOMER, last_order_at=None)),
    "a list lacks an order": ("differing", edit(LIST, orders=[])),
    "the best products are wrong": ("differing", replace(TOP, '"sold":4', '"sold":3')),
    "a day's sales are wrong": ("differing", replace(DAYS, '"orders":2', '"orders":3')),
    "a search finds too little": ("differing", edit(SEARCH, orders=[])),
    "the read side is gone": ("trouble", show(LIST, status=503)),
    # what the write side holds
    "the write side lost what reads show": ("lost", repeated("place", FIRST, 201, 1)),
    "the write side is at another version": ("differing", repeated("register", ANN, 200, 9)),
    "the write side does not know a repeat": ("differing", repeated("place", FIRST, 409, 2)),
    # what a rebuild from the events shows
    "an event is missing": ("differing", rebuilt(ORDER, GONE)),
    "an event has other content": ("differing", rebuilt(CUSTOMER)),
    # what clients saw meanwhile
    "a read went back despite its token": ("stale", sent("order", ORDER, version=1)),
    "what was read is gone despite its token": ("stale", sent("order", ORDER, 404, version=0)),
    "an answer that is none of the contract's": ("trouble", sent("order", ORDER, 500)),
    "negative lag": ("trouble", sent("ready", "/ready", version=-1)),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_caught(lie: str, summary: list[str]) -> None:
    kind, tell = LIES[lie]
    story = a_story()
    tell(story)
    found = story.findings()
    assert kind in found, found
    summary.append(f"oracle: {lie}: {kind}")


def test_a_value_may_hold_until_another_was_surely_set() -> None:
    def reprice(cents: int, sent_s: float, done_s: float, status: int = 200) -> Entry:
        return Entry("reprice", f"{PRODUCT}/reprice", status, sent_s, done_s, {"price_cents": cents})

    two, three, unknown = reprice(2, 1, 2), reprice(3, 3, 4), reprice(9, 5, 6, 503)
    changes = [two, three, unknown]
    assert may_hold(1, changes, 0, 0.5) == {1}
    assert may_hold(1, changes, 1.5, 1.7) == {1, 2}
    assert may_hold(1, changes, 2.5, 3.5) == {2, 3}
    assert may_hold(1, changes, 4.5, 4.6) == {3}
    assert may_hold(1, changes, 99, 99) == {3, 9}
    assert may_hold(1, [two, reprice(4, 1.5, 2.5)], 3, 3) == {2, 4}, "they overlapped"


def test_unknown_deliveries_explain_a_stock_only_if_some_of_them_add_up_to_it() -> None:
    assert counts_that_sum_to([], 0) == [0] and counts_that_sum_to([], 1) == []
    assert counts_that_sum_to([5, 5, 7], 12) == [2] and counts_that_sum_to([2, 3, 5], 5) == [1, 2]
    assert counts_that_sum_to([5, 7], 6) == [] and counts_that_sum_to([5, 7], -5) == []


# Under load: orders and watched resources only.


def verified(url: str, lose: float = 0.0) -> Ledger:
    """Fills, plays a few rounds one operation after the other, and verifies.

    A share `lose` of the answers never reaches the client, which then cannot know what came of them.
    """
    client, rng = HttpClient(url), random.Random(1)
    fill(client, DATA)
    oracle, stream, now_s = Oracle(client), OperationStream(DATA, load("shop"), "ledger"), 0.0
    oracle.baseline(*stream.watched(500))
    for number in range(6):
        for operation in stream.round(30, number, slice_s=0.5).operations:
            status = client.request(operation.method, operation.path, operation.body).status
            if operation.kind == "write":
                body = msgspec.json.decode(operation.body or b"{}")
                status = 0 if rng.random() < lose else status
                oracle.record([Entry(operation.name, operation.path, status, now_s, now_s + 0.5, body)])
                now_s += 1
    return oracle.verify()


@pytest.mark.parametrize(("lose", "unknown"), [(0.0, range(1)), (0.3, range(51, 200))])
def test_the_ledger_of_an_honest_target_balances_and_lost_answers_resolve_to_what_happened(
    lose: float, unknown: range
) -> None:
    with serving(targets.honest()) as (url,):
        verdict = verified(url, lose=lose)
    assert verdict.ok and verdict.first is None, verdict.first
    assert (verdict.lost, verdict.phantom, verdict.differing) == (0, 0, 0) and verdict.unknown in unknown
    assert verdict.operations == verdict.acknowledged + verdict.unknown > 200


def shrinking_stock() -> Lie:
    placed = [0]

    def lie(asked: str, status: int, body: bytes) -> bytes:
        placed[0] += asked.startswith("PUT /orders/")
        return targets.wrong_stock(asked, status, body) if placed[0] > DATA.size.orders else body

    return lie


@pytest.mark.parametrize(
    ("app", "kind", "says"),
    [
        (lambda: targets.lying(targets.wrong_price), "differing", "its price was"),
        (lambda: targets.lying(targets.wrong_spending), "differing", "spent_cents is 7"),
        (lambda: targets.lying(shrinking_stock()), "differing", "stock is"),
        (lambda: targets.forgetting(every=40), "lost", "was acknowledged"),
        (lambda: targets.two_faced(every=40), "phantom", "was refused"),
    ],
)
def test_a_lie_under_load_is_found_and_named(app: Callable[[], Any], kind: str, says: str) -> None:
    with serving(app()) as (url,):
        verdict = verified(url)
    assert not verdict.ok and getattr(verdict, kind) > 0
    assert verdict.first is not None and says in verdict.first


def test_a_target_without_the_data_of_the_run_is_refused() -> None:
    with serving(targets.honest()) as (url,):
        with pytest.raises(NotFilled, match="does not hold the data of this run"):
            Oracle(HttpClient(url)).baseline([DATA.customer_id(0)], [])
