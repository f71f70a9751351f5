"""Logging an error of the projection, and going on.

A release cannot spell: it fails on every name that is not plain ASCII. A projection that logs the error and takes the
next event keeps its queue short and all its lights green, while its views drift away from the truth. After
the bug is mended the checkpoint has long passed those events, and nothing brings them back.

The remedy forgets no event that was not applied: after five tries its stream is parked where all can see it, the others
go on, and the mended release replays what waited.
"""

import contextlib
from typing import Any
from unittest.mock import patch

from contract.text import words
from cqrs_impl.read import parking, redis_views
from crossover.gallery.stage import Evidence, Stage

NAMES = ("Ann", "Zoë", "Bea", "José")
ORDERS = 40


class Swallowing(redis_views._Work):
    async def _apply(self, *event: Any) -> None:
        with contextlib.suppress(Exception):  # logged somewhere, read by nobody
            await super()._apply(*event)


WRONG, RIGHT, SHOWN = Swallowing, redis_views._Work, redis_views._Work.fold


def ascii_words(text: str) -> tuple[str, ...]:
    text.encode("ascii")
    return tuple(words(text))


async def show(stage: Stage, work: type[redis_views._Work]) -> Evidence:
    product, customers = await stage.product(), [await stage.customer(name) for name in NAMES]
    orders = [await stage.place(customers[n % len(NAMES)], product, by=stage.execute) for n in range(ORDERS)]
    with patch.object(redis_views, "_Work", work), patch.object(parking._log, "disabled", True):
        with patch.object(redis_views, "words", ascii_words):
            await stage.project()
        await stage.project(replay=True)
    shown = await stage.redis.mget([stage.keys.order(id) for id in orders])
    return Evidence(shown.count(None), ORDERS, "orders still missing after the bug was mended")
