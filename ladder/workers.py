"""Workers are run until a signal asks for their end, and ended for certain."""

import asyncio
import signal

from contract.ports import Worker
from contract.tasks import end


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
