"""Tasks are ended for certain."""

import asyncio
from collections.abc import Sequence
from typing import Any

AGAIN_S = 0.5


async def end(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancel again until all have ended: a cancellation is lost where it meets an error of a store. Who is cancelled
    here meanwhile ends after them, so that nobody uses what is closed next."""
    cancelled: asyncio.CancelledError | None = None
    while ending := [task for task in tasks if not task.done()]:
        for task in ending:
            task.cancel()
        try:
            await asyncio.wait(ending, timeout=AGAIN_S)
        except asyncio.CancelledError as reason:
            cancelled = reason
    await asyncio.gather(*tasks, return_exceptions=True)
    if cancelled:
        raise cancelled
