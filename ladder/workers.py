"""Workers are run until a signal asks for their end, and ended for certain."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar, runtime_checkable

from contract.ports import Worker
from contract.tasks import end
from cqrs_impl.projector import Projector

W = TypeVar("W")


@runtime_checkable
class Closing(Protocol):
    """A worker that holds connections when it has ended."""

    async def close(self) -> None: ...


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
    await close(worker)


async def close(worker: object) -> None:
    if isinstance(worker, Closing):
        await worker.close()


async def rebuild(workers: Iterable[Worker], progress: Callable[[int, int], None]) -> int:
    """What each projector among them builds; other workers build nothing."""
    projectors = [worker for worker in workers if isinstance(worker, Projector)]
    return await one_by_one(projectors, lambda projector: projector.rebuild(progress))


async def one_by_one(workers: Iterable[W], build: Callable[[W], Awaitable[int]]) -> int:
    """Close each when it has built; returns how many events the last one has read, as all do."""
    read = 0
    for worker in workers:
        try:
            read = await build(worker)
        finally:
            await close(worker)
    return read
