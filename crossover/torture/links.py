"""Links: proxies between the parts of a system that can cut, block or delay the traffic, or drop replies."""

import asyncio
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Connect = Callable[[], Awaitable[tuple[StreamReader, StreamWriter]]]
CHUNK_BYTES = 65536
DELAY_S = 0.1
FAULTS = ("cut", "blackhole", "delay", "drop-replies")


def link_name(user: str, server: str) -> str:
    """The link by which a process, or a server that repeats another, reaches a server."""
    return f"{user}-{server}"


class Links:
    """A context: all links of one system, served by a thread of their own. Links by name."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: dict[str, Link] = {}

    def __enter__(self) -> "Links":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def names(self) -> list[str]:
        return list(self._links)

    def over_socket(self, name: str, here: Path, there: Path) -> None:
        link = self._links[name] = Link(lambda: asyncio.open_unix_connection(there))
        self._call(link.serve(lambda accept: asyncio.start_unix_server(accept, here)))

    def over_tcp(self, name: str, there: Callable[[], tuple[str, int]]) -> int:
        """Listen on a free port of the loopback and return it; `there` may move."""
        link = self._links[name] = Link(lambda: asyncio.open_connection(*there()))
        server = self._call(link.serve(lambda accept: asyncio.start_server(accept, "127.0.0.1", 0)))
        return int(server.sockets[0].getsockname()[1])

    def disturb(self, name: str, fault: str) -> None:
        self._call(self._links[name].disturb(fault))

    def restore(self, name: str) -> None:
        self._call(self._links[name].restore())

    async def _close(self) -> None:
        tasks = [task for link in self._links.values() for task in link.close()]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class Link:
    """Forwards every connection it accepts to a fresh one from `connect`.

    `cut` breaks every connection and refuses new ones. A `blackhole` holds every byte back, ends included, and lets
    them go when it is over, as a network that retransmits does. What swallowed a reply is broken afterwards.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._server: asyncio.Server | None = None
        self._writers: set[StreamWriter] = set()
        self._spoilt: set[StreamWriter] = set()  # a reply of theirs was swallowed
        self._tasks: set[asyncio.Task[None]] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self._fault = ""

    async def serve(self, start: Callable[[Any], Awaitable[asyncio.Server]]) -> asyncio.Server:
        self._server = await start(self._accept)
        return self._server

    async def disturb(self, fault: str) -> None:
        self._fault = fault
        if fault == "cut":
            self._break(self._writers)
        elif fault == "blackhole":
            self._passes.clear()

    async def restore(self) -> None:
        self._fault = ""
        self._passes.set()
        self._break(self._spoilt)

    def close(self) -> set[asyncio.Task[None]]:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        self._break(self._writers)
        return self._tasks

    @staticmethod
    def _break(writers: set[StreamWriter]) -> None:
        for writer in list(writers):
            writer.transport.abort()
        writers.clear()

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs each connection in a task"
        self._tasks.add(task)
        ends = {writer}
        try:
            if self._fault == "cut":
                return
            beyond, onward = await self._connect()
            ends.add(onward)
            self._writers |= ends
            await asyncio.gather(self._pump(reader, onward, ends), self._pump(beyond, writer, ends, replies=True))
        except (OSError, asyncio.CancelledError):
            pass  # nobody listens beyond, or the link is closed: the connection ends below
        finally:
            self._writers -= ends
            self._spoilt -= ends
            self._tasks.discard(task)
            self._break(ends)

    async def _pump(
        self, source: StreamReader, sink: StreamWriter, ends: set[StreamWriter], *, replies: bool = False
    ) -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                await self._passes.wait()
                if self._fault == "delay":
                    await asyncio.sleep(DELAY_S)
                if replies and self._fault == "drop-replies":
                    self._spoilt |= ends
                    continue
                sink.write(data)
                await sink.drain()
            await self._passes.wait()
        finally:
            for end in ends:
                end.transport.abort()
