"""What every transport must carry, whatever happens to its broker, relay and projectors; one subclass a transport."""

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import islice
from random import Random
from typing import Any, TypeVar

import aio_pika
import pytest

from contract.errors import StoreGone, Unavailable
from contract.messages import BaseEvent, Event, OrderCancelled
from contract.position import BEGINNING, START, Position, covers
from cqrs_impl.dead_letters import TRIES_MAX
from cqrs_impl.documents.members import RedisMembers
from cqrs_impl.documents.redis import Keys, RedisDocuments
from cqrs_impl.documents.redis_client import RedisClient
from cqrs_impl.documents.redis_parts import PartDocuments, PartKeys, PartReads, layout
from cqrs_impl.feeds.partition import PartitionFeed
from cqrs_impl.feeds.rabbitmq import RabbitPublisher, RabbitReader, create, queues_of
from cqrs_impl.feeds.redis_streams import StreamsPublisher, StreamsReader, stream_of
from cqrs_impl.feeds.relay import Relay
from cqrs_impl.feeds.transport import PACK_BYTES, Pack, PackEntry, Publisher, Reader, decode, encode, packed
from cqrs_impl.part import Part
from cqrs_impl.ports import Unreadable
from cqrs_impl.projector import Projector
from cqrs_impl.projectors import Projectors
from ladder.connections import redis_client
from ladder.environment import CLIENTS, LEVELS, Environment
from servers.kafka import KAFKA
from servers.rabbitmq import RABBITMQ
from servers.redis import REDIS, STREAMS
from servers.server import Unusable
from servers.supervisor import Processes
from tests.brokers import MemoryBroker, MemoryPublisher, MemoryReader
from tests.service import PATIENCE_S, patient
from tests.story import ListFeed, contents, events, followed, place, views

Connected = TypeVar("Connected", Publisher, Reader)
PARTS = 2
EVENTS = list(islice(events(Random(3), things=4), 60))


def of_pack(pack: Pack) -> list[Event]:
    return [one.event for one in pack.entries if isinstance(one.event, BaseEvent)]  # type: ignore[misc]


class Notes:
    """Those of a relay, in memory."""

    def __init__(self) -> None:
        self.noted: tuple[Position, int] | None = None

    async def read(self) -> tuple[Position, int] | None:
        return self.noted

    async def write(self, position: Position, counted: int, trouble: str | None = None) -> None:
        self.noted = position, counted


