"""A link: a proxy between two parts of a system that can be cut, held up, slowed, or made to swallow replies."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CHUNK_BYTES = 65536
DELAY_S = 0.1
HURTS = ("cut", "blackhole", "delay", "drop-replies")


class Link:
    """Forwards every connection it accepts to a fresh one from `connect`.

    `cut` breaks every connection and refuses new ones. A `blackhole` holds every byte back, ends included, and lets
    them go when it is over, as a network that retransmits does. What swallowed a reply is broken afterwards.
    """

    def __init__(self, connect: Callable[[], Awaitable[Streams]]) -> None:
        self._connect = connect
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self._delay_s = 0.0
        self._is_cut = self._drops = False
        self._spoilt: set[asyncio.StreamWriter] = set()

    async def listen_on(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._accept, path)

    async def listen_tcp(self) -> int:
        """Listen on a free port of the loopback and return it."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def hurt(self, how: str) -> None:
        match how:
            case "cut":
                self._is_cut = True
                self._break(self._writers)
            case "blackhole":
                self._passes.clear()
            case "delay":
                self._delay_s = DELAY_S
            case "drop-replies":
                self._drops = True

    def restore(self) -> None:
        self._is_cut = self._drops = False
        self._delay_s = 0.0
        self._passes.set()
        self._break(self._spoilt)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        self._break(self._writers)

    @staticmethod
    def _break(writers: set[asyncio.StreamWriter]) -> None:
        for writer in list(writers):
            writer.transport.abort()
        writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs each connection in a task"
        self._tasks.add(task)
        ends = {writer}
        try:
            if self._is_cut:
                return
            beyond, onward = await self._connect()
            ends.add(onward)
            self._writers |= ends
            await asyncio.gather(
                self._pump(reader, onward, ends, replies=False), self._pump(beyond, writer, ends, replies=True)
            )
        except (OSError, asyncio.CancelledError):
            pass  # nobody listens beyond, or the link is closed: the connection ends below
        finally:
            self._writers -= ends
            self._spoilt -= ends
            self._tasks.discard(task)
            self._break(ends)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        ends: set[asyncio.StreamWriter],
        *,
        replies: bool,
    ) -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                await self._passes.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if replies and self._drops:
                    self._spoilt |= ends
                    continue
                sink.write(data)
                await sink.drain()
            await self._passes.wait()
        finally:
            for end in ends:
                end.transport.abort()
