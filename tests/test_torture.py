"""Under torture nothing is lost, and the judge that says so catches every lie it is told."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from crossover.progress import Steps
from crossover.torture.checker import (
    expected_answers,
    judge_commands,
    judge_events,
    judge_reads,
    judge_sessions,
    judge_truth,
)
from crossover.torture.history import Operation
from crossover.torture.run import Torturing, torture
from crossover.torture.stage import Stage
from crossover.torture.truth import Truth
from crossover.torture.wire import Reply
from servers.supervisor import Processes
from tests.family import GONE_S_MAX, descendants, folders_of, gone, reapers_of

ANN, TEA, FIRST, SECOND, GONE = (f"{digit}" * 8 for digit in "12345")
AT = "2026-11-23T09:30:00.000000Z"


@pytest.mark.parametrize(("rung", "seconds", "kinds"), [("crud", 8, 3), ("cqrs", 14, 4)])
def test_a_tortured_rung_loses_nothing(rung: str, seconds: int, kinds: int, tmp_path: Path) -> None:
    report = torture(rung, seconds=seconds, seed=4, faults="all", out=tmp_path / "out")
    assert report.clean, (tmp_path / "out" / "findings.jsonl").read_text()
    assert len(report.kinds) >= kinds and report.acknowledged > 100
    assert report.unknown > 0, "the faults are felt by the clients"
    kept = (tmp_path / "out" / "operations.jsonl").read_text().splitlines()
    assert len(kept) == report.operations


def test_lies_told_behind_the_back_of_a_real_system_are_found(tmp_path: Path) -> None:
    """Each lie is told to the stores of a system that was clean before, and the check names it."""

    def orders_gone(stage: Stage) -> None:
        (order,) = stage.sql("SELECT id::text FROM orders ORDER BY id LIMIT 1")
        for table, column in (("order_lines", "order_id"), ("orders", "id")):
            stage.sql(f"DELETE FROM {table} WHERE {column} = %(id)s", order)

    def event_dropped(stage: Stage) -> None:
        stage.sql("DELETE FROM outbox WHERE id = (SELECT max(id) FROM outbox WHERE body LIKE '%OrderPlaced%')")

    def document_altered(stage: Stage) -> None:
        with redis.Redis.from_url(stage.redis_url) as store:
            key = store.keys(f"{stage.namespace}:customer:*")[0]
            store.set(key, store.get(key).replace(b'"spent_cents":', b'"spent_cents":1'))

    async def told() -> dict[str, set[str]]:
        with Steps("test") as steps:
            torturing = Torturing(stage, 60, 1, ("flush",), steps)
            found: dict[str, set[str]] = {}
            try:
                await torturing.open()
                await torturing.load("quiet", [], 3)
                await torturing.check("quiet")
                found["truth"] = {f"{finding}" for finding in torturing.books.findings}
                for lie in (document_altered, event_dropped, orders_gone):
                    torturing.books.findings.clear()
                    lie(stage)
                    await torturing.check(lie.__name__)
                    found[lie.__name__] = {finding.kind for finding in torturing.books.findings}
            finally:
                stage.close()
            return found

    with Processes() as processes:
        stage = Stage(processes, "cqrs", "ladder.run")
        found = asyncio.run(told())
    assert found["truth"] == set()
    assert found["document_altered"] == {"differing"}
    assert found["event_dropped"] >= {"lost"}
    assert found["orders_gone"] >= {"lost", "phantom"}


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


def said(
    kind: str, id: str, *, status: int = 200, version: int | None = 1, client: str = "a", **more: Any
) -> Operation:
    return Operation(client, kind, id, 0.0, 0.1, status, version=version, **more)


def history() -> list[Operation]:
    order = {"customer_id": ANN, "lines": [{"product_id": TEA, "quantity": 2}]}
    return [
        said("register", ANN, body={"name": "Ada 1"}),
        said("add", TEA, body={"name": "tea 2", "price_cents": 7, "stock": 9}),
        said("deliver", TEA, value="d1", version=2, body={"quantity": 5}),
        said("place", FIRST, body=order),
        said("place", SECOND, body=order, status=503, version=None),
        said("place", GONE, body=order, status=409, version=None),
        said("pay", FIRST, version=2),
        said("rename", ANN, value="Eva 3", version=2, body={"name": "Eva 3"}),
        said("order", FIRST, version=2, tokens=True),
    ]


def truth() -> Truth:
    def order(id: str, paid: str | None) -> dict[str, Any]:
        version, status = (2, "paid") if paid else (1, "placed")
        line = {"product_id": TEA, "quantity": 2, "unit_price_cents": 7}
        times = {"placed_at": AT, "paid_at": paid, "shipped_at": None, "cancelled_at": None}
        first = {"id": id, "version": version, "status": status, "customer_id": ANN, "total_cents": 14}
        return first | times | {"lines": [line]}

    def event(stream: str, version: int, kind: str, **fields: Any) -> tuple[str, int, str]:
        return f"{stream}", version, json.dumps({"type": kind, "id": stream[-8:], "version": version, **fields})

    product = {"name": "tea 2", "price_cents": 7, "stock": 10, "added_price_cents": 7, "added_stock": 9}
    return Truth(
        {ANN: {"id": ANN, "version": 2, "name": "Eva 3", "registered_name": "Ada 1"}},
        {TEA: {"id": TEA, "version": 2} | product},
        {FIRST: order(FIRST, AT), SECOND: order(SECOND, None)},
        {(TEA, "d1"): 5},
        [
            event(f"customer-{ANN}", 1, "CustomerRegistered", name="Ada 1"),
            event(f"customer-{ANN}", 2, "CustomerRenamed", name="Eva 3"),
            event(f"product-{TEA}", 1, "ProductAdded", name="tea 2", price_cents=7, stock=9),
            event(f"product-{TEA}", 2, "StockDelivered", delivery_id="d1", quantity=5),
            event(f"order-{FIRST}", 1, "OrderPlaced", at=AT, total_cents=14),
            event(f"order-{FIRST}", 2, "OrderPaid", at=AT),
            event(f"order-{SECOND}", 1, "OrderPlaced", at=AT, total_cents=14),
        ],
    )


def judged(operations: list[Operation], held: Truth, answers: dict[str, Reply]) -> set[str]:
    expected = expected_answers(truth(), history(), ("Eva",))
    findings = [*judge_commands(operations, held), *judge_truth(operations, held), *judge_events(held)]
    findings += [*judge_reads(expected, answers), *judge_sessions(operations)[0]]
    return {finding.kind for finding in findings}


def right_answers() -> dict[str, Reply]:
    expected = expected_answers(truth(), history(), ("Eva",))
    return {path: Reply(404 if body is None else 200, {}, body or b"") for path, body in expected.items()}


def test_an_honest_history_is_clean() -> None:
    assert judged(history(), truth(), right_answers()) == set()


Lie = Callable[[list[Operation], Truth, dict[str, Reply]], object]
LIES: dict[str, tuple[str, Lie]] = {
    "an acknowledged order is gone": ("lost", lambda o, t, a: t.orders.pop(FIRST)),
    "an acknowledged payment is gone": ("lost", lambda o, t, a: t.orders[FIRST].update(paid_at=None)),
    "an acknowledged delivery is gone": ("lost", lambda o, t, a: t.deliveries.clear()),
    "a refused order is there": ("phantom", lambda o, t, a: t.orders.update({GONE: t.orders[SECOND] | {"id": GONE}})),
    "an order nobody sent is there": ("phantom", lambda o, t, a: o.pop(4)),
    "stock was taken twice": ("differing", lambda o, t, a: t.products[TEA].update(stock=8)),
    "a change counted twice": ("duplicate", lambda o, t, a: t.customers[ANN].update(version=3)),
    "an order was altered": ("differing", lambda o, t, a: t.orders[FIRST]["lines"][0].update(quantity=3)),
    "a rename was overwritten": ("lost", lambda o, t, a: t.customers[ANN].update(name="Ada 1")),
    "two renames got one version": (
        "lost",
        lambda o, t, a: o.append(said("rename", ANN, value="Eva 4", version=2, body={"name": "Eva 4"})),
    ),
    "an event is missing": ("lost", lambda o, t, a: t.events and t.events.pop(0)),
    "an event is there twice": ("lost", lambda o, t, a: t.events and t.events.append(t.events[-1])),
    "an event says something else": (
        "differing",
        lambda o, t, a: t.events and t.events.append((*t.events.pop()[:2], t.events[0][2])),
    ),
    "a view is missing": ("lost", lambda o, t, a: a.update({f"/orders/{FIRST}": Reply(404, {}, b"")})),
    "a view of nothing": ("phantom", lambda o, t, a: a.update({f"/orders/{GONE}": Reply(200, {}, b"{}")})),
    "a total is wrong": ("differing", lambda o, t, a: a.update({f"/customers/{ANN}": Reply(200, {}, b"{}")})),
    "the read side is gone": ("trouble", lambda o, t, a: a.update({f"/customers/{ANN}": Reply(503, {}, b"")})),
    "a read went back despite its token": (
        "stale",
        lambda o, t, a: o.append(said("order", FIRST, version=1, tokens=True)),
    ),
    "what was read is gone despite its token": (
        "stale",
        lambda o, t, a: o.append(said("order", FIRST, version=0, status=404, tokens=True)),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_caught(lie: str) -> None:
    kind, tell = LIES[lie]
    operations, held, answers = history(), truth(), right_answers()
    tell(operations, held, answers)
    assert kind in judged(operations, held, answers)


def test_without_tokens_going_back_is_counted_and_no_violation() -> None:
    operations = [said("order", FIRST, version=2, client="b"), said("order", FIRST, version=1, client="b")]
    assert judge_sessions(operations) == ([], 1, 1)