class World:
    """A log, a transport, a relay, and the parts of the views in a read store, moved step by step."""

    def __init__(self, suite: "TransportSuite", log: ListFeed) -> None:
        self.suite, self.log, self.name = suite, log, suite.namespace()
        self.publisher, self.notes = suite.connected(suite.publisher(self.name)), Notes()
        self.relay = self.new_relay()
        self.projectors = [self.projector(number) for number in range(PARTS)]

    def new_relay(self, publisher: Any = None) -> Relay:
        return Relay(self.log, self.notes, publisher or self.publisher, PARTS, batch_max=5)  # type: ignore[arg-type]

    def projector(self, number: int, client: Any = None) -> Projector:
        part = Part(number, PARTS)
        feed = PartitionFeed(self.suite.connected(self.suite.reader(self.name, part)), self.log, part)
        documents = PartDocuments(client or self.suite.client(), PartKeys(self.name, part), self.log.present)
        return Projector(feed, self.log, documents, part=part, batch_max=7)

    async def publish(self, upto: int | None = None) -> None:
        """So many of the events, or all."""
        whole = self.log.events
        self.log.events = whole[:upto]
        while (await self.relay.step())[0]:
            pass
        self.log.events = whole

    async def project_some(self) -> None:
        for projector in self.projectors:
            await projector.step()

    async def project(self, *numbers: int) -> None:
        """Until these projectors, or all, have applied everything that the log holds."""
        for number in numbers or range(PARTS):
            projector = self.projectors[number]
            async with asyncio.timeout(PATIENCE_S):
                await self.step(projector)
                while (await projector.position()).components < place(len(self.log.events)).components:
                    await self.step(projector)

    async def step(self, projector: Projector) -> None:
        try:
            moved, more_soon = await projector.step()
            if not (moved or more_soon):
                await projector.feed.wait(0.05)
        except StoreGone:
            await projector.feed.close()

    async def go_on(self, projector: Projector) -> None:
        """Until it is interrupted: its messages may arrive a moment later."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await self.step(projector)

    async def messages(self, upto: int) -> list[list[Pack]]:
        """What a new reader of each partition is given, until one covers so many events."""
        given: list[list[Pack]] = [[] for _ in range(PARTS)]
        for number, messages in enumerate(given):
            reader = self.suite.reader(self.name, Part(number, PARTS))
            async with asyncio.timeout(PATIENCE_S):
                while not messages or messages[-1].upto < place(upto).components:
                    await reader.wait(0.05)
                    messages += (decode(one.body) for one in await reader.read(1000))
            await reader.close()
        return given

    def reads(self) -> PartReads:
        return PartReads(self.suite.client(), PartKeys(self.name, Part(0, PARTS)), NoBacklog())

    async def shown(self) -> Position | None:
        return (await self.reads().first("top", 1))[1]

    async def reached(self) -> Position:
        with suppress(Unavailable):  # nobody has begun yet
            return await self.shown() or START
        return START

    async def until(self, event: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not covers(await self.reached(), place(event)):  # what is read from the log may be more
                await asyncio.sleep(0.01)


class NoBacklog:
    async def history(self, position: Position, counted: int | None = None) -> str:
        return position.history

    async def behind(self, position: Position, counted: int | None = None) -> tuple[int, float]:
        return 0, 0.0

    async def trouble(self) -> str | None:
        return None


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
                await asyncio.gather(world.projectors[0].step(), other.step(), world.projectors[1].step())

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


class Dying:
    """A client whose user is ended after so many calls, the last of which was carried out."""

    def __init__(self, client: RedisClient, calls: int) -> None:
        self.client, self.left = client, calls

    def __getattr__(self, name: str) -> Any:
        async def called(*words: Any) -> Any:
            if self.left < 0:
                raise asyncio.CancelledError
            done = await getattr(self.client, name)(*words)
            self.left -= 1
            if self.left < 0:
                raise asyncio.CancelledError
            return done

        return called


class Half:
    """A publisher that dies in the middle."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher, self.broken = publisher, True

    async def publish(self, messages: Sequence[tuple[int, bytes]]) -> None:
        if self.broken:
            await self.publisher.publish(messages[: len(messages) // 2])
            raise StoreGone("The broker went away.")
        await self.publisher.publish(messages)

    async def close(self) -> None:
        await self.publisher.close()


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
    @pytest.fixture(autouse=True, params=LEVELS)
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


class TestRabbitMQ(TransportSuite):
    @pytest.fixture(autouse=True)
    def broker(self, rabbitmq_url: str) -> None:
        self.url_of_broker = rabbitmq_url

    def publisher(self, name: str) -> Publisher:
        return RabbitPublisher(self.url_of_broker, queues_of(name, PARTS))

    def reader(self, name: str, part: Part) -> Reader:
        return RabbitReader(self.url_of_broker, queues_of(name, PARTS)[part.number])

    async def empty(self, name: str) -> None:
        await self.disconnect()
        await asyncio.to_thread(RABBITMQ.drop, self.url_of_broker, name)


@pytest.mark.parametrize(
    "met", [StopAsyncIteration, aio_pika.exceptions.ChannelInvalidStateError, ConnectionResetError]
)
def test_a_rabbitmq_that_is_cut_off_while_it_is_connected_to_is_away(
    met: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torture met them: aiormq raises what its reading of the connection raises."""

    async def connect(_: Any) -> None:
        raise met

    monkeypatch.setattr(aio_pika, "connect", connect)
    with pytest.raises(StoreGone):
        asyncio.run(RabbitPublisher("amqp://nowhere/", queues_of("crossover_test", PARTS)).publish([(0, b"{}")]))


@pytest.mark.long
def test_a_queue_that_died_within_moments_of_its_creation_is_made_anew() -> None:
    """RabbitMQ writes down at its leisure where the log of a new queue lies."""
    queues, body = queues_of("crossover_test", 1), b"[]"

    async def published(url: str) -> list[bytes]:
        publisher, reader = RabbitPublisher(url, queues), RabbitReader(url, queues[0])
        found: list[bytes] = []
        async with asyncio.timeout(180):
            while not found:
                for used in (publisher.publish([(0, body)]), reader.wait(1.0)):
                    with suppress(StoreGone):
                        await used
                with suppress(StoreGone):
                    found += [one.body for one in await reader.read(1)]
                if not found:
                    await publisher.close()
                    await reader.close()
        await publisher.close()
        await reader.close()
        return found

    with Processes() as processes:
        try:
            url = RABBITMQ.start(processes)
        except Unusable as reason:
            pytest.skip(str(reason))
        asyncio.run(create(url, queues_of("crossover_other", 1)))  # so that the file is there
        (names,) = RABBITMQ.data_folder(processes).glob("data/*/quorum/*/names.dets")
        before = names.read_bytes()
        assert asyncio.run(published(url)) == [body]
        processes.stop(RABBITMQ.name)  # by SIGKILL
        names.write_bytes(before)
        RABBITMQ.restart(processes)
        assert asyncio.run(published(url)) == [body]


class TestKafka(TransportSuite):
    @pytest.fixture(autouse=True)
    def broker(self, kafka_url: str) -> None:
        self.url_of_broker, self.settings = kafka_url, KAFKA.client_settings(kafka_url)

    def publisher(self, name: str) -> Publisher:
        from cqrs_impl.feeds.kafka import KafkaPublisher, topic_of

        return KafkaPublisher(self.settings, topic_of(name, PARTS), PARTS)

    def reader(self, name: str, part: Part) -> Reader:
        from cqrs_impl.documents.offsets import RedisOffsets
        from cqrs_impl.feeds.kafka import KafkaReader, topic_of

        return KafkaReader(
            self.settings, topic_of(name, PARTS), part.number, RedisOffsets(self.client(), name, part, "")
        )

    async def empty(self, name: str) -> None:
        await self.disconnect()
        await asyncio.to_thread(KAFKA.drop, self.url_of_broker, name)
