"""What every transport must carry, whatever happens to its broker, relay and projectors; one subclass a transport."""

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from contract.errors import StoreGone
from contract.messages import Event, OrderCancelled
from contract.position import BEGINNING, Position
from cqrs_impl.dead_letters import TRIES_MAX
from cqrs_impl.documents.members import RedisMembers
from cqrs_impl.documents.redis import Keys, RedisDocuments
from cqrs_impl.documents.redis_client import RedisClient
from cqrs_impl.documents.redis_parts import PartDocuments, PartKeys, layout
from cqrs_impl.feeds.redis_streams import StreamsPublisher, StreamsReader, stream_of
from cqrs_impl.feeds.transport import PACK_BYTES, Pack, PackEntry, Publisher, Reader, decode, encode, packed
from cqrs_impl.part import Part
from cqrs_impl.ports import Unreadable
from cqrs_impl.projectors import Projectors
from ladder.connections import redis_client
from ladder.environment import CLIENTS, Environment
from servers.redis import REDIS, STREAMS
from tests.brokers import MemoryBroker, MemoryPublisher, MemoryReader
from tests.conftest import LONG_LEVELS
from tests.partitions import EVENTS, PARTS, Dying, Half, World, of_pack
from tests.service import patient
from tests.story import ListFeed, contents, followed, place, views

Connected = TypeVar("Connected", Publisher, Reader)


