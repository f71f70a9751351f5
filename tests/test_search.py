"""The search engine as a read store: what it finds, what it claims to have seen, what becomes of it under faults."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice, pairwise
from random import Random
from typing import Any

import httpx
import msgspec
import pytest

from contract.errors import StoreGone, Unavailable, WorkerError
from contract.messages import CustomerRenamed, Event, OrderPlaced, QueryResult, SearchOrders
from contract.position import START, Position, covers, position_of
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.documents.memory import MemoryDocuments
from cqrs_impl.fold import orders_of, place_of
from cqrs_impl.projector import Projector
from cqrs_impl.search import fold, indexes, layout, store
from cqrs_impl.search.client import Reply, SearchClient
from cqrs_impl.search.indexes import Indexes
from cqrs_impl.search.reads import SearchReads
from cqrs_impl.search.store import IndexedDocuments
from cqrs_impl.search.version import IndexedVersion
from crossover.targets import Target, ladder_command, process_env
from servers.opensearch import OPENSEARCH
from servers.supervisor import Processes
from tests.service import Shop, fresh_id, settle, wait_until
from tests.story import CUSTOMER, FIRST, SECOND, STORY, ListFeed, events, followed, place, to_the_end
from tests.test_documents import NoBacklog, OfMemory, StoreSuite
from tests.test_live_rebuild import DEADLINE_S, fill

NEVER = "1h"  # no refresh comes while a test runs
PAUSE_S = 0.05  # of who reads and writes: a search takes far longer than a read of Redis
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


class OfSearch:
    @pytest.fixture(autouse=True)
    def given(self, opensearch_url: str, namespace: Callable[[], str]) -> None:
        self.address, self.namespace = OPENSEARCH.address(opensearch_url), namespace
        self.clients: list[SearchClient] = []

    def name(self) -> str:
        """Of an index that is there: one that another process has just made has no shard yet, for a moment."""
        name = self.namespace()
        self.run(IndexedDocuments(self.indexes(name)).open())
        return name

    def indexes(self, name: str, *, in_bulk: bool = False) -> Indexes:
        self.clients.append(SearchClient(self.address.url, self.address.settings, timeout_s=60))
        return Indexes(self.clients[-1], name, NEVER, in_bulk=in_bulk)

    async def close(self) -> None:
        for client in self.clients:
            await client.close()

    async def follow(self, store: IndexedDocuments, feed: ListFeed, *, batch_max: int = 500) -> Projector:
        return await followed(store, feed, apply=store.apply, batch_max=batch_max)

    def run(self, work: Any) -> Any:
        async def done() -> Any:
            try:
                return await work
            finally:
                await self.close()

        return asyncio.run(done())

    async def held(self, name: str) -> dict[str, object]:
        """Every document of an index but the checkpoint."""
        indexes = self.indexes(name)
        await indexes.make_searchable(name)
        query = {"query": {"bool": {"must_not": {"ids": {"values": ["checkpoint"]}}}}, "size": 10_000}
        hits = msgspec.json.decode(await indexes.post(f"/{name}/_search", query) or b"")["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits}


class TestIndexedStore(OfSearch, StoreSuite):
    examples, events = 2, 30

    def store(self, name: str, history: str = "") -> IndexedDocuments:
        async def present() -> str:
            return history

        return IndexedDocuments(self.indexes(name), present)

    def contents(self, name: str) -> dict[str, object]:
        found: dict[str, object] = self.run(self.held(name))
        return found


class TestSearch(OfSearch):
    async def indexed(self, story: Iterable[Event], batch_max: int = 7) -> tuple[str, Projector, SearchReads]:
        """A name, what follows the story there, and reads of it once all of it can be found."""
        name = self.namespace()
        projector = await self.follow(IndexedDocuments(self.indexes(name)), ListFeed(story), batch_max=batch_max)
        await self.indexes(name).make_searchable(name)
        return name, projector, SearchReads(self.indexes(name), NoBacklog())

    def test_it_finds_what_every_other_adapter_finds_to_the_byte(self) -> None:
        async def found(story: Sequence[Event]) -> list[bytes | None]:
            _, _, reads = await self.indexed(story)
            return [(await reads.search(SearchOrders(words, limit))).body for words in WORDS for limit in (1, 9)]

        for story in (STORY, *(list(islice(events(Random(number)), 30)) for number in range(2))):
            asked = [SearchOrders(words, limit) for words in WORDS for limit in (1, 9)]
            assert self.run(found(story)) == [answer.body for answer in OfMemory().answers(story, *asked)]

    def test_an_answer_claims_only_what_can_be_found(self) -> None:
        async def claimed() -> list[tuple[Position | None, int]]:
            name, projector, waiting = await self.indexed(STORY[:5])
            forced, shown = SearchReads(self.indexes(name), NoBacklog(), forced=True), list[QueryResult]()
            projector.feed.events += STORY[5:]  # type: ignore[attr-defined]
            await projector.step()  # it is written, and nobody has made it searchable
            for reads, wanted in ((waiting, 5), (waiting, len(STORY)), (forced, 5), (forced, len(STORY))):
                shown.append(await reads.search_at(SearchOrders(("tea",), 9), place(wanted)))
            assert (await waiting.readiness()).parked_events == 0
            return [(one.position, len(msgspec.json.decode(one.body or b"")["orders"])) for one in shown]

        assert self.run(claimed()) == [(place(5), 1)] * 3 + [(place(len(STORY)), 2)]

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

    async def beside(self, name: str, feed: ListFeed) -> tuple[IndexedVersion, Projector]:
        """A next version, and what builds it five events at a time."""
        version = IndexedVersion(self.indexes(name), feed)
        return version, Projector(feed, feed, version, apply=version.apply, batch_max=5)

    def test_the_next_version_answers_once_it_shows_all_that_the_other_does(self) -> None:
        async def switched() -> list[list[str]]:
            name, projector, reads = await self.indexed(STORY[:8])
            indexes, query, seen = self.indexes(name), SearchOrders(("tea",), 9), list[list[str]]()
            before, (version, builder) = await reads.search(query), await self.beside(name, feed_of(projector))
            await version.begin()
            for _ in range(2):
                assert await reads.search(query) == before
                assert not await version.switch(), "it covers less"
                await builder.step()
            assert await version.switch()
            assert await reads.search(query) == before
            feed_of(projector).events += STORY[8:]
            await to_the_end(projector, feed_of(projector))
            seen.append(await indexes.names())
            await version.drop()
            await indexes.make_searchable(name)
            assert b"cancelled" in ((await reads.search(query)).body or b""), "the projector has followed it"
            return [*seen, await indexes.names()]

        both, one = self.run(switched())
        assert len(both) == 2 and one == both[1:]

    @pytest.mark.parametrize(
        ("made_by", "shown"), [(indexes.MADE_BY, 5), ("another program", 0)], ids=("this", "another")
    )
    def test_a_version_that_was_interrupted_is_gone_on_with_by_the_program_that_began_it(
        self, made_by: str, shown: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def interrupted() -> tuple[int, bool]:
            name, projector, _ = await self.indexed(STORY)
            version, builder = await self.beside(name, feed_of(projector))
            with monkeypatch.context() as earlier:
                earlier.setattr(indexes, "MADE_BY", made_by)
                assert await version.begin() == 0
            await builder.step()
            again, builder = await self.beside(name, feed_of(projector))
            found = await again.begin()
            assert len(await self.indexes(name).names()) == 2
            while not await again.switch():
                await builder.step()
            await again.drop()
            whole = self.namespace()
            await self.follow(IndexedDocuments(self.indexes(whole)), ListFeed(STORY))
            return found, await self.held(name) == await self.held(whole)

        assert self.run(interrupted()) == (shown, True)

    def test_a_projector_stands_still_until_the_version_that_is_behind_it_has_taken_its_place(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store, "HELD_S", 3600.0)  # this machine may be slower than the second that it is

        async def held() -> list[str]:
            name, projector, _ = await self.indexed(STORY[:5])
            feed, (version, builder) = feed_of(projector), await self.beside(name, feed_of(projector))
            await version.begin()
            assert not await version.switch()
            feed.events += STORY[5:]
            with pytest.raises(StoreGone, match="about to take the place"):
                await projector.step()
            await builder.step()
            assert await version.switch(), "the other would have gone on"
            await to_the_end(projector, feed)
            await version.drop()
            return await self.indexes(name).names()

        assert len(self.run(held())) == 1

    def test_a_projector_that_has_waited_for_long_enough_goes_on_and_nothing_takes_its_place_behind_its_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The builder was killed while it held the other, or it is slow."""
        monkeypatch.setattr(store, "HELD_S", 0.0)

        async def slow() -> tuple[Position | None, bool]:
            name, projector, reads = await self.indexed(STORY[:5])
            feed, (version, builder) = feed_of(projector), await self.beside(name, feed_of(projector))
            client, ask = self.clients[-1], self.clients[-1].ask
            await version.begin()
            await builder.step()

            async def late(method: str, path: str, body: object | None = None) -> Reply:
                """Between all that the builder has made sure of and the step that lets the next one answer."""
                if path == "/_aliases" and "remove" in str(body):
                    client.ask = ask  # type: ignore[method-assign]
                    feed.events += STORY[5:]
                    await to_the_end(projector, feed)
                    await self.indexes(name).make_searchable(name)
                return await ask(method, path, body)

            client.ask = late  # type: ignore[method-assign]
            assert not await version.switch()
            at = (await reads.search(SearchOrders(("tea",), 9))).position
            while not await version.switch():
                await builder.step()
            return at, (await reads.search(SearchOrders(("tea",), 9))).position == at

        assert self.run(slow()) == (place(len(STORY)), True)

    def test_a_projector_whose_write_is_under_way_when_it_is_held_writes_no_checkpoint(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And what it has written of documents is in the version that takes its place, as readers may have seen it."""
        monkeypatch.setattr(store, "HELD_S", 3600.0)

        async def raced() -> tuple[bool, bool]:
            name, projector, reads = await self.indexed(STORY[:5])
            feed, (version, builder) = feed_of(projector), await self.beside(name, feed_of(projector))
            client, bulk = self.clients[0], self.clients[0].bulk
            await version.begin()
            await builder.step()
            feed.events += STORY[5:]
            switched = list[bool]()

            async def late(lines: Sequence[bytes], path: str) -> Reply:
                reply = await bulk(lines, path)
                client.bulk = bulk  # type: ignore[method-assign]
                switched.append(await version.switch())
                return reply

            client.bulk = late  # type: ignore[method-assign]
            with pytest.raises(StoreGone, match="about to take the place"):
                await projector.step()
            await self.indexes(name).make_searchable(name)
            before = (await reads.search(SearchOrders(("tea",), 9))).body
            while not await version.switch():
                await builder.step()
            return switched[0], (await reads.search(SearchOrders(("tea",), 9))).body == before

        assert self.run(raced()) == (False, True)

    def test_who_empties_the_index_ends_what_is_built_beside_it(self) -> None:
        async def emptied() -> list[str]:
            name, projector, _ = await self.indexed(STORY)
            version, _ = await self.beside(name, feed_of(projector))
            await version.begin()
            await IndexedDocuments(self.indexes(name)).clear()
            with pytest.raises(WorkerError, match="The new views are gone"):
                await version.switch()
            await version.drop()
            return await self.indexes(name).names()

        assert len(self.run(emptied())) == 1

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

            async def starting(method: str, path: str, body: object | None = None) -> Reply:
                if path.startswith("/_cluster/health/"):
                    reply = await ask(method, path, body)
                    assert msgspec.json.decode(reply.body)["initializing_shards"] == 0
                    return Reply(
                        reply.status, reply.body.replace(b'"initializing_shards":0', b'"initializing_shards":1')
                    )
                raise StoreGone("away", "search_phase_execution_exception: all shards failed")

            client.ask = starting  # type: ignore[method-assign]
            with pytest.raises(Unavailable, match="has not been built yet"):
                await reads.search(SearchOrders(("tea",), 9))

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

    def test_what_is_made_in_bulk_is_not_refreshed_before_somebody_follows_it(self) -> None:
        async def refreshed() -> list[str]:
            name, seen = self.namespace(), list[str]()
            for in_bulk in (True, False):
                made = self.indexes(name, in_bulk=in_bulk)
                await IndexedDocuments(made).open()
                reply = await made.client.ask("GET", f"/{name}/_settings")
                ((_, told),) = msgspec.json.decode(reply.body).items()
                seen.append(told["settings"]["index"]["refresh_interval"])
            return seen

        assert self.run(refreshed()) == ["-1", NEVER]


def feed_of(projector: Projector) -> ListFeed:
    assert isinstance(projector.feed, ListFeed)
    return projector.feed


@pytest.fixture(scope="module")
def client(serve: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serve("search").url, timeout=60) as client:
        yield client


def indexed(target: Target) -> dict[str, Any]:
    """The documents of the one index of a target."""
    name = target.env["CROSSOVER_NAMESPACE"]
    with httpx.Client(base_url=target.env["OPENSEARCH_URL"], timeout=60) as engine:
        engine.post(f"/{name}/_refresh")
        hits = engine.post(f"/{name}.*/_search", json={"size": 10_000}).json()["hits"]["hits"]
    assert len({hit["_index"] for hit in hits}) == 1
    return {hit["_id"]: hit["_source"] for hit in hits if hit["_id"] != "checkpoint"}


@pytest.mark.long
def test_readers_notice_nothing_of_an_index_that_is_built_live_killed_and_gone_on_with_under_commands(
    fresh_target: Callable[..., Target], processes: Processes
) -> None:
    target, wrong, done = fresh_target("search"), list[str](), threading.Event()
    builder, word = "builder of an index", f"w{fresh_id()[:8]}"

    def built() -> int:
        """How many events the index shows that does not answer."""
        url = f"{target.env['OPENSEARCH_URL']}/{target.env['CROSSOVER_NAMESPACE']}.2/_doc/checkpoint"
        answer = httpx.get(url, timeout=60)
        found = answer.json().get("_source", {}).get("checkpoint", "")
        return Checkpoint.of(found.encode()).counted

    def read(tokens: bool) -> None:
        newest, token = "", ""
        with httpx.Client(base_url=target.url, timeout=30) as client:
            while not done.wait(PAUSE_S):
                asked = {"Consistency-Token": token, "Prefer": "wait=5"} if token and tokens else {}
                answer = client.get(f"/search/orders?q={word}", headers=asked)
                if answer.status_code == 503 and answer.json()["type"] == "urn:crossover:behind":
                    continue
                if answer.status_code != 200:
                    wrong.append(answer.text)
                    continue
                now, new = answer.json()["orders"][0]["placed_at"], answer.headers["Consistency-Token"]
                if now < newest or (token and not covers(position_of(new), position_of(token))):
                    wrong.append(f"from {newest} back to {now}")
                newest, token = now, new

    def command() -> None:
        for number in count():
            if done.wait(PAUSE_S):
                return
            if number % 5 == 0:  # an index is compared as a whole, so that it should not grow for as long as this takes
                shop.order(ann, tea, then=("pay",))
            client.put(f"/products/{tea}/deliveries/{fresh_id()}", json={"quantity": 1}).raise_for_status()

    with httpx.Client(base_url=target.url, timeout=30) as client:
        shop = Shop(client)
        ann, tea = shop.customer(f"Ann {word}"), shop.product(stock=100_000)
        shop.order(ann, tea)
        fill(target, 2_000)
        settle(client)
        working = [threading.Thread(target=read, args=(tokens,)) for tokens in (False, True)]
        working.append(threading.Thread(target=command))
        for thread in working:
            thread.start()
        pid = processes.start(builder, ladder_command("rebuild", "search", "live"), env=process_env(target.env))
        wait_until(lambda: processes.poll() or built() > 0 or builder in processes.ended, DEADLINE_S)
        with contextlib.suppress(ProcessLookupError):  # it has ended already, if this thread had to wait for long
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: processes.poll() or builder in processes.ended, DEADLINE_S)
        left, steps = built(), [0]
        target.rebuild(lambda phase, done, total: steps.append(done), live=True)
        if left:  # first the views are built anew, then the index
            goes_on = next(now for before, now in pairwise(steps) if now < before)
            assert goes_on > left, "it goes on where the other ended"
        done.set()
        for thread in working:
            thread.join()
        settle(client, DEADLINE_S)
        live = indexed(target)
        target.rebuild()
        settle(client, DEADLINE_S)
        assert live == indexed(target) and not wrong


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
