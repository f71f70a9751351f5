"""What documents must show, wherever they live; one subclass an adapter."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from itertools import islice
from random import Random
from typing import Any

import msgspec
import pytest

from contract.errors import Unavailable
from contract.messages import (
    DailySales,
    Event,
    GetCustomer,
    GetHistory,
    GetOrder,
    GetProduct,
    ListOrders,
    OrderPaid,
    OrderPlaced,
    OrderView,
    ProductAdded,
    Query,
    SearchOrders,
    TopProducts,
)
from contract.position import START
from cqrs_impl.batch import apply
from cqrs_impl.documents.memory import MemoryDocuments
from cqrs_impl.documents.redis import Keys, RedisDocuments
from cqrs_impl.documents.redis_parts import PartDocuments, PartKeys, PartReads
from cqrs_impl.documents.redis_reads import RedisReads
from cqrs_impl.feeds.partition import LogPart
from cqrs_impl.fold import Missing
from cqrs_impl.part import Part
from cqrs_impl.ports import DocumentReads
from cqrs_impl.projector import Projector
from cqrs_impl.queries import DocumentQueries
from tests.documents import Documented, NoBacklog, OfMemory, OfRedis
from tests.story import (
    CUSTOMER,
    FIRST,
    POT,
    SECOND,
    STORY,
    T0,
    TEA,
    ListFeed,
    contents,
    events,
    followed,
    in_parts,
    line,
    place,
    views,
)

NOBODY = "00000000-0000-0000-0000-0000000000ff"


class ReadsSuite(Documented):
    def bodies(self, story: Iterable[Event], *queries: Query) -> list[Any]:
        return [answer.body and msgspec.json.decode(answer.body) for answer in self.answers(story, *queries)]

    def test_documents_are_found_and_what_is_not_there_is_not(self) -> None:
        queries = GetOrder(FIRST), GetHistory(FIRST), GetCustomer(CUSTOMER), GetProduct(TEA)
        order, history, customer, product = self.bodies(STORY, *queries)
        assert (order["status"], order["version"], order["customer"]["name"]) == ("paid", 2, "Bea Lee")
        assert [change["what"] for change in history["changes"]] == ["placed", "paid"]
        assert (customer["orders"], customer["spent_cents"]) == (1, 300)
        assert customer["last_order_at"] == "2026-01-01T00:00:00.000000Z", "the later order was cancelled"
        assert (product["stock"], product["sold"], product["version"]) == (55, 2, 2)
        assert (
            self.bodies(STORY, *(kind(NOBODY) for kind in (GetOrder, GetHistory, GetCustomer, GetProduct)))
            == [None] * 4
        )

    def test_a_list_is_paged_newest_first_and_one_without_orders_is_empty(self) -> None:
        more = [
            OrderPlaced(f"00000000-0000-0000-0000-0000000001{n:02}", 1, T0, CUSTOMER, (line(POT, "Tea Pot", 1),), 100)
            for n in range(4)  # all at the time of the first, so that ids decide
        ]
        story, expected = [*STORY, *more], [SECOND, *(order.id for order in reversed(more)), FIRST]
        (whole,) = self.bodies(story, ListOrders(CUSTOMER, 100))
        assert [order["id"] for order in whole["orders"]] == expected and whole["next"] is None
        (page,) = self.bodies(story, ListOrders(CUSTOMER, 2))
        assert [order["id"] for order in page["orders"]] == expected[:2] and page["next"]
        for at, order in enumerate(whole["orders"]):
            place = (T0 + timedelta(days=1) if order["id"] == SECOND else T0, order["id"])
            (rest,) = self.bodies(story, ListOrders(CUSTOMER, 2, place))
            assert [one["id"] for one in rest["orders"]] == expected[at + 1 : at + 3]
            assert (rest["next"] is None) == (at + 3 >= len(expected))
        assert self.bodies(STORY[:1], ListOrders(CUSTOMER, 5)) == [{"orders": [], "next": None}]
        assert self.bodies(STORY, ListOrders(NOBODY, 5)) == [None]

    def test_totals_are_ranked_and_leave_their_lists_with_the_last_order(self) -> None:
        top, days = self.bodies(STORY[:8], TopProducts(10), DailySales(10))
        assert [(one["id"], one["sold"]) for one in top["products"]] == [(TEA, 7), (POT, 1)]
        assert [(one["day"], one["orders"]) for one in days["days"]] == [("2026-01-02", 1), ("2026-01-01", 1)]
        top, days = self.bodies(STORY, TopProducts(1), DailySales(10))
        assert [(one["id"], one["revenue_cents"]) for one in top["products"]] == [(TEA, 200)]
        assert [one["day"] for one in days["days"]] == ["2026-01-01"]
        tied = ProductAdded(NOBODY, 1, "Cup", 100, 9)
        order = OrderPlaced(NOBODY, 1, T0, CUSTOMER, (line(NOBODY, "Cup", 1), line(POT, "Tea Pot", 1)), 200)
        (top,) = self.bodies([*STORY, tied, order], TopProducts(10))
        assert [one["id"] for one in top["products"]] == [TEA, POT, NOBODY], "equal revenue: by id"

    def test_a_search_finds_orders_that_hold_every_word(self) -> None:
        def found(*words: str, limit: int = 9) -> list[str]:
            (answer,) = self.bodies(STORY, SearchOrders(words, limit))
            return [order["id"] for order in answer["orders"]]

        assert found("tea") == [SECOND, FIRST] and found("tea", limit=1) == [SECOND]
        assert found("bea", "pot") == [FIRST] and found("bea", "green", "lee") == [SECOND, FIRST]
        assert found("ann") == found("te") == found("bea", "ann") == []

    @pytest.mark.parametrize("number", range(8))
    def test_the_bytes_are_those_of_every_other_adapter(self, number: int) -> None:
        story = list(islice(events(Random(number)), 40))
        ids = sorted({event.id for event in story})
        queries: list[Query] = [TopProducts(9), DailySales(9), SearchOrders(("tea",), 9), SearchOrders(("bea",), 9)]
        queries += [kind(id) for id in ids for kind in (GetOrder, GetHistory, GetCustomer, GetProduct)]
        queries += [ListOrders(id, 3) for id in ids]
        assert [answer.body for answer in self.answers(story, *queries)] == [
            answer.body for answer in OfMemory().answers(story, *queries)
        ]


class TestMemory(OfMemory, ReadsSuite):
    pass


class TestRedis(OfRedis, ReadsSuite):
    async def reads(self, story: Iterable[Event]) -> DocumentReads:
        keys = Keys(self.namespace())
        await followed(RedisDocuments(self.client(), keys), ListFeed(story), batch_max=7)
        return RedisReads(self.client(), keys, NoBacklog())

    def test_nothing_is_claimed_before_the_store_is_built(self) -> None:
        async def unbuilt() -> None:
            reads = RedisReads(self.client(), Keys(self.namespace()), NoBacklog())
            for asked in (reads.document(OrderView, ""), reads.first("top", 1), reads.readiness()):
                with pytest.raises(Unavailable):
                    await asked

        self.run(unbuilt())


class TestRedisParts(OfRedis, ReadsSuite):
    """Built by three projectors, each its own part."""

    async def reads(self, story: Iterable[Event]) -> DocumentReads:
        name = self.namespace()
        await in_parts(lambda part: self.part(name, part), ListFeed(story), 3, batch_max=7)
        return PartReads(self.client(), PartKeys(name, Part(0, 3)), NoBacklog())

    def part(self, name: str, part: Part) -> PartDocuments:
        return PartDocuments(self.client(), PartKeys(name, part))

    @pytest.mark.parametrize("parts", [1, 2, 4])
    def test_parts_give_what_one_projector_gives_whatever_the_order_of_events(self, parts: int) -> None:
        async def both(story: list[Event]) -> tuple[dict[str, object], dict[str, object]]:
            whole, name = self.namespace(), self.namespace()
            await followed(RedisDocuments(self.client(), Keys(whole)), ListFeed(story))
            await in_parts(lambda part: self.part(name, part), ListFeed(story), parts, batch_max=3)
            return contents(self.url, whole), views(self.url, name, parts)

        for number in range(6):
            story = list(islice(events(Random(number)), 40))
            if number % 2:
                Random(number).shuffle(story)
            expected, built = self.run(both([*story, *story[:5]]))
            assert built == expected

    def test_an_answer_claims_what_all_parts_have_reached(self) -> None:
        async def claimed() -> list[Any]:
            name, feed = self.namespace(), ListFeed(STORY)
            reads = PartReads(self.client(), PartKeys(name, Part(0, 2)), NoBacklog())
            projectors = [
                Projector(LogPart(feed, part), feed, self.part(name, part), part=part, batch_max=2)
                for part in (Part(0, 2), Part(1, 2))
            ]
            shown = []
            for mover in (0, 1, 1, 1, 0):
                await projectors[mover].step()
                shown.append((await reads.first("top", 1))[1])
            return shown

        assert self.run(claimed()) == [START, *(place(number) for number in (2, 2, 2, 4))]


def test_an_event_that_is_too_new_changes_nothing() -> None:
    async def waits() -> bytes | None:
        documents = MemoryDocuments()
        for event in STORY[:4]:
            await apply(event, documents)
        with pytest.raises(Missing, match=FIRST):
            await apply(OrderPaid(FIRST, 3, T0), documents)
        await apply(STORY[3], documents)
        return (await DocumentQueries(documents).answer(GetOrder(FIRST))).body

    assert b'"version":1,"status":"placed"' in (asyncio.run(waits()) or b"")
