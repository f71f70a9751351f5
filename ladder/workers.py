"""Workers are run until a signal asks for their end, and ended for certain."""

import asyncio
import signal
from collections.abc import Sequence
from typing import Any

from contract.ports import Worker

AGAIN_S = 0.5


async def run(worker: Worker) -> None:
    """Until it ends by itself, which raises what it raised, or SIGTERM or SIGINT asks for it."""
    running, asked = asyncio.ensure_future(worker.run()), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    asking = asyncio.ensure_future(asked.wait())
    await asyncio.wait((running, asking), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    await end([running, asking])


async def end(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancel again until all have ended: a cancellation is lost where it meets an error of a store."""
    while ending := [task for task in tasks if not task.done()]:
        for task in ending:
            task.cancel()
        await asyncio.wait(ending, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
