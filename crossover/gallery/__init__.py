"""The gallery of mistakes: each is a small variant of a correct part, and fails in a scenario that the part passes.

A module of this package is one mistake: its docstring is the lesson, `WRONG` and `RIGHT` are the two parts, and
`show(env, part)` runs the scenario with one of them. `SHOWN`, where given, is displayed instead of `RIGHT`.
"""

import asyncio
import importlib
import time
from collections.abc import Mapping
from types import ModuleType
from typing import NamedTuple

from crossover.errors import UserError
from crossover.gallery.environment import DemoEnvironment, Evidence

MISTAKES = (
    "id-after-last",
    "dual-write",
    "checkpoint-elsewhere",
    "no-version-guard",
    "cache-aside",
    "stampede",
    "stale-replica",
    "oversell",
    "saga",
    "unsorted-locks",
    "naive-retry",
    "swallowed-error",
    "evicting-store",
    "default-rollback",
    "rename-fan-out",
    "stale-snapshot",
    "edited-event",
)


class Demo(NamedTuple):
    """A mistake and its remedy after the same scenario."""

    name: str
    wrong: Evidence
    right: Evidence
    seconds: float

    @property
    def caught(self) -> bool:
        return self.wrong.bad > 0

    @property
    def held(self) -> bool:
        return self.right.bad == 0


def mistake(name: str) -> ModuleType:
    if name not in MISTAKES:
        raise UserError(f"There is no mistake '{name}': choose one of {', '.join(MISTAKES)}.")
    return importlib.import_module(f"crossover.gallery.{name.replace('-', '_')}")


def title(name: str) -> str:
    """The first sentence of the lesson."""
    return (mistake(name).__doc__ or "").splitlines()[0].rstrip(".")


def run_demo(name: str, urls: Mapping[str, str]) -> Demo:
    """Play the scenario with the wrong part and with the right one, on private servers: some scenarios change them."""
    module, start = mistake(name), time.perf_counter()

    async def play(part: object) -> Evidence:
        async with DemoEnvironment(urls) as env:
            evidence: Evidence = await module.show(env, part)
            return evidence

    wrong, right = asyncio.run(play(module.WRONG)), asyncio.run(play(module.RIGHT))
    return Demo(name, wrong, right, time.perf_counter() - start)
