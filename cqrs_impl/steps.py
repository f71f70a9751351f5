"""How a worker goes on: step after step, with a pause where nothing moves, and a longer one where a store is away."""

import asyncio
from collections.abc import Awaitable, Callable

from contract.errors import StoreGone

SOON_WAIT_S = (0.001, 0.05)  # for events that are committed, but not settled yet
GONE_WAIT_S = (0.02, 0.5)


async def repeat(
    step: Callable[[], Awaitable[tuple[bool, bool]]],
    wait: Callable[[], Awaitable[None]],
    gone: Callable[[StoreGone], Awaitable[None]],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """`step` returns whether it moved, and whether more is on its way; without either, `wait` for news. If a store
    cannot be reached, `gone` is told why and closes what it used."""
    pause_s, gone_s = SOON_WAIT_S[0], GONE_WAIT_S[0]
    while True:
        try:
            moved, more_soon = await step()
            gone_s = GONE_WAIT_S[0]
            if not more_soon:
                await wait()
            elif not moved:
                await sleep(pause_s)
            pause_s = min(pause_s * 2, SOON_WAIT_S[1]) if more_soon and not moved else SOON_WAIT_S[0]
        except StoreGone as reason:
            await gone(reason)
            await sleep(gone_s)
            gone_s = min(gone_s * 2, GONE_WAIT_S[1])
