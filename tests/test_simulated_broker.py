"""Relay, broker and projectors of parts under seeded schedules, as `tests.test_simulation` of the projector alone.

`SIMULATION_SEED=1234 pytest tests/test_simulated_broker.py` replays one; `SIMULATION_SEEDS` says how many.
"""

import os
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from contract.position import BEGINNING
from cqrs_impl.batch import apply
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.feeds.transport import Delivered, decode, encode
from tests.simulated_broker import Reader, Redis, World
from tests.test_simulation import TwoUnits, Unwatched

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "200"))


def test_every_schedule_ends_with_the_views_of_the_truth() -> None:
    chosen = os.environ.get("SIMULATION_SEED")
    for seed in [int(chosen)] if chosen else range(SEEDS):
        try:
            World(seed).run()
        except Exception as failure:
            raise AssertionError(f"replay it by SIMULATION_SEED={seed}: {failure}") from failure


class Believing(Reader):
    """Takes what the broker gives for all there is."""

    async def read(self, limit: int) -> Sequence[Delivered]:
        given = await super().read(limit)
        return [one._replace(body=encode(replace(decode(one.body), after=BEGINNING))) for one in given]


class Ahead(Redis):
    """The checkpoint of the part that is furthest, in place of the one that is behind."""

    def eval(self, script: str, keys: int, joined: str, *parts: str) -> None:
        self.set(joined, max(Checkpoint.of(self.values.get(part, b"")) for part in parts).text)


MUTANTS: dict[str, dict[str, Any]] = {
    "a broker is believed": {"reader": Believing},
    "the part furthest ahead": {"store": Ahead},
    "every part folds everything": {"apply_in": lambda part: apply},
    "no WATCH": {"client": Unwatched},
    "checkpoint in another unit": {"client": TwoUnits},
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_mistake_is_found_within_the_schedules(mutant: str, summary: list[str]) -> None:
    for seed in range(SEEDS):
        try:
            World(seed, **MUTANTS[mutant]).run()
        except Exception as found:  # noqa: BLE001
            summary.append(f"simulated broker: {mutant} is found by schedule {seed}: {str(found)[:60]} …")
            return
    raise AssertionError(f"{mutant} went through {SEEDS} schedules unseen")
