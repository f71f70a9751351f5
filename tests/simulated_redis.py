"""Redis in memory under the scheduler of `tests.simulation`: every command is a moment at which it decides."""

import zlib
from collections import Counter
from collections.abc import Callable, Generator
from types import coroutine
from typing import Any

from contract.errors import StoreGone
from cqrs_impl.documents.redis import Keys

READS_BEFORE_EXPIRY = 4
GO, REQUEST_LOST, REPLY_LOST, CUT = "go", "request lost", "reply lost", "cut"
KEYS = Keys("sim")


@coroutine
def turn(where: str) -> Generator[str, str, str]:
    """Where a process can be overtaken, hit or killed; the scheduler's answer says what became of it."""
    return (yield where)


class Redis:
    """What all connections share: values, sorted sets whose scores are 0, and how often each key was touched."""

    def __init__(self, moved: Callable[[bytes], None]) -> None:
        self.values: dict[str, Any] = {}
        self.touched, self._moved, self._checkpoint = Counter[str](), moved, b""
        self._left = dict[str, int]()  # how often what expires will still be read

    def _touch(self, key: str) -> None:
        self.touched[key] += 1

    def look(self) -> None:
        """What others can see now: after a command, or a whole transaction."""
        held, self._checkpoint = self._checkpoint, self.values.get(KEYS.checkpoint, b"")
        if self._checkpoint not in (held, b""):
            self._moved(self._checkpoint)

    def flush(self) -> None:
        self.unlink(*self.values)

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def mget(self, *keys: str) -> list[Any]:
        found = [self.values.get(key) for key in keys]
        for key in self._left.keys() & keys:
            self._left[key] -= 1
            if not self._left[key]:
                self.unlink(key)
        return found

    def set(self, key: str, value: bytes, *how: str | int) -> None:
        if "NX" in how and key in self.values:
            return
        self.values[key] = value
        self._touch(key)
        if "PX" in how:
            self._left[key] = READS_BEFORE_EXPIRY

    def mset(self, *words: Any) -> None:
        for key, value in zip(words[::2], words[1::2], strict=True):
            self.set(key, value)

    def unlink(self, *keys: Any) -> None:
        for key in [key.decode() if isinstance(key, bytes) else key for key in keys]:
            self._left.pop(key, None)
            if self.values.pop(key, None) is not None:
                self._touch(key)

    def scan(self, cursor: bytes, _match: str, pattern: str, *_count: object) -> tuple[bytes, list[bytes]]:
        """A quarter of the keys at a time, so that much can happen in between."""
        at, keys = int(cursor), [key.encode() for key in self.values if key.startswith(pattern[:-1])]
        return str((at + 1) % 4).encode(), [key for key in keys if zlib.crc32(key) % 4 == at]

    def zrange(self, key: str, *_: int) -> list[bytes]:
        return sorted(self.values.get(key, ()))

    def zadd(self, key: str, *words: bytes) -> None:
        self.values.setdefault(key, set()).update(words[1::2])
        self._touch(key)

    def zrem(self, key: str, *members: str) -> None:
        there = self.values.get(key, set())
        there.difference_update(member.encode() for member in members)
        if not there:
            self.values.pop(key, None)
        self._touch(key)


class Client:
    """A connection as `RedisClient` is one: what it sends may not arrive, what comes back may be lost, and with the
    connection goes what it watched. Others come between any two of its commands, but for a transaction's."""

    def __init__(self, redis: Redis) -> None:
        self.redis, self.dead = redis, False
        self.connection: object = None
        self._watching: object = None
        self._connect()

    def _connect(self) -> None:
        self.connection, self._watched = object(), dict[str, int]()

    async def ask(self, *commands: Any) -> list[Any]:
        return await self._ask(commands)

    async def watch(self, key: str, *commands: Any) -> list[Any]:
        _, _, *answers = await self._ask((("UNWATCH",), ("WATCH", key), *commands))
        self._watching = self.connection
        return answers

    async def write(self, *commands: Any) -> bool:
        *_, written = await self._ask((("MULTI",), *commands, ("EXEC",)), on=self._watching)
        return written is not None

    async def _ask(self, commands: Any, on: object = None) -> list[Any]:
        if self.dead:
            raise StoreGone("killed")
        answers: list[Any] = []
        queue: list[Any] | None = None
        for name, *words in commands:
            if name == "MULTI":
                queue = []
            elif queue is not None and name != "EXEC":
                queue.append((name, *words))
            else:
                became = await turn(name)
                if became == CUT:
                    self._connect()  # if nothing was asked yet it says nothing
                if became == REQUEST_LOST or (became == CUT and answers) or on not in (None, self.connection):
                    self._connect()
                    raise StoreGone(became)
                answers.append(await self.transact(queue) if queue is not None else self._do(name, *words))
                self.redis.look()
                if became == REPLY_LOST:
                    self._connect()
                    raise StoreGone(became)
        return answers

    def _do(self, name: str, *words: Any) -> Any:
        if name == "WATCH":
            self._watched |= {key: self.redis.touched[key] for key in words}
        elif name == "UNWATCH":
            self._watched.clear()
        else:
            return getattr(self.redis, name.lower())(*words)

    async def transact(self, queue: list[Any]) -> list[Any] | None:
        refused = any(self.redis.touched[key] != touched for key, touched in self._watched.items())
        self._watched.clear()
        return None if refused else [self._do(*command) for command in queue]
