"""The projector under seeded schedules of interleaving, redelivery, inversion, loss and death; by `make check` 10,000.

`SIMULATION_SEED=1234 pytest tests/test_simulation.py` replays one; `SIMULATION_SEEDS` says how many.
"""

import gc
import os
from operator import itemgetter
from random import Random
from typing import Any

import msgspec
import pytest

from contract.position import Position
from cqrs_impl.batch import apply
from cqrs_impl.ports import Batch, RecordedEvent
from crossover.gallery import no_version_guard, swallowed_error
from tests.simulated_redis import GO, KEYS, Client, Redis, turn
from tests.simulation import STORIES, Feed, Process, Truth, World, expected, projector, story
from tests.story import totals

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "300"))


def test_every_schedule_ends_with_the_views_of_the_truth() -> None:
    chosen = os.environ.get("SIMULATION_SEED")
    for seed in [int(chosen)] if chosen else range(SEEDS):
        try:
            World(seed).run()
        except Exception as failure:
            raise AssertionError(f"replay it by SIMULATION_SEED={seed}: {failure}") from failure


@pytest.mark.parametrize("number", range(STORIES))
def test_what_the_schedules_are_held_against_is_counted_by_hand_too(number: int) -> None:
    views = expected(story(number))
    for key, total in totals(story(number), KEYS).items():
        assert total.items() <= msgspec.json.decode(views[key.removeprefix(KEYS.prefix)]).items()


def test_a_projector_that_is_far_behind_takes_more_at_a_time_until_it_has_caught_up() -> None:
    limits: list[int] = []

    class Counting(Feed):
        async def read(self, after: Position, limit: int) -> Batch:
            limits.append(limit)
            return self.select(after, limit)

    for caught_up in (14, 7):  # in the middle of a batch, and at the end of one
        limits.clear()
        truth, events = Truth(story(0)), story(0)[:caught_up]
        truth.rows = [RecordedEvent(Position(((1, number),)), event) for number, event in enumerate(events, start=1)]
        client = Client(Redis(lambda checkpoint: None))
        process = Process(projector(Counting(truth, Random(0)), client, batch_max=1).run(), client)
        while process.where != "idle":  # it waits for more
            process.step(GO)
        process.kill()
        assert limits == [1, 2, 4, 8] and gc.isenabled()


first = itemgetter(0)


class Polling(Feed):
    def select(self, after: Position, limit: int) -> Batch:
        by_number = [(at.components[0][1], event) for at, event, *_ in self.truth.rows]
        rows = [RecordedEvent(Position(((0, number),)), event) for number, event in sorted(by_number, key=first)]
        rows = [row for row in rows if row.position.components > ((0, after.components[0][1]),)][:limit]
        return Batch(rows, more_soon=len(rows) == limit)


class Unwatched(Client):
    async def transact(self, queue: list[Any]) -> list[Any] | None:
        self._watched.clear()
        return await super().transact(queue)


class Forgetful(Client):
    async def write(self, *commands: Any) -> bool:
        *_, written = await self.ask(("MULTI",), *commands, ("EXEC",))
        return written is not None


class TwoUnits(Client):
    """The checkpoint, which comes first, and then the data."""

    async def transact(self, queue: list[Any]) -> list[Any] | None:
        done = await super().transact(queue[:1])
        self.redis.look()
        await turn("between")
        return done and done + (await super().transact(queue[1:]) or [])


class Kept(Redis):
    """A read store that is emptied of all but the checkpoint."""

    def flush(self) -> None:
        self.unlink(*(key for key in self.values if key != KEYS.checkpoint))


MUTANTS: dict[str, dict[str, Any]] = {
    "id > last": {"feed": Polling},
    "no WATCH": {"client": Unwatched},
    "WATCH lost with its connection": {"client": Forgetful},
    "checkpoint in another unit": {"client": TwoUnits},
    "checkpoint in another store": {"store": Kept},
    "no version guard": {"apply": no_version_guard.WRONG},
    "swallowed error": {"apply": swallowed_error.WRONG(apply)},
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_mistake_is_found_within_the_schedules(mutant: str, summary: list[str]) -> None:
    for seed in range(SEEDS):
        try:
            World(seed, **MUTANTS[mutant]).run()
        except Exception as found:  # noqa: BLE001
            summary.append(f"simulation: {mutant} is found by schedule {seed}: {str(found)[:60]} …")
            return
    raise AssertionError(f"{mutant} went through {SEEDS} schedules unseen")
