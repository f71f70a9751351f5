"""Tasks are ended for certain."""

import asyncio
from collections.abc import Sequence
from typing import Any

AGAIN_S = 0.5


async def end(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancel again until all have ended: a cancellation is lost where it meets an error of a store."""
    while ending := [task for task in tasks if not task.done()]:
        for task in ending:
            task.cancel()
        await asyncio.wait(ending, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
