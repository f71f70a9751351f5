"""`crossover history`: the life of an order, and what each event changed in which view."""

import asyncio
import io
import re
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest
from rich.console import Console

from contract.messages import Event, OrderPaid, OrderShipped
from crossover.errors import Fallen, UserError
from crossover.history import LifeStep, keeping_events, life, life_of, order_id, show_life
from crossover.targets import quiet
from crossover.weeks import by_product_and_week
from tests.service import Shop, fresh_id
from tests.story import CUSTOMER, FIRST, POT, SECOND, STORY, T0, TEA, ListFeed
from tests.test_cli import here


def lived(events: Iterable[Event], order: str) -> list[LifeStep]:
    async def read() -> list[LifeStep]:
        return [step async for step in life(ListFeed(events), order, quiet)]

    return asyncio.run(read())


def test_each_event_tells_what_it_changed_in_which_view() -> None:
    placed, cancelled = lived(STORY, SECOND)[::2]
    changes = {change.view: change.fields for change in placed.changes}
    assert changes[f"customer:{CUSTOMER}"] == {
        "orders": "1 → 2",
        "spent_cents": "300 → 800",
        "last_order_at": "2026-01-01T00:00:00.000000Z → 2026-01-02T00:00:00.000000Z",
    }
    assert changes[f"product:{TEA}"] == {"stock": "48 → 43", "sold": "2 → 7"}
    assert changes["lists"] == {
        "+1": f"active-of:{CUSTOMER}, days, orders-of:{CUSTOMER}, word:ann, word:green, word:lee, word:tea",
        "−1 +1": "top",  # the rank of one product
    }
    assert f"product:{POT}" not in changes and not placed.others
    new = {change.view for change in placed.changes if change.new}
    assert new == {f"order:{SECOND}", f"history:{SECOND}", f"item:{SECOND}", "day:2026-01-02"}
    changes = {change.view: change.fields for change in cancelled.changes}
    assert changes[f"order:{SECOND}"] == {"version": "1 → 2", "status": "placed → cancelled"}
    assert changes[f"product:{TEA}"] == {"stock": "50 → 55", "sold": "7 → 2"}
    added = '{"version": 2, "what": "cancelled", "at": "2026-01-03T00:00:00.000000Z"}'
    assert changes[f"history:{SECOND}"] == {"changes": f"+ {added}"}
    assert changes["day:2026-01-02"] == {"orders": "1 → 0", "revenue_cents": "500 → 0"}


def test_an_event_of_another_that_changed_the_order_is_part_of_its_life() -> None:
    placed, paid, renamed = lived(STORY, FIRST)
    assert [type(step.event).__name__ for step in (placed, paid, renamed)] == [
        "OrderPlaced",
        "OrderPaid",
        "CustomerRenamed",
    ]
    changes = {change.view: change.fields for change in renamed.changes}
    assert changes[f"customer:{CUSTOMER}"] == {"version": "1 → 2", "name": "Ann Lee → Bea Lee"}
    assert changes[f"order:{FIRST}"] == {
        "customer": f'{{"id": "{CUSTOMER}", "name": "Ann Lee"}} → {{"id": "{CUSTOMER}", "name": "Bea Lee"}}'
    }
    assert changes["lists"] == {"−2": "word:ann", "+2": "word:bea"}, "of both orders; the word lee stays"
    assert renamed.others == 1, "the other order of the customer"


def test_an_event_that_comes_before_those_it_needs_waits_for_them() -> None:
    """As in the feed of a transaction that took its number early."""
    paid, shipped = OrderPaid(FIRST, 2, T0), OrderShipped(FIRST, 3, T0)
    straight = lived((*STORY[:4], paid, shipped), FIRST)
    assert lived((shipped, *STORY[1:4], STORY[0], paid), FIRST) == straight
    with pytest.raises(Fallen, match=f"^order-{FIRST} has events that wait for others, which were never recorded.$"):
        lived((*STORY[:4], shipped), FIRST)


def test_an_event_that_cannot_be_read_is_named() -> None:
    async def read() -> None:
        async for _ in life(ListFeed(STORY, poison={4}), FIRST, quiet):
            pass

    with pytest.raises(Fallen, match=f"^Version 2 of order-{FIRST} cannot be read: poison.$"):
        asyncio.run(read())


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_cut(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    show_life(console, "event_sourced", FIRST, lived(STORY, FIRST))
    text = re.sub(" +\n", "\n", console.export_text())
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    assert text.startswith(f"Order {FIRST} of event_sourced\n\nOrderPlaced, version 1, 2026-01-01T00:00:00.000000Z\n")
    assert f"\n  order:{FIRST} (new)\n    id           {FIRST}\n" in text
    assert "    spent_cents    0 → 300\n    last_order_at  null → 2026-01-01T00:00:00.000000Z\n" in text
    assert "\n  and documents of other orders: 1\n" in text
    whole = re.sub(r"\s+", "", text)
    assert (
        f'{{"product_id":"{POT}","product_name":"TeaPot","quantity":1,"unit_price_cents":100,"amount_cents":100}}total_cents'
        in whole
    )


@pytest.mark.parametrize("name", ["event_sourced", pytest.param("cqrs", marks=pytest.mark.long)])
def test_it_is_told_from_the_servers(name: str, serve: Callable[..., Any]) -> None:
    target, tea = serve(name), f"Tea {fresh_id()}"
    with httpx.Client(base_url=target.url, timeout=30) as client:
        shop = Shop(client)
        ann, product = shop.customer("Ann"), shop.product(9, name=tea)
        first, _ = shop.order(ann, product, then=("pay",)), shop.order(ann, product, then=("cancel",))
    placed, paid = life_of(name, first, target.env, quiet)
    assert (placed.event.id, paid.event.version) == (first, 2)
    assert by_product_and_week(name, target.env).filter(product=tea)["orders"].to_list() == [1]
    with pytest.raises(UserError, match=f"^{name} has no order {ann} on these servers.$"):
        life_of(name, ann, target.env, quiet)


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"^'12' is no id of an order: give a hyphenated UUID\.$"):
        order_id("12")
    assert order_id(FIRST.upper()) == FIRST
    with pytest.raises(
        UserError, match=r"^crud keeps no events, so it cannot tell what happened: choose one of cqrs, "
    ):
        keeping_events("crud")
    ended = here("history", fresh_id())
    assert ended.returncode == 2 and "Looking needs your own servers" in ended.stderr
