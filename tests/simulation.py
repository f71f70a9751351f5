"""The projector's world in memory, run by a seeded scheduler: at every await it decides who goes on, whose request or
reply is lost, who dies, and when the read store is emptied. One seed is one schedule, and replays exactly.

The projector, its folding and its positions are the real ones; what stands in are PostgreSQL's transactions and Redis.
"""

import contextlib
from collections.abc import Callable, Coroutine
from functools import lru_cache
from itertools import islice
from random import Random
from typing import Any

import msgspec

from contract.errors import StoreGone, WorkerError
from contract.messages import Event, OrderPlaced
from contract.position import START, Position
from cqrs_impl.batch import Apply, apply
from cqrs_impl.checkpoint import CLEARING, Checkpoint
from cqrs_impl.documents.redis import Keys, RedisDocuments
from cqrs_impl.ports import Batch, RecordedEvent
from cqrs_impl.projector import BATCH_MAX, BESIDE, BULK, Projector
from tests.simulated_redis import CUT, GO, KEYS, REPLY_LOST, REQUEST_LOST, Client, Redis, turn
from tests.story import events

STORIES, EVENTS, STEPS_MAX = 40, 14, 20_000
FAULTS = ("killed", "emptied", "rebuild", "rebuild live", REQUEST_LOST, REPLY_LOST, CUT, CUT, CUT)


class Truth:
    """PostgreSQL's part: transactions that take their number early, their row's later, and commit when they like."""

    def __init__(self, story: tuple[Event, ...]) -> None:
        self.story = story
        self.rows: list[RecordedEvent] = []  # committed
        self._xids: dict[int, int] = {}  # of open transactions, by the event they will write
        self._written: dict[int, RecordedEvent] = {}
        self._done: set[int] = set()
        self._xid, self._sequence = 100, 0

    def finished(self) -> bool:
        return len(self._done) == len(self.story)

    def move(self, rng: Random) -> RecordedEvent | None:
        """One thing that a transaction can do now; what it committed, if that was it."""
        open = [number for number in range(len(self.story)) if number not in self._done][:5]
        number = rng.choice(open)
        if number not in self._xids:
            self._xid += 1
            self._xids[number] = self._xid
        elif number not in self._written:
            if self._needs(number) <= self._done:  # else it waits for another's lock
                self._sequence += 1
                at = Position(((self._xids[number], self._sequence),))
                self._written[number] = RecordedEvent(at, self.story[number])
        else:
            self._done.add(number)
            del self._xids[number]
            self.rows.append(self._written[number])
            return self._written[number]
        return None

    def _needs(self, number: int) -> set[int]:
        event, before = self.story[number], list(enumerate(self.story[:number]))
        wanted = {event.stream}
        if isinstance(event, OrderPlaced):
            wanted |= {f"customer-{event.customer_id}", *(f"product-{line.product_id}" for line in event.lines)}
        return {earlier for earlier, other in before if other.stream in wanted}

    def horizon(self) -> int:
        return min(self._xids.values(), default=self._xid + 1)


class Feed:
    """The outbox as `OutboxFeed` reads it; sometimes what was given before is given again, or twice."""

    def __init__(self, truth: Truth, rng: Random) -> None:
        self.truth, self._rng = truth, rng
        self.redelivers = True

    async def read(self, after: Position, limit: int) -> Batch:
        if await turn("read") != GO:
            raise StoreGone("cut")
        if self.redelivers and self._rng.random() < 0.1:
            ((transaction, _),) = after.components
            after = Position(((transaction - self._rng.randrange(4), 0),))
        batch = self.select(after, self._rng.randint(1, 4) if limit in (BATCH_MAX, BESIDE, BULK * BATCH_MAX) else limit)
        if self.redelivers and batch.events and self._rng.random() < 0.1:
            batch = Batch([placed for placed in batch.events for _ in range(2)], batch.more_soon)
        return batch

    def select(self, after: Position, limit: int) -> Batch:
        rows = sorted(row for row in self.truth.rows if row.position > after)[:limit]
        settled = [row for row in rows if row.position.components[0][0] < self.truth.horizon()]
        return Batch(settled, more_soon=len(settled) < len(rows) or len(rows) == limit)

    async def wait(self, timeout_s: float) -> None:
        await turn("idle")

    async def close(self) -> None:
        pass

    async def count(self) -> int:
        return len(self.truth.rows)

    async def present(self) -> str:
        return ""

    async def reserve(self) -> None:
        """The schedule starts no other."""

    async def history(self, position: Position, counted: int | None = None) -> str:
        return ""


