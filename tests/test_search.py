"""The search engine as a read store: what it finds, what it claims to have seen, what becomes of it under faults."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any

import httpx
import msgspec
import pytest

from contract.errors import StoreGone, Unavailable, WorkerError
from contract.messages import CustomerRenamed, Event, OrderPlaced, QueryResult, SearchOrders
from contract.position import START, Position, covers
from cqrs_impl.documents.memory import MemoryDocuments
from cqrs_impl.fold import orders_of, place_of
from cqrs_impl.projector import Projector
from cqrs_impl.search import fold, indexes, layout
from cqrs_impl.search.client import Reply
from cqrs_impl.search.reads import SearchReads
from cqrs_impl.search.store import IndexedDocuments
from tests.documents import NoBacklog, OfMemory
from tests.index import OfSearch
from tests.service import Shop, fresh_id, settle
from tests.story import CUSTOMER, FIRST, SECOND, STORY, ListFeed, events, place

WORDS = (("tea",), ("bea",), ("green", "tea"), ("ann",), ("bea", "lee", "pot"))


def test_a_process_that_comes_late_puts_no_older_name_on_an_order_that_shows_a_newer_one() -> None:
    async def told(documents: MemoryDocuments, *events: Event) -> str | None:
        for event in events:
            await fold.index(event, documents, {})
        order = await documents.get(layout.IndexedOrder, FIRST)
        return order and order.customer.name

    async def raced() -> None:
        registered, placed = STORY[0], next(one for one in STORY if isinstance(one, OrderPlaced))
        renamed = [CustomerRenamed(CUSTOMER, version, name) for version, name in ((2, "Bea"), (3, "Cleo"))]
        ahead, late = MemoryDocuments(), MemoryDocuments()
        assert await told(ahead, registered, *renamed, placed) == "Cleo"
        await told(late, registered)
        order = await ahead.get(layout.IndexedOrder, FIRST)  # written by whom is ahead, but not its customer
        assert order is not None
        late.put(FIRST, order)
        late.list(orders_of(CUSTOMER), place_of(order.placed_at, FIRST))
        assert await told(late, renamed[0]) == "Cleo"
        assert await told(late, renamed[1], placed) == "Cleo"
        assert await told(late, CustomerRenamed(CUSTOMER, 4, "Dan")) == "Dan"

    asyncio.run(raced())


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

    @pytest.mark.parametrize("lost", ["checkpoint", "documents", "report"])
    def test_what_is_interrupted_between_the_documents_and_the_checkpoint_is_done_again(self, lost: str) -> None:
        """Also a rename that has reached only some of the orders."""

        async def interrupted(story: Sequence[Event]) -> bool:
            name, feed = self.namespace(), ListFeed(story)
            store, cuts = IndexedDocuments(self.indexes(name)), iter(range(1, 1000))
            client = self.clients[-1]
            ask, bulk, number = client.ask, client.bulk, 0

            async def lossy_ask(method: str, path: str, body: object | None = None) -> Reply:
                nonlocal number
                if lost == "checkpoint" and "_doc/checkpoint?" in path and (number := number + 1) % 2:
                    raise StoreGone("cut off")
                return await ask(method, path, body)

            async def lossy_bulk(lines: Sequence[bytes], path: str) -> Reply:
                nonlocal number
                if lost != "checkpoint" and (number := number + 1) % 2:
                    cut = 2 * next(cuts) % (len(lines) + 1) if lost == "documents" else len(lines)
                    if some := lines[:cut]:
                        await bulk(some, path)
                    raise StoreGone("cut off")
                return await bulk(lines, path)

            client.ask, client.bulk = lossy_ask, lossy_bulk  # type: ignore[method-assign]
            projector = Projector(feed, feed, store, apply=store.apply, batch_max=5)
            at = START
            while not covers(at, place(len(feed.events))):
                try:
                    await projector.step()
                except StoreGone:
                    continue
                at = await projector.position()
            whole = self.namespace()
            await self.follow(IndexedDocuments(self.indexes(whole)), ListFeed(story))
            return await self.held(name) == await self.held(whole)

        assert self.run(interrupted(list(islice(events(Random(3)), 40))))

    def test_items_that_fail_are_tried_again_alone_and_what_is_read_only_says_so(self) -> None:
        async def done() -> tuple[list[int], str | None]:
            name = self.namespace()
            store = IndexedDocuments(self.indexes(name))
            client, sent = self.clients[-1], list[int]()
            bulk = client.bulk

            async def busy(lines: Sequence[bytes], path: str) -> Reply:
                sent.append(len(lines) // 2)
                if len(sent) > 1:
                    return await bulk(lines, path)
                (first, *_), body = [{"index": {"status": 429}}], (await bulk(lines[2:], path)).body
                items = [first, *msgspec.json.decode(body)["items"]]
                return Reply(200, msgspec.json.encode({"items": items}))

            client.bulk = busy  # type: ignore[method-assign]
            projector = await self.follow(store, ListFeed(STORY))
            assert len(await self.held(name)) == 3
            read_only = {"index.blocks.read_only_allow_delete": True}  # what a full disk sets
            await client.ask("PUT", f"/{name}/_settings", read_only)
            projector.feed.events += STORY[:1]  # type: ignore[attr-defined]
            with pytest.raises(StoreGone) as refused:
                await projector.step()
            assert "read-only" in refused.value.reason
            return sent, (await SearchReads(self.indexes(name), NoBacklog()).readiness()).unwritable

        sent, unwritable = self.run(done())
        assert sent == [3, 1] and "read-only" in (unwritable or "")

    def test_a_document_that_the_engine_will_never_take_parks_its_stream_and_no_other(self) -> None:
        async def parked() -> tuple[list[str], set[str]]:
            name = self.namespace()
            indexes, feed = self.indexes(name), ListFeed(STORY)
            await indexes.make_first()
            place_of_first = {"properties": {"item": {"properties": {"lines": {"type": "ip"}}}}}
            await indexes.client.ask("PUT", f"/{name}/_mapping", place_of_first)
            store = IndexedDocuments(indexes)
            projector = await self.follow(store, feed)
            letters = await projector.blocked_streams()
            return [letter.stream for letter in letters], set(await self.held(name))

        assert self.run(parked()) == ([f"order-{FIRST}", f"order-{SECOND}"], {f"customer:{CUSTOMER}"})

    def test_a_document_that_another_process_wrote_meanwhile_is_not_replaced(self) -> None:
        async def raced() -> bool:
            name, projector, _ = await self.indexed(STORY[:5], batch_max=2)  # the other is ahead of it then
            projector.feed.events += STORY[5:]  # type: ignore[attr-defined]
            client, ask = self.clients[0], self.clients[0].ask

            async def late(method: str, path: str, body: object | None = None) -> Reply:
                """Before the first fetched document is written, another projector writes all of them."""
                reply = await ask(method, path, body)
                if "_mget" in path:
                    client.ask = ask  # type: ignore[method-assign]
                    await self.follow(IndexedDocuments(self.indexes(name)), ListFeed(STORY))
                return reply

            client.ask = late  # type: ignore[method-assign]
            await projector.step()
            whole = self.namespace()
            await self.follow(IndexedDocuments(self.indexes(whole)), ListFeed(STORY))
            return await self.held(name) == await self.held(whole)

        assert self.run(raced())

    def test_an_index_of_somebody_else_is_refused_and_stays(self) -> None:
        async def refused() -> str:
            name, theirs = self.namespace(), {"settings": {"number_of_replicas": 0}}
            indexes = self.indexes(name)
            await indexes.client.ask("PUT", f"/{name}", theirs)
            with pytest.raises(WorkerError) as refusal:
                await IndexedDocuments(indexes).open()
            assert (await indexes.client.ask("DELETE", f"/{name}")).status == 200
            return str(refusal.value).replace(name, "NAME")

        said = "The search engine has an index NAME that is not ours: delete it, or give another engine."
        assert self.run(refused()) == said

    def test_an_index_whose_shard_is_about_to_start_is_not_built_yet(self) -> None:
        """Who tries a rung waits for what was made a moment ago, and not for an engine that is away."""

        async def asked() -> None:
            _, _, reads = await self.indexed(STORY)
            client, ask = self.clients[-1], self.clients[-1].ask
            shard = "starting"

            async def starting(method: str, path: str, body: object | None = None) -> Reply:
                nonlocal shard
                if not path.startswith("/_cluster/health/"):
                    if shard == "started":
                        return await ask(method, path, body)
                    raise StoreGone("away", "search_phase_execution_exception: all shards failed")
                status, told = await ask(method, path, body)
                assert msgspec.json.decode(told)["initializing_shards"] == 0
                if shard == "starting":
                    return Reply(status, told.replace(b'"initializing_shards":0', b'"initializing_shards":1'))
                shard = "started"
                return Reply(status, told)

            client.ask = starting  # type: ignore[method-assign]
            with pytest.raises(Unavailable, match="has not been built yet"):
                await reads.search(SearchOrders(("tea",), 9))
            shard = "has started since"
            assert (await reads.search(SearchOrders(("tea",), 9))).position == place(len(STORY))

        self.run(asked())

    @pytest.mark.long
    def test_an_index_that_is_red_is_away_and_is_gone_on_with_when_it_is_not(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def red() -> list[str]:
            name, feed = self.namespace(), ListFeed(STORY)
            made, nowhere = (
                self.indexes(name),
                {
                    "index.routing.allocation.require._name": "nobody",
                    "index.write.wait_for_active_shards": "0",  # who makes it does not wait for them either
                },
            )
            with monkeypatch.context() as unassigned:
                unassigned.setattr(indexes, "settings", lambda refresh: layout.settings(refresh) | nowhere)
                await made.make_first()
            projector, reads = Projector(feed, feed, IndexedDocuments(made)), SearchReads(made, NoBacklog())
            for asked in (projector.step(), reads.search(SearchOrders(("tea",), 9)), reads.readiness()):
                with pytest.raises(StoreGone, match=r"^The search engine cannot be asked right now\."):
                    await asked
            await made.client.ask("PUT", f"/{name}/_settings", dict.fromkeys(nowhere))
            store = IndexedDocuments(made)
            await made.client.ask("GET", f"/_cluster/health/{name}?wait_for_status=yellow&timeout=60s")
            await self.follow(store, feed)
            return sorted(await self.held(name))

        assert self.run(red()) == sorted([f"customer:{CUSTOMER}", f"order:{FIRST}", f"order:{SECOND}"])


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
