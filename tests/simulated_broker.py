"""The broker's world in memory under the scheduler of `tests.simulation`: a relay, a broker that forgets, and three
projectors of two parts. The relay, the feeds, the parts and their checkpoints are the real ones."""

from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import Any

import msgspec

from contract.errors import StoreGone
from contract.messages import Event
from contract.position import START, Position, covers
from cqrs_impl.batch import Apply
from cqrs_impl.checkpoint import CLEARING, Checkpoint
from cqrs_impl.documents.redis_parts import PartDocuments, PartKeys
from cqrs_impl.feeds.partition import LogPart, PartitionFeed
from cqrs_impl.feeds.relay import Relay
from cqrs_impl.feeds.transport import Delivered
from cqrs_impl.part import Part
from cqrs_impl.ports import Batch, RecordedEvent
from cqrs_impl.projector import Projector
from cqrs_impl.slips import apply_in
from tests import simulated_redis, simulation
from tests.simulated_redis import CUT, GO, REPLY_LOST, REQUEST_LOST, Client, turn
from tests.simulation import STORIES, Process, Truth, expected, in_turn, story

PARTS = 2
KEYS = PartKeys("sim", Part(0, PARTS))
FAULTS = ("killed", "killed", "emptied", "broker", "broker", "rebuild", REQUEST_LOST, REPLY_LOST, CUT)
SLEEP: Any = lambda s: turn("sleep")  # noqa: E731


class Redis(simulated_redis.Redis):
    def look(self) -> None:
        held, self._checkpoint = self._checkpoint, self.values.get(KEYS.checkpoint, b"")
        if self._checkpoint not in (held, b""):
            self._moved(self._checkpoint)

    def eval(self, script: str, keys: int, joined: str, *parts: str) -> None:
        """JOIN: the checkpoint furthest behind."""
        texts = [self.values.get(part, b"") for part in parts]
        if all(texts) and not any(text.startswith(CLEARING) for text in texts):
            of_parts = [Checkpoint.of(text) for text in texts]
            low, at = min(one.low_water for one in of_parts), min(of_parts, key=lambda one: one.position)
            self.set(joined, at._replace(low_water=low, writes=sum(one.writes for one in of_parts)).text)


class Log:
    """The outbox, which the relay and the parts read in its order, and never twice."""

    def __init__(self, truth: Truth, rng: Random) -> None:
        self._feed = simulation.Feed(truth, rng)
        self._feed.redelivers = False
        self.truth = truth

    async def read(self, after: Position, limit: int) -> Batch:
        return await self._feed.read(after, limit)

    async def wait(self, timeout_s: float) -> None:
        await turn("idle")

    async def close(self) -> None:
        pass

    async def present(self) -> str:
        return ""

    async def history(self, position: Position, counted: int | None = None) -> str:
        there = sum(covers(position, row.position) for row in self.truth.rows)
        assert counted in (None, there), f"{counted} of {there} events were counted up to {position}"
        return ""

    async def count(self, upto: Position | None = None) -> int:
        return sum(upto is None or covers(upto, row.position) for row in self.truth.rows)

    async def stream(self, stream: str, version: int, upto: Position) -> Sequence[RecordedEvent]:
        rows = [row for row in self.truth.rows if row.event.stream == stream and row.event.version >= version]
        return sorted(rows, key=lambda row: row.event.version)


class Broker:
    """Partitions, and a note of the relay, which may be old. What is sent may not arrive, or its confirmation not."""

    def __init__(self) -> None:
        self.partitions: list[list[tuple[int, bytes]]] = [[] for _ in range(PARTS)]
        self.numbers, self.starts = count(1), 1
        self.noted: tuple[Position, int] | None = None

    def restart(self) -> None:
        self.partitions, self.numbers, self.starts = [[] for _ in range(PARTS)], count(1), self.starts + 1

    async def publish(self, messages: Sequence[tuple[int, bytes]]) -> None:
        for partition, body in messages:
            became = await turn("publish")
            if became in (REQUEST_LOST, CUT):
                raise StoreGone(became)
            self.partitions[partition].append((next(self.numbers), body))
            if became == REPLY_LOST:
                raise StoreGone(became)

    async def read(self) -> tuple[Position, int] | None:
        return self.noted

    async def write(self, position: Position, counted: int, trouble: str | None = None) -> None:
        if await turn("note") == GO:
            self.noted = position, counted

    async def close(self) -> None:
        pass


