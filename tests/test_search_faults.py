"""The search engine as a read store: what becomes of it when it fails, is interrupted, or somebody else writes."""

import asyncio
from collections.abc import Sequence
from itertools import islice
from random import Random

import msgspec
import pytest

from contract.errors import StoreGone, Unavailable, WorkerError
from contract.messages import CustomerRenamed, Event, OrderPlaced, SearchOrders
from contract.position import START, covers
from cqrs_impl.documents.memory import MemoryDocuments
from cqrs_impl.fold import orders_of, place_of
from cqrs_impl.projector import Projector
from cqrs_impl.search import fold, indexes, layout
from cqrs_impl.search.client import Reply
from cqrs_impl.search.reads import SearchReads
from cqrs_impl.search.store import IndexedDocuments
from tests.documents import NoBacklog
from tests.index import OfSearch
from tests.story import CUSTOMER, FIRST, SECOND, STORY, ListFeed, events, place


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


class TestSearchFaults(OfSearch):
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
            return await self.holds(name, story)

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
            return await self.holds(name, STORY)

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
