"""The next version of a search index: built beside the one that answers, whose place it takes."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count, pairwise
from typing import Any

import httpx
import msgspec
import pytest

from contract.errors import StoreGone, WorkerError
from contract.messages import SearchOrders
from contract.position import Position, covers, position_of
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.projector import Projector
from cqrs_impl.search import indexes, store
from cqrs_impl.search.client import Reply
from cqrs_impl.search.store import IndexedDocuments
from cqrs_impl.search.version import IndexedVersion
from crossover.targets import Target
from servers.supervisor import Processes
from tests.index import NEVER, OfSearch, feed_of
from tests.rebuilds import DEADLINE_S, PAUSE_S, end_in_the_middle, fill
from tests.service import Shop, fresh_id, settle
from tests.story import STORY, ListFeed, place, to_the_end
from tests.threads import meanwhile


class TestNextIndex(OfSearch):
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
            return found, await self.holds(name, STORY)

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
    target, word, wrong, done = fresh_target("search"), f"w{fresh_id()[:8]}", list[str](), threading.Event()

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
        with meanwhile(partial(read, False), partial(read, True), command, end=done.set):
            end_in_the_middle(target, processes, lambda: built() > 0)
            left, steps = built(), [0]
            target.rebuild(lambda phase, done, total: steps.append(done), live=True)
            if left:  # first the views are built anew, then the index
                goes_on = next(now for before, now in pairwise(steps) if now < before)
                assert goes_on > left, "it goes on where the other ended"
        settle(client, DEADLINE_S)
        live = indexed(target)
        target.rebuild()
        settle(client, DEADLINE_S)
        assert live == indexed(target) and not wrong