class Reader:
    def __init__(self, broker: Broker, partition: int, rng: Random) -> None:
        self.broker, self.partition, self._rng = broker, partition, rng
        self.last = self.connected = 0

    async def read(self, limit: int) -> Sequence[Delivered]:
        became = await turn("read")
        self.connected = self.connected or self.broker.starts
        if became != GO or self.connected != self.broker.starts:
            raise StoreGone(became)
        kept = [Delivered(*one) for one in self.broker.partitions[self.partition] if one[0] > self.last]
        kept = kept[: self._rng.randint(1, 4)]
        self.last = kept[-1].offset if kept else self.last
        return kept

    async def wait(self, timeout_s: float) -> None:
        await turn("idle")

    async def acknowledge(self, offset: int) -> None:
        if await turn("acknowledge") == GO:
            kept = [one for one in self.broker.partitions[self.partition] if one[0] > offset]
            self.broker.partitions[self.partition] = kept

    async def close(self) -> None:
        self.last = self.connected = 0


class World(simulation.World):
    def __init__(
        self,
        seed: int,
        *,
        store: type[Redis] = Redis,
        client: type[Client] = Client,
        reader: type[Reader] = Reader,
        apply_in: Callable[[Part], Apply] = apply_in,
    ) -> None:
        self.rng = Random(seed)
        self.truth = Truth(story(seed % STORIES))
        self.log, self.broker, self.redis = Log(self.truth, self.rng), Broker(), store(self._moved)
        self._client, self._reader, self._apply_in = client, reader, apply_in
        self._at = START

    def run(self) -> None:
        self.running = [self._relay(), *(self._part(number) for number in (0, 0, 1))]
        try:
            self._play()
        finally:
            for process in self.running:
                process.kill()
        assert views(self.redis) == views_of(self.truth.story), "the views are not the fold over the truth"

    def _relay(self) -> Process:
        ticks = count()
        notes: Any = self.broker
        relay = Relay(self.log, notes, self.broker, PARTS, sleep=SLEEP, clock=lambda: float(next(ticks)))
        return Again(relay.run(), Client(self.redis), self._relay)

    def _part(self, number: int) -> Process:
        reader = self._reader(self.broker, number, self.rng)
        feed = PartitionFeed(reader, self.log, Part(number, PARTS))
        projector, client = self._projector_of(number, feed)
        return Again(projector.run(), client, lambda: self._part(number))

    def _projector_of(self, number: int, feed: Any) -> tuple[Projector, Client]:
        part, client = Part(number, PARTS), self._client(self.redis)
        documents: Any = PartDocuments(client, PartKeys("sim", part))  # type: ignore[arg-type]
        log, sleep, apply = self.log, SLEEP, self._apply_in(part)
        return Projector(feed, log, documents, part=part, apply=apply, sleep=sleep, both=in_turn), client

    def _fault(self) -> None:
        process = self.rng.choice(self.running)
        match self.rng.choice(FAULTS):
            case "killed":
                self._end(process)
            case "emptied":
                self.redis.flush()
                self._at = START
            case "broker":
                self.broker.restart()
            case "rebuild":
                projector, client = self._projector_of(0, LogPart(self.log, Part(0, PARTS)))
                self.running.append(Process(projector.rebuild(lambda done, total: None), client))
            case lost:
                self._step(process, lost)

    def _end(self, process: Process) -> None:
        self.running.remove(process)
        process.kill()
        if isinstance(process, Again):
            self.running.append(process.again())

    def _settle(self) -> None:
        idle, writes = 0, -1
        for _ in range(simulation.STEPS_MAX):
            process = self.rng.choice(self.running)
            self._step(process, GO)
            if writes != (now := self.redis.touched.total()):
                idle, writes = 0, now
            idle += process.where == "idle"
            if idle >= 40:
                return
        raise AssertionError("it does not come to rest")

    def _moved(self, checkpoint: bytes) -> None:
        at = START if checkpoint.startswith(CLEARING) else Checkpoint.of(checkpoint).low_water
        if at == START:
            self._at = START
        assert at >= self._at, f"the position went back from {self._at} to {at}"
        for position, event, *_ in self.truth.rows:
            if self._at < position <= at:
                held = self.redis.get(f"{KEYS.prefix}{event.stream.replace('-', ':', 1)}")
                assert held and msgspec.json.decode(held)["version"] >= event.version, f"{event} is passed over"
        self._at = at


class Again(Process):
    """A process that is started again when it ends."""

    def __init__(self, work: Any, client: Client, again: Callable[[], Process]) -> None:
        super().__init__(work, client, lasting=True)
        self.again = again


def views(redis: Redis) -> dict[str, Any]:
    there = {key.removeprefix(KEYS.prefix): value for key, value in redis.values.items() if key.startswith(KEYS.prefix)}
    return {key: value for key, value in there.items() if not key.startswith(("parked", "slip:"))}


def views_of(events: tuple[Event, ...]) -> dict[str, Any]:
    """By one projector alone, without parts."""
    return {key: value for key, value in expected(events).items() if key != "parked"}
