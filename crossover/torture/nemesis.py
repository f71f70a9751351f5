"""The nemesis: a shuffled deck of faults, dealt one after the other while the clients go on.

A fault is a context manager: entering it does the harm, leaving it ends the cause. The harm goes on until the system
has mended itself, and that is what is measured: recovery (a fresh write is acknowledged) and convergence (a reader with
its token sees it) count from the moment the cause ends; for something killed from its new start, all of it included.
"""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import NamedTuple

import redis

from crossover.errors import UserError
from crossover.torture.clients import Shop, recover
from crossover.torture.history import Fault
from crossover.torture.links import HURTS
from crossover.torture.stage import Stage

EVERY_S = 1.5
REBUILDING = ("flush", "kill-redis")  # what makes the read store replay itself, and so would hide a loss
KINDS = (
    *("kill-app", "kill-projector", "kill-postgres", "kill-backend", "kill-redis"),
    *("pause-app", "pause-projector", "pause-postgres", "pause-redis"),
    *HURTS,
    *("flush", "second-projector", "duplicate", "reorder", "clock", "disk-full", "poison"),
)
EXTRA = "extra-projector"

Told = Callable[[Fault], None]


class Card(NamedTuple):
    kind: str
    where: str
    fault: Callable[[], AbstractAsyncContextManager[None]]
    hold_s: tuple[float, float] = (0.2, 0.7)


def wanted_kinds(faults: str) -> tuple[str, ...]:
    """`all`, or kinds by commas."""
    kinds = KINDS if faults == "all" else tuple(dict.fromkeys(word.strip() for word in faults.split(",")))
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"There is no fault '{unknown[0]}': choose from {', '.join(KINDS)}, or all.")
    return kinds


def deck(stage: Stage, kinds: Iterable[str]) -> list[Card]:
    """One card for each of these faults and each place where the rung can suffer it."""
    cards = [
        *(Card(f"kill-{part}", part, partial(_killed, stage, part)) for part in stage.parts),
        *(Card(f"pause-{part}", part, partial(_paused, stage, part)) for part in stage.parts),
        *(Card(how, name, partial(_hurt, stage, name, how)) for name in stage.links for how in HURTS),
        *(Card("clock", f"app {by:+d} s", partial(_clock_wrong, stage, by)) for by in (3600, -3600)),
        Card("kill-backend", "postgres", partial(_backend_killed, stage), (0.0, 0.1)),
    ]
    if stage.disk is not None:
        cards.append(Card("disk-full", "postgres", partial(_disk_full, stage)))
    if "projector" in stage.parts:
        second = partial(_joined, stage, stage.serving, "worker", "projector")
        cards.append(Card("second-projector", "projector", second))
        lies = ((lie, partial(_joined, stage, "crossover.torture.adversary", lie)) for lie in ("duplicate", "reorder"))
        cards += [Card(lie, "projector", told) for lie, told in lies]
    if "redis" in stage.parts:
        cards.append(Card("flush", "redis", partial(_flushed, stage), (0.0, 0.1)))
    return [card for card in cards if card.kind in kinds]


def dealt(cards: list[Card], rng: random.Random) -> Iterable[Card]:
    """The whole deck in a random order, then again in another."""
    while cards:
        yield from rng.sample(cards, len(cards))


async def torment(stage: Stage, shop: Shop, cards: list[Card], rng: random.Random, until_s: float, told: Told) -> None:
    """Deal faults until the time is over, each once the one before it has been recovered from."""
    for card in dealt(cards, rng):
        start_s = shop.now_s()
        if start_s + EVERY_S > until_s:
            break
        hold_s, pause_s = rng.uniform(*card.hold_s), EVERY_S * rng.uniform(0.7, 1.1)
        async with card.fault():
            await asyncio.sleep(hold_s)
            end_s = shop.now_s()
        told(Fault(card.kind, card.where, start_s, end_s, *await recover(shop, stage.port, end_s)))
        await stage.check()
        await asyncio.sleep(max(0.0, start_s + pause_s - shop.now_s()))


@asynccontextmanager
async def _killed(stage: Stage, part: str) -> AsyncIterator[None]:
    await stage.kill(part)
    yield
    await stage.start(part)


@asynccontextmanager
async def _paused(stage: Stage, part: str) -> AsyncIterator[None]:
    stage.signal_all(part, signal.SIGSTOP)
    try:
        yield
    finally:
        stage.signal_all(part, signal.SIGCONT)


@asynccontextmanager
async def _backend_killed(stage: Stage) -> AsyncIterator[None]:
    """PostgreSQL then restarts itself: what its backend was writing in shared memory cannot be trusted."""
    found = await stage.ask(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        " ORDER BY state <> 'active', random() LIMIT 1"
    )
    for row in found:
        stage.signal(row["pid"], signal.SIGKILL)
    yield


@asynccontextmanager
async def _hurt(stage: Stage, name: str, how: str) -> AsyncIterator[None]:
    link = stage.links[name]
    link.hurt(how)
    try:
        yield
    finally:
        link.restore()


@asynccontextmanager
async def _clock_wrong(stage: Stage, shift_s: int) -> AsyncIterator[None]:
    """The app is started anew with a wrong clock, and again with a right one."""
    await stage.kill("app")
    await stage.start("app", clock=f"shift:{shift_s}")
    await stage.answering()
    yield
    await stage.kill("app")
    await stage.start("app")


@asynccontextmanager
async def _disk_full(stage: Stage) -> AsyncIterator[None]:
    """Forced to begin another log file, a server without space stops; it is started again when there is some."""
    await asyncio.to_thread(stage.fill_disk)
    await stage.provoke("SELECT pg_switch_wal()")
    yield
    stage.free_disk()
    await stage.revive_postgres()


@asynccontextmanager
async def _joined(stage: Stage, module: str, word: str, *more: str) -> AsyncIterator[None]:
    """Another process does the projector's work beside it, and is killed in the middle of it."""
    await stage.start_process(EXTRA, module, word, stage.rung, *more, user="projector")
    await stage.connected(EXTRA)
    yield
    await stage.kill(EXTRA)


@asynccontextmanager
async def _flushed(stage: Stage) -> AsyncIterator[None]:
    with redis.Redis.from_url(stage.redis_url) as store:
        store.flushall()
    yield
