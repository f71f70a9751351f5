"""One connection that all requests share: commands go out in one stream, replies come back in the same order.

The pool and the task per command of redis-py's client cost more than the command itself: 41 µs of CPU for an MGET of
two keys, against 10 here. redis-py supplies the errors and the URL parser, hiredis packs commands and parses replies.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.credentials import UsernamePasswordCredentialProvider
from redis.exceptions import RedisError, ResponseError

from contract.stores import gone
from cqrs_impl.documents.redis_client import AWAY, Command, pool_of

COMMANDS_A_SECOND = 10_000  # expected at least: the timeout of a long pipeline is longer
_pack = cast(Callable[[Command], bytes], hiredis.pack_command)  # typed as if it took tuples of one


class SharedConnection:
    """Connects at first use, and again after a loss. All users share one watched key."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        pool: Any = pool_of(url, connections=1, timeout_s=timeout_s)
        self._at = pool.make_connection()  # redis-py's own, which knows how to connect, and never does
        self._timeout_s = self._at.socket_timeout
        self._open: _Connection | None = None
        self._watching: _Connection | None = None
        self._opening = asyncio.Lock()
        self._on_open: tuple[Command, Callable[[Any], None]] | None = None

    async def ask(self, *commands: Command) -> list[Any]:
        """Raises `StoreGone` for the first refused command, inside an EXEC too."""
        return await self._ask(commands)

    def on_open(self, command: Command, told: Callable[[Any], None]) -> None:
        self._on_open = command, told

    async def watch(self, key: str, *commands: Command) -> list[Any]:
        _, _, *answers = await self._ask((("UNWATCH",), ("WATCH", key), *commands))
        self._watching = self._open
        return answers

    async def write(self, *commands: Command) -> bool:
        *_, written = await self._ask((("MULTI",), *commands, ("EXEC",)), on=self._watching)
        return written is not None

    async def close(self) -> None:
        if self._open is not None:
            self._open.retire(at_once=True)

    async def _ask(self, commands: Sequence[Command], on: "_Connection | None" = None) -> list[Any]:
        connection = self._open
        try:
            async with asyncio.timeout(self._timeout_s + len(commands) / COMMANDS_A_SECOND):
                if connection is None or not connection.fit:
                    connection = await self._connected()
                if on not in (None, connection):
                    raise ConnectionResetError("the connection is another now, which watches nothing")
                return await connection.ask(commands)
        except (OSError, RedisError, ValueError) as error:  # whatever it says or does: there is no list of what that is
            if connection is not None:
                connection.retire(at_once=isinstance(error, TimeoutError))
            raise gone(AWAY, str(error) or "it does not answer") from error

    async def _connected(self) -> "_Connection":
        async with self._opening:
            if self._open is not None and self._open.fit:
                return self._open
            at, loop = self._at, asyncio.get_running_loop()
            if isinstance(at, UnixDomainSocketConnection):
                _, fresh = await loop.create_unix_connection(_Connection, at.path)
            else:
                tls = at.ssl_context.get() if isinstance(at, SSLConnection) else None
                _, fresh = await loop.create_connection(_Connection, at.host, at.port, ssl=tls)
            try:
                for command in self._greeting():
                    fresh.check()
                    await fresh.ask([command])
                fresh.check()
                if self._on_open:
                    command, told = self._on_open
                    told(*await fresh.ask([command]))
            except BaseException:
                fresh.transport.abort()
                raise
            self._open = fresh
            return fresh

    def _greeting(self) -> Iterator[Command]:
        """What redis-py's own connection says first, but for HELLO: replies are read in protocol 2."""
        at = self._at
        if at.username or at.password:
            credentials: Any = UsernamePasswordCredentialProvider(at.username, at.password)
            yield "AUTH", *credentials.get_credentials()
        if at.client_name:
            yield "CLIENT", "SETNAME", at.client_name
        if at.db:
            yield "SELECT", at.db


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._waiting = deque[tuple[asyncio.Future[list[Any]], int]]()  # with the number of replies each waits for
        self._answers: list[Any] = []  # so far, for the first of them
        self._refusal: Exception | None = None
        self._reader = hiredis.Reader(replyError=self._refused)
        self._last_message = "the connection was lost"
        self.fit = True  # for new commands

    def check(self) -> None:
        """Raise if it was closed as soon as it was opened."""
        if not self.fit:
            raise ConnectionResetError(self._last_message)

    def retire(self, *, at_once: bool = False) -> None:
        """Take no more commands, and close when those that wait have their replies: a store that refuses one may lead
        elsewhere when it is connected to again."""
        self.fit = False
        if at_once or not self._waiting:
            self.transport.abort()

    def ask(self, commands: Sequence[Command]) -> "asyncio.Future[list[Any]]":
        answered = asyncio.get_running_loop().create_future()
        self._waiting.append((answered, len(commands)))
        self.transport.write(b"".join([_pack(command) for command in commands]))
        return answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:
                self._answers.append(answer)
                if not self._waiting:  # it refuses us unasked
                    self._last_message = str(answer)
                    return self.retire(at_once=True)
                if len(self._answers) == self._waiting[0][1]:
                    self._answered()
        except hiredis.HiredisError as error:
            self._last_message = f"it does not speak Redis's protocol ({error})"
            self.retire(at_once=True)

    def _answered(self) -> None:
        answered, _ = self._waiting.popleft()
        answers, refusal = self._answers, self._refusal
        self._answers, self._refusal = [], None
        if not answered.done():  # the caller was not cancelled
            if refusal is None:
                answered.set_result(answers)
            else:
                answered.set_exception(refusal)
        if not (self.fit or self._waiting):
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.fit = False
        for answered, _ in self._waiting:
            if not answered.done():
                answered.set_exception(ConnectionResetError(self._last_message))
        self._waiting.clear()

    def _refused(self, text: str) -> Exception:
        refusal = ResponseError(text)
        self._refusal = self._refusal or refusal
        return refusal
