"""One connection that all requests share: commands go out in one stream, replies come back in the same order.

The pool and the task per command of redis-py's client cost more than the command itself: 41 µs of CPU for an MGET of
two keys, against 10 here. redis-py supplies the errors and the URL parser, hiredis packs commands and parses replies.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio.connection import parse_url
from redis.exceptions import ResponseError

from contract.errors import StoreGone
from cqrs_impl.documents.redis_client import AWAY, GONE, Command

COMMANDS_A_SECOND = 10_000  # expected at least: the timeout of a long pipeline is longer
_pack = cast(Callable[[Command], bytes], hiredis.pack_command)  # typed as if it took tuples of one


class SharedConnection:
    """Connects at first use, and again after a loss. All users share one watched key."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._at: dict[str, Any] = dict(parse_url(url))
        self._timeout_s = timeout_s
        self._open: _Connection | None = None
        self._watching: _Connection | None = None
        self._opening = asyncio.Lock()

    async def ask(self, *commands: Command) -> list[Any]:
        """Raises the error of the first refused command, inside an EXEC too."""
        return await self._ask(commands)

    async def watch(self, key: str, *commands: Command) -> list[Any]:
        _, _, *answers = await self._ask((("UNWATCH",), ("WATCH", key), *commands))
        self._watching = self._open
        return answers

    async def write(self, *commands: Command) -> bool:
        *_, written = await self._ask((("MULTI",), *commands, ("EXEC",)), on=self._watching)
        return written is not None

    async def close(self) -> None:
        if self._open is not None:
            self._open.transport.abort()

    async def _ask(self, commands: Sequence[Command], on: "_Connection | None" = None) -> list[Any]:
        connection = self._open
        try:
            async with asyncio.timeout(self._timeout_s + len(commands) / COMMANDS_A_SECOND):
                if connection is None or connection.transport.is_closing():
                    connection = await self._connected()
                if on not in (None, connection):
                    raise ConnectionResetError("the connection is another now, which watches nothing")
                return await connection.ask(commands)
        except OSError as error:  # a TimeoutError is one
            if connection is not None and isinstance(error, TimeoutError):
                connection.transport.abort()
            raise StoreGone(AWAY) from error

    async def _connected(self) -> "_Connection":
        async with self._opening:
            if self._open is not None and not self._open.transport.is_closing():
                return self._open
            at, loop = self._at, asyncio.get_running_loop()
            if "path" in at:
                _, fresh = await loop.create_unix_connection(_Connection, at["path"])
            else:
                tls = True if "connection_class" in at else None
                host, port = at.get("host", "localhost"), at.get("port", 6379)
                _, fresh = await loop.create_connection(_Connection, host, port, ssl=tls)
            try:
                if "password" in at:
                    await fresh.ask([("AUTH", at.get("username", "default"), at["password"])])
                if at.get("db"):
                    await fresh.ask([("SELECT", at["db"])])
            except BaseException:
                fresh.transport.abort()
                raise
            self._open = fresh
            return fresh


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._waiting = deque[tuple[asyncio.Future[list[Any]], int]]()  # with the number of replies each waits for
        self._answers: list[Any] = []  # so far, for the first of them
        self._refusal: Exception | None = None
        self._reader = hiredis.Reader(replyError=self._refused)

    def ask(self, commands: Sequence[Command]) -> "asyncio.Future[list[Any]]":
        answered = asyncio.get_running_loop().create_future()
        self._waiting.append((answered, len(commands)))
        self.transport.write(b"".join([_pack(command) for command in commands]))
        return answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            self._answers.append(answer)
            answered, count = self._waiting[0]
            if len(self._answers) == count:
                self._waiting.popleft()
                answers, refusal = self._answers, self._refusal
                self._answers, self._refusal = [], None
                if answered.done():
                    continue  # the caller was cancelled
                if refusal is None:
                    answered.set_result(answers)
                else:
                    answered.set_exception(refusal)

    def connection_lost(self, error: Exception | None) -> None:
        for answered, _ in self._waiting:
            if not answered.done():
                answered.set_exception(ConnectionResetError("the connection was lost"))
        self._waiting.clear()

    def _refused(self, text: str) -> Exception:
        refusal = StoreGone(AWAY) if text.startswith(GONE) else ResponseError(text)
        self._refusal = self._refusal or refusal
        return refusal
