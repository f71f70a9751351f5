"""The search engine as a read store: what it finds, and what it claims to have seen."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any

import httpx
import msgspec
import pytest

from contract.errors import Unavailable
from contract.messages import Event, QueryResult, SearchOrders
from contract.position import Position, covers
from cqrs_impl.search.client import Reply
from cqrs_impl.search.reads import SearchReads
from tests.documents import NoBacklog, OfMemory
from tests.index import OfSearch
from tests.service import Shop, fresh_id, settle
from tests.story import STORY, events, place

WORDS = (("tea",), ("bea",), ("green", "tea"), ("ann",), ("bea", "lee", "pot"))


class TestSearch(OfSearch):
    def test_it_finds_what_every_other_adapter_finds_to_the_byte(self) -> None:
        async def found(story: Sequence[Event]) -> list[bytes | None]:
            _, _, reads = await self.indexed(story)
            return [(await reads.search(SearchOrders(words, limit))).body for words in WORDS for limit in (1, 9)]

        for story in (STORY, *(list(islice(events(Random(number)), 30)) for number in range(2))):
            asked = [SearchOrders(words, limit) for words in WORDS for limit in (1, 9)]
            assert self.run(found(story)) == [answer.body for answer in OfMemory().answers(story, *asked)]

    def test_an_answer_claims_only_what_can_be_found(self) -> None:
        async def claimed() -> list[tuple[Position | None, object]]:
            name, projector, waiting = await self.indexed(STORY[:5])
            forced, shown = SearchReads(self.indexes(name), NoBacklog(), forced=True), list[QueryResult]()
            projector.feed.events += STORY[5:]  # type: ignore[attr-defined]
            await projector.step()  # it is written, and nobody has made it searchable
            for reads, wanted in ((waiting, 5), (waiting, len(STORY)), (forced, 5), (forced, len(STORY))):
                shown.append(await reads.search_at(SearchOrders(("tea",), 9), place(wanted)))
            assert (await waiting.readiness()).parked_events == 0
            counts = (one.body and len(msgspec.json.decode(one.body)["orders"]) for one in shown)
            return [(one.position, count) for one, count in zip(shown, counts, strict=True)]

        whole = place(len(STORY))
        assert self.run(claimed()) == [(place(5), 1), (place(5), None), (place(5), 1), (whole, 2)]

    def test_all_who_wait_for_tokens_share_one_look_at_the_checkpoint_and_search_nothing_before(self) -> None:
        async def waited() -> tuple[list[str], set[Position | None]]:
            name, projector, reads = await self.indexed(STORY[:5])
            client, ask, asked = self.clients[-1], self.clients[-1].ask, list[str]()

            async def counted(method: str, path: str, body: object | None = None) -> Reply:
                asked.append(path.partition("?")[0].removeprefix(f"/{name}"))
                return await ask(method, path, body)

            client.ask = counted  # type: ignore[method-assign]
            projector.feed.events += STORY[5:]  # type: ignore[attr-defined]
            await projector.step()
            tokens = [place(number) for number in range(6, len(STORY) + 1)]

            async def searched() -> list[QueryResult]:
                waiting = [asyncio.ensure_future(reads.search_at(SearchOrders(("tea",), 9), token)) for token in tokens]
                await asyncio.sleep(0)
                waiting.pop(0).cancel()  # whose question it was
                return await asyncio.gather(*waiting)

            await reads.search(SearchOrders(("tea",), 9))
            asked.clear()
            assert {one.body for one in await searched()} == {None}
            behind = [*asked]
            await self.indexes(name).make_searchable(name)
            return behind, {one.position for one in await searched()}

        behind, shown = self.run(waited())
        assert (behind, shown) == (["/_doc/checkpoint"], {place(len(STORY))})

    def test_nothing_is_claimed_before_the_index_is_built_and_after_it_is_gone_it_is_built_again(self) -> None:
        async def gone() -> list[bytes | None]:
            name, projector, reads = await self.indexed(STORY)
            before = (await reads.search(SearchOrders(("tea",), 9))).body
            indexes = self.indexes(name)
            await indexes.delete_all_but()
            for asked in (reads.search(SearchOrders(("tea",), 9)), reads.readiness()):
                with pytest.raises(Unavailable, match="has not been built yet"):
                    await asked
            while not covers(await projector.position(), place(len(STORY))):
                await projector.step()
            await indexes.make_searchable(name)
            return [before, (await reads.search(SearchOrders(("tea",), 9))).body]

        before, after = self.run(gone())
        assert before == after


@pytest.fixture(scope="module")
def client(serve: Any, opensearch_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serve("search").url, timeout=60) as client:
        yield client


def reached(client: httpx.Client, path: str, token: str) -> httpx.Response:
    """The answer with this token, however long it takes."""
    asked = {"consistency-token": token, "prefer": "wait=5"}
    while (answer := client.get(path, headers=asked)).status_code == 503:
        assert answer.json()["type"] == "urn:crossover:behind"
    return answer


def test_a_search_with_a_token_shows_what_its_command_did(client: httpx.Client) -> None:
    shop = Shop(client)
    product, word = shop.product(stock=100), f"w{fresh_id()[:8]}"
    customer, found = shop.customer(f"Ann {word}"), list[int]()
    for _ in range(3):
        body = {"customer_id": customer, "lines": [{"product_id": product, "quantity": 1}]}
        token = client.put(f"/orders/{fresh_id()}", json=body).headers["consistency-token"]
        answer = reached(client, f"/search/orders?q={word}", token)
        found.append(len(answer.json()["orders"]))
        seen = reached(client, f"/customers/{customer}", answer.headers["consistency-token"])
        assert seen.json()["orders"] == len(found)
    assert found == [1, 2, 3]


def test_what_fits_best_is_found_misspelt_too_and_its_words_are_shown(client: httpx.Client) -> None:
    shop = Shop(client)
    customer = shop.customer("Ada <b>Lee</b>")
    pot, both = shop.product(name="Xylophone"), shop.product(name="Green Xylophone")
    orders = [shop.order(customer, product) for product in (both, pot, pot)]
    settle(client)
    answer = client.get("/search/orders?q=xilophone+grean+lee&mode=best&limit=3").json()["orders"]
    assert [one["id"] for one in answer] == [orders[0], orders[2], orders[1]], "two words, then the newest"
    ada = "Ada &lt;b&gt;<em>Lee</em>&lt;&#x2F;b&gt;"
    assert answer[0]["highlights"] == [ada, "<em>Green</em> <em>Xylophone</em>"]
    exact = client.get("/search/orders?q=xylophone&limit=1").json()["orders"]
    assert [{**exact[0], "highlights": [ada, "<em>Xylophone</em>"]}] == answer[1:2]
    for wrong in ("worst", "", "best&mode=best"):
        refused = client.get(f"/search/orders?q=tea&mode={wrong}")
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "mode")