class World:
    """Two projectors over one truth and one read store, and commands that rebuild the views now and then, one of them
    beside those that answer."""

    def __init__(
        self,
        seed: int,
        feed: type[Feed] = Feed,
        store: type[Redis] = Redis,
        client: type[Client] = Client,
        apply: Apply = apply,
    ) -> None:
        self.rng = Random(seed)
        self.truth = Truth(story(seed % STORIES))
        self.feed = feed(self.truth, self.rng)
        self.redis = store(self._moved)
        self._client, self._apply = client, apply
        self._at = START
        self._live: Process | None = None  # the last live rebuild
        self._version = 1  # of the views that answer

    def run(self) -> None:
        """Raises `AssertionError`, or what a process died of, when something is not as it must be."""
        self.running = [self._projector(), self._projector()]
        try:
            self._play()
        finally:
            for process in self.running:
                process.kill()
        assert documents(self.redis) == expected(self.truth.story), "the views are not the fold over the truth"

    def _play(self) -> None:
        faults = self.rng.randrange(12)
        while faults or not self.truth.finished():
            chance = self.rng.random()
            if chance < 0.3 and not self.truth.finished():
                if committed := self.truth.move(self.rng):
                    assert committed.position > self._at, f"{committed} appears behind the reader at {self._at}"
            elif chance < 0.34 and faults:
                faults -= 1
                self._fault()
            else:
                self._step(self.rng.choice(self.running), GO)
        self._settle()

    def _projector(self) -> "Process":
        return self._process(lambda one: one.run(), lasting=True)

    def _process(self, work: Callable[[Projector], Coroutine[Any, Any, Any]], *, lasting: bool = False) -> "Process":
        client = self._client(self.redis)
        return Process(work(projector(self.feed, client, self._apply)), client, lasting=lasting)

    def _fault(self) -> None:
        process = self.rng.choice(self.running)
        match self.rng.choice(FAULTS):
            case "killed":
                self.running.remove(process)
                process.kill()
                if process.lasting:
                    self.running.append(self._projector())
            case "emptied":
                self.redis.flush()
                self._at = START
            case "rebuild":
                self.running.append(self._process(lambda one: one.rebuild(lambda done, total: None)))
            case "rebuild live" if self._live not in self.running:
                self._live = self._process(lambda one: one.rebuild_live(lambda done, total: None))
                self.running.append(self._live)
            case "rebuild live":
                pass
            case lost:
                self._step(process, lost)

    def _settle(self) -> None:
        """No more faults: everyone gets to where there is nothing left to do."""
        self.feed.redelivers = False
        idle, writes = 0, -1
        for _ in range(STEPS_MAX):
            process = self.rng.choice(self.running)
            self._step(process, GO)
            if writes != self.redis.touched.total():
                idle, writes = 0, self.redis.touched.total()
            idle += process.where == "idle"
            if idle >= 12:
                return
        raise AssertionError("it does not come to rest")

    def _step(self, process: "Process", became: str) -> None:
        if process.where in ("sleep", "idle", "") or (became == CUT and process.where == "read"):
            became = GO
        try:
            process.step(became)
        except StopIteration:
            self.running.remove(process)
        except (StoreGone, WorkerError):  # a rebuild ends with it; a projector goes on
            assert not process.lasting
            self.running.remove(process)

    def _moved(self, checkpoint: bytes) -> None:
        at = START if checkpoint.startswith(CLEARING) else Checkpoint.of(checkpoint).low_water
        if at == START:
            self._at = START
        assert at >= self._at, f"the position went back from {self._at} to {at}"
        keys, since = live(self.redis), self._at
        if keys.version != self._version:
            self._version, since = keys.version, START
        for position, event, *_ in self.truth.rows:
            if since < position <= at:
                held = self.redis.get(f"{keys.prefix}{event.stream.replace('-', ':', 1)}")
                assert held and msgspec.json.decode(held)["version"] >= event.version, f"{event} is passed over"
        self._at = at


def projector(feed: Feed, client: Client, apply: Apply = apply, batch_max: int = BATCH_MAX) -> Projector:
    documents = RedisDocuments(client, KEYS)  # type: ignore[arg-type]
    return Projector(
        feed,  # type: ignore[arg-type]
        feed,  # type: ignore[arg-type]
        documents,
        apply=apply,
        batch_max=batch_max,
        sleep=lambda s: turn("sleep"),  # type: ignore[arg-type]
        both=in_turn,
    )


async def in_turn(first: Coroutine[Any, Any, Any], second: Coroutine[Any, Any, Any]) -> list[Any]:
    try:
        return [await first, await second]
    finally:
        second.close()


class Process:
    def __init__(self, work: Coroutine[Any, Any, None], client: Client, *, lasting: bool = False) -> None:
        self.work, self.client, self.where, self.lasting = work, client, "", lasting

    def kill(self) -> None:
        self.client.dead = True
        with contextlib.suppress(StoreGone):  # what it would do at its end
            self.work.close()

    def step(self, became: str) -> None:
        self.where = self.work.send(became if self.where else None)


def documents(redis: Redis) -> dict[str, Any]:
    """Everything that the views hold which answer."""
    prefix = live(redis).prefix
    return {key.removeprefix(prefix): value for key, value in redis.values.items() if key.startswith(prefix)}


def live(redis: Redis) -> Keys:
    return KEYS.of(Checkpoint.of(redis.values[KEYS.checkpoint]).version)


@lru_cache(maxsize=STORIES)
def expected(story: tuple[Event, ...]) -> dict[str, Any]:
    """The views after one projector alone got the story in one piece."""
    truth = Truth(story)
    truth.rows = [RecordedEvent(Position(((1, number),)), event) for number, event in enumerate(story, start=1)]
    redis = Redis(lambda checkpoint: None)
    feed = Feed(truth, Random(0))
    feed.redelivers = False
    client = Client(redis)
    alone = Process(projector(feed, client).run(), client)
    while alone.where != "idle":
        alone.step(GO)
    return documents(redis)


@lru_cache(maxsize=STORIES)
def story(number: int) -> tuple[Event, ...]:
    return tuple(islice(events(Random(number)), EVENTS))
