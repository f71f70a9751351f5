"""The stream of operations: one for all targets, valid in itself, and shaped as its workload says."""

import itertools
from collections import Counter

import msgspec
import pytest

from loadtests.dataset import POPULATION, SIZES, Dataset
from loadtests.operations import Operation, OperationStream
from loadtests.workload import load

DATA = Dataset(1, *SIZES["s"])


def play(workload: str = "shop", nonce: str = "run", share: float = 50, rounds: int = 20, data: Dataset = DATA):
    stream = OperationStream(data, load(workload), nonce)
    return [stream.round(share, number, slice_s=2, probes=3) for number in range(rounds)]


def order_of(operation: Operation) -> str:
    return operation.path.split("/")[2]


def test_a_run_has_its_operations_and_another_run_on_the_same_target_places_other_orders() -> None:
    def placed(nonce: str) -> set[str]:
        return {order_of(one) for round_ in play(nonce=nonce) for one in round_.operations if one.name == "place"}

    assert play() == play()
    assert placed("one").isdisjoint(placed("two"))


@pytest.mark.parametrize("workload", ["shop", "backoffice", "checkout"])
def test_transitions_are_only_asked_of_orders_of_earlier_rounds_and_allowed_there(workload: str) -> None:
    states: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for round_ in play(workload, share=20, rounds=40):
        before = dict(states)
        for one in round_.operations:
            seen[one.name] += 1
            if one.name == "place":
                assert order_of(one) not in states, "an id is placed once"
                states[order_of(one)] = "placed"
            elif one.name in ("pay", "ship", "cancel"):
                allowed = {"pay": ("placed",), "ship": ("paid",), "cancel": ("placed", "paid")}[one.name]
                assert before[order_of(one)] in allowed
                assert states[order_of(one)] == before[order_of(one)], "one transition of an order in a round"
                states[order_of(one)] = {"pay": "paid", "ship": "shipped", "cancel": "cancelled"}[one.name]
    assert min(seen[name] for name, share in load(workload).writes.items() if share) > 0


def test_reads_ask_only_for_what_is_there_before_the_round() -> None:
    known = {DATA.order_id(index) for index in range(DATA.size.orders)}
    for round_ in play(share=80):
        assert all(order_of(one) in known for one in round_.operations if one.name in ("order", "history"))
        known |= {order_of(one) for one in round_.operations if one.name == "place"}
        known |= {order_of(one) for p in round_.probes for one in (p.setup, p.command) if one and one.name == "place"}


def test_an_empty_shop_has_operations_too() -> None:
    rounds = play(data=Dataset(1, *POPULATION), share=90)
    names = Counter(one.name for round_ in rounds for one in round_.operations)
    assert names["order"] > 0 and not any(one.name == "order" for one in rounds[0].operations)


@pytest.mark.parametrize("share", [0, 50, 95, 100])
def test_the_read_share_and_the_mix_of_the_reads_are_kept(share: float) -> None:
    operations = [one for round_ in play(share=share) for one in round_.operations]
    reads = Counter(one.name for one in operations if one.kind == "read")
    assert abs(100 * reads.total() / len(operations) - share) < 3
    for name, part in load("shop").reads.items() if reads else ():
        assert abs(100 * reads[name] / reads.total() - part) < 3


def test_due_times_are_those_of_a_poisson_process() -> None:
    gaps: list[int] = []
    for round_ in play():
        due = [one.due_us for one in round_.operations]
        assert due == sorted(due) and due[-1] < 2_000_000
        gaps += [later - earlier for earlier, later in itertools.pairwise(due)]
    mean, rate = sum(gaps) / len(gaps), load("shop").rate_per_s
    assert abs(mean * rate / 1e6 - 1) < 0.05
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert 0.85 < variance / mean**2 < 1.15, "gaps of a Poisson process vary as much as they are long"


def test_nothing_is_renamed_or_repriced_twice_in_a_round() -> None:
    for round_ in play("backoffice", share=10):
        commands = [*round_.operations, *(probe.command for probe in round_.probes)]
        touched = [one.path for one in commands if one.name in ("rename", "reprice")]
        assert len(touched) == len(set(touched))


def test_orders_have_distinct_products_and_bodies_fit_the_contract() -> None:
    for round_ in play("checkout", share=0, rounds=5):
        for one in round_.operations:
            if one.name == "place":
                body = msgspec.json.decode(one.body or b"")
                products = [line["product_id"] for line in body["lines"]]
                assert set(body) == {"customer_id", "lines"} and len(products) == len(set(products)) >= 1
            elif one.name in ("pay", "ship", "cancel"):
                assert one.body is None and one.method == "POST"