class TransportSuite(ABC):
    clients: list[RedisClient]
    connections: list[Publisher | Reader]

    @pytest.fixture(autouse=True)
    def store(self, redis_url: str, namespace: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
        patient(monkeypatch, "cqrs_impl.feeds.rabbitmq.CONFIRM_S", "cqrs_impl.feeds.kafka.ASK_S_MAX")
        self.url, self.namespace, self.clients, self.connections = redis_url, namespace, [], []

    @abstractmethod
    def publisher(self, name: str) -> Publisher: ...
    @abstractmethod
    def reader(self, name: str, part: Part) -> Reader: ...
    @abstractmethod
    async def empty(self, name: str) -> None:
        """The broker comes back without what it held."""

    def connected(self, one: Connected) -> Connected:
        self.connections.append(one)
        return one

    async def disconnect(self) -> None:
        """As when all processes were killed, or the broker."""
        for one in self.connections:
            await one.close()

    def client(self) -> RedisClient:
        self.clients.append(redis_client(Environment({REDIS.variable: self.url, CLIENTS: "lean"})))
        return self.clients[-1]

    def play(
        self, scene: Callable[[World], Coroutine[Any, Any, Any]], happened: Sequence[Event] = EVENTS, **log: Any
    ) -> Any:
        """Play a scene, then let everybody finish: the views are those that one projector makes of the same events."""

        async def played() -> tuple[Any, dict[str, object], dict[str, object]]:
            world = World(self, ListFeed(happened, **log))
            try:
                result = await scene(world)
                await world.publish()
                await world.project()
                alone = self.namespace()
                await followed(RedisDocuments(self.client(), Keys(alone)), ListFeed(world.log.events))
                return result, views(self.url, world.name, PARTS), contents(self.url, alone)
            finally:
                await self.disconnect()
                for client in self.clients:
                    await client.close()

        result, built, expected = asyncio.run(played())
        assert built == expected
        return result

    def test_each_partition_carries_its_streams_in_their_order_and_says_how_far_it_is(self) -> None:
        async def carried(world: World) -> list[list[Pack]]:
            for upto in (1, 2, 12, 30):
                await world.publish(upto)
            return await world.messages(30)

        for messages in self.play(carried):
            versions = defaultdict[str, list[int]](list)
            reached = BEGINNING
            for message in messages:
                assert message.after == reached < message.upto, "no gap"
                reached = message.upto
                for event in of_pack(message):
                    versions[event.stream].append(event.version)
            assert reached == place(30).components, "a partition without events says so"
            assert all(found == sorted(set(found)) for found in versions.values()) and len(versions) > 1

    def test_what_is_published_or_delivered_again_changes_nothing(self) -> None:
        async def again(world: World) -> None:
            await world.publish(20)
            await world.project_some()
            world.relay = world.new_relay()  # killed before it noted its position
            world.notes.noted = None
            await self.disconnect()
            world.projectors = [world.projector(number) for number in range(PARTS)]  # killed before they acknowledged

        self.play(again)

    def test_the_relay_goes_on_where_the_broker_confirmed(self) -> None:
        async def interrupted(world: World) -> list[list[Pack]]:
            half = Half(world.publisher)
            world.relay = world.new_relay(half)
            for _ in range(2):  # some of it arrives, none is confirmed
                with pytest.raises(StoreGone):
                    await world.publish(20)
            assert world.notes.noted is None
            half.broken = False
            await world.publish(20)
            return await world.messages(20)

        for messages in self.play(interrupted):  # before anything is read from the outbox, which would hide a loss
            reached = BEGINNING
            for message in messages:
                assert message.after <= reached, "no gap, but repeats"
                reached = max(reached, message.upto)
            assert reached == place(20).components

    def test_a_partition_moves_to_another_projector_with_work_in_flight(self) -> None:
        async def moved(world: World) -> None:
            await world.publish(30)
            for stage in range(8):  # wherever the first one is interrupted
                projector = world.projector(0, Dying(self.client(), stage))
                with pytest.raises(asyncio.CancelledError):
                    await world.go_on(projector)
                await self.disconnect()

        self.play(moved)

    def test_two_owners_of_a_partition_apply_every_event_once(self) -> None:
        async def both(world: World) -> None:
            other = world.projector(0)
            for upto in range(6, 61, 6):
                await world.publish(upto)
                await asyncio.gather(other.step(), world.projectors[0].step(), world.projectors[1].step())
            await other.close()  # a broker that gives a partition to one of them may have chosen this one

        self.play(both)

    @pytest.mark.parametrize("unread", [True, False], ids=["with messages unread", "with all applied"])
    def test_what_a_broker_that_came_back_empty_has_lost_is_read_from_the_outbox(self, unread: bool) -> None:
        async def emptied(world: World) -> None:
            await world.publish(30)
            await world.projectors[0].step()
            if not unread:
                world.log.events = EVENTS[:30]
                await world.project()
                world.log.events = EVENTS
            await self.empty(world.name)

        self.play(emptied)

    def test_an_idle_partition_notices_the_loss_by_a_heartbeat(self) -> None:
        async def idle(world: World) -> None:
            await world.publish()
            await self.empty(world.name)
            world.relay = world.new_relay()
            world.notes.noted = place(60), 60  # nothing is new, but that nothing is
            await world.publish()
            assert [[of_pack(message) for message in one] for one in await world.messages(60)] == [[[]], [[]]]

        self.play(idle)

    def test_a_read_store_that_came_back_empty_replays_itself(self) -> None:
        async def flushed(world: World) -> None:
            await world.publish(40)
            await world.project_some()
            await PartDocuments(self.client(), PartKeys(world.name, Part(0, PARTS)), world.log.present).clear()

        self.play(flushed)

    def test_a_poison_event_blocks_its_stream_in_every_part_and_is_counted_once(self) -> None:
        cancelled = next(n for n, event in enumerate(EVENTS) if isinstance(event, OrderCancelled))

        async def poisoned(world: World) -> tuple[list[str], int, Position | None]:
            await world.publish()
            for _ in range(TRIES_MAX):
                await asyncio.gather(*(projector.step() for projector in world.projectors))
            await world.project()
            shown, ready = await world.shown(), (await world.reads().readiness()).parked_events
            world.log.poison = set()
            projectors = self.projectors(world, "p")
            blocked = await projectors.blocked_streams()
            assert await projectors.replay() == (len(blocked), [])
            return [one.stream for one in blocked], ready, shown

        streams, parked, shown = self.play(poisoned, poison=[cancelled])
        assert streams == [EVENTS[cancelled].stream] and parked == 1
        assert shown == place(cancelled), "no answer claims to show it"

    def test_a_slow_consumer_holds_up_nobody_but_what_answers_claim(self) -> None:
        async def slow(world: World) -> tuple[Position | None, Position | None]:
            await world.publish()
            await world.project(0)
            before = await world.shown()
            await world.project(1)
            return before, await world.shown()

        before, after = self.play(slow)
        assert (before, after) == (place(0)._replace(components=BEGINNING), place(60))

    def test_an_event_that_waits_for_one_beyond_what_the_broker_gives_finds_it_in_the_log(self) -> None:
        async def nothing(world: World) -> None:
            await world.publish()

        self.play(nothing, EVENTS[::-1])

    def test_a_log_of_another_history_is_followed_from_its_beginning(self) -> None:
        async def restored(world: World) -> None:
            await world.publish(40)
            await world.project_some()
            world.log.events, world.log.named = EVENTS[:50], "second"
            world.notes.noted = place(40), 40  # of the first

        self.play(restored)

    def test_projectors_share_the_parts_and_take_over_from_one_that_leaves(self) -> None:
        async def shared(world: World) -> None:
            await world.publish(20)
            first, second = (asyncio.ensure_future(self.projectors(world, name).run()) for name in "ab")
            await world.until(20)
            first.cancel()
            await world.publish(60)
            await world.until(60)
            second.cancel()
            await asyncio.gather(first, second, return_exceptions=True)

        self.play(shared)

    def projectors(self, world: World, name: str) -> Projectors:
        members = RedisMembers(self.client(), layout(world.name, PARTS))
        return Projectors(name, world.log, PARTS, members, lambda part, _: world.projector(part.number))


def test_a_message_holds_as_much_as_a_broker_takes_and_each_follows_the_one_before() -> None:
    half = "x" * (PACK_BYTES // 2)
    entries = [PackEntry(((1, number),), number, None, Unreadable(half, 1, "")) for number in range(1, 6)]
    messages = list(packed("first", PARTS, BEGINNING, [(one.upto, encode(one)) for one in entries]))
    packs = [decode(message) for message in messages]
    assert [len(pack.entries) for pack in packs] == [2, 2, 1]
    assert [pack.after for pack in packs] == [BEGINNING, *(pack.upto for pack in packs[:-1])]
    assert [one for pack in packs for one in pack.entries] == entries
    assert max(map(len, messages)) < 2 * PACK_BYTES
    assert list(packed("first", PARTS, BEGINNING, [])) == []


class TestMemory(TransportSuite):
    @pytest.fixture(autouse=True)
    def broker(self) -> None:
        self.there = MemoryBroker()

    def publisher(self, name: str) -> Publisher:
        return MemoryPublisher(self.there)

    def reader(self, name: str, part: Part) -> Reader:
        return MemoryReader(self.there, part.number)

    async def empty(self, name: str) -> None:
        self.there.empty()


class TestRedisStreams(TransportSuite):
    @pytest.fixture(autouse=True, params=LONG_LEVELS)
    def broker(self, request: pytest.FixtureRequest, streams_url: str) -> None:
        self.env = Environment({STREAMS.variable: streams_url, CLIENTS: request.param})

    def streams(self) -> RedisClient:
        self.clients.append(redis_client(self.env, STREAMS))
        return self.clients[-1]

    def publisher(self, name: str) -> Publisher:
        return StreamsPublisher(self.streams(), name, PARTS)

    def reader(self, name: str, part: Part) -> Reader:
        return StreamsReader(self.streams(), stream_of(name, *part))

    async def empty(self, name: str) -> None:
        await self.streams().ask(("DEL", *(stream_of(name, part, PARTS) for part in range(PARTS))))
