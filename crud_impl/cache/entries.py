"""The cache in Redis, which may lose any key at any time.

An entry is an answer and the generations that its tags had, and is valid while those are the present ones. A generation
is random, made when a reader finds none, and deleted to invalidate; so neither an evicted tag nor one that was made
again matches an old entry. A reader asks for the generations before it asks the database: what a command invalidates
meanwhile is not stored.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha1
from time import monotonic
from typing import Any, Protocol

import msgspec

from contract.errors import StoreGone
from contract.messages import Query
from contract.position import Position, covers
from crud_impl.cache.stale import ALL

# The last line: how long an answer can be stale after a process was killed between a commit and its invalidation while
# others go on, or after a write past the service.
TTL_S = 300  # what web frameworks take by default, Django for one
BACK_OFF_S = 0.2  # after an error the cache is left alone for so long
OWED_MAX = 1_000  # tags; more are all of them
MISSING_MAX = 10_000  # tags

# What MGET returns, once the generations that were missing are made.
MAKE = """
local found = redis.call('MGET', unpack(KEYS))
for i = 2, #KEYS do
  if not found[i] then
    found[i] = ARGV[1]
    redis.call('SET', KEYS[i], ARGV[1], 'EX', ARGV[2])
  end
end
return found"""
# Nothing of earlier generations is stored, and of two answers of the same the later read stays.
STORE = """
local found = redis.call('MGET', unpack(KEYS))
for i = 2, #KEYS do
  if not found[i] then return end
end
if table.concat(found, ' ', 2) ~= ARGV[1] then return end
local held, low = string.match(found[1] or '', '^([^\\n]*)\\n(%d+)')
if held == ARGV[1] and tonumber(low) > tonumber(ARGV[2]) then return end
for i = 2, #KEYS do redis.call('EXPIRE', KEYS[i], 2 * ARGV[4]) end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])"""
EVICTED = "return string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)')"

NO_SCRIPT = "No matching script"

_encode = msgspec.json.Encoder().encode


Command = tuple[str | bytes | int, ...]


class Redis(Protocol):
    async def ask(self, *commands: Command) -> list[Any]:
        """Replies to commands; raises `StoreGone`."""

    def on_open(self, command: Command, told: Callable[[Any], None]) -> None:
        """Send this first on each new connection, which may lead to another server, and tell its reply."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Snapshot:
    """What an answer was read from: it shows all transactions below `low` and none from `high` on."""

    low: int
    high: int
    history: str

    @cached_property
    def position(self) -> Position:
        """For who saw the answer: what shows all below it shows all that the answer did."""
        return Position(((self.high, 0),))

    def reflects(self, wanted: Position) -> bool:
        return covers(Position(((self.low, 0),)), wanted)


class Entry(msgspec.Struct, frozen=True):
    body: bytes
    snapshot: Snapshot


class Found(msgspec.Struct, frozen=True):
    entry: Entry | None  # a valid one
    generations: bytes | None  # of the tags, unless one has none


class Entries:
    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis, self._prefix = redis, f"{namespace}:"
        # Invalidations that are not delivered yet; until they are, the cache is not used. A process begins with all:
        # it does not know what the one before it left undelivered.
        self._owed, self._owed_from_s, self._delivering = {ALL}, 0.0, False
        self._failed, self._retry_s, self._servers = False, 0.0, 0
        self._missing = set[str]()  # keys of tags that were invalidated, so that whoever asks first makes them at once
        # Nobody else loads these scripts, so a server that lacks them was restarted or is another, with older contents.
        self._scripts = [f"{script} -- {secrets.token_hex(8)}" for script in (MAKE, STORE)]
        self._make, self._store = (sha1(script.encode()).hexdigest() for script in self._scripts)
        redis.on_open(("SCRIPT", "EXISTS", self._make), self._opened)

    def _opened(self, exists: object) -> None:
        if exists != [1]:
            self._servers += 1
            self.owe({ALL})

    async def find(self, query: Query, tags: Iterable[str], *, make: bool = False) -> Found | None:
        """What is there, in one round trip; None if there is no cache to be used. The generations are to be asked for
        before the database is: `make` those that are missing."""
        if self._owed:
            await self._deliver()
        if self._owed or self._delivering:
            return None
        keys, servers = self._keys(query, tags), self._servers
        command: Command = ("MGET", *keys)
        if make or not self._missing.isdisjoint(keys):
            self._missing.difference_update(keys)
            command = ("EVALSHA", self._make, len(keys), *keys, secrets.token_hex(8), 2 * TTL_S)
        replies = await self._ask(command)
        if replies is None or self._servers != servers:
            return None
        entry, *found = replies[0]
        if None in found:
            return Found(None, None)
        generations = b" ".join(found)
        if entry is not None:
            held, snapshot, body = entry.split(b"\n", 2)
            if held == generations:
                return Found(Entry(body, _snapshot(snapshot)), generations)
        return Found(None, generations)

    @property
    def usable(self) -> bool:
        return not (self._failed or self._owed or self._delivering)

    async def store(self, query: Query, tags: Iterable[str], generations: bytes, entry: Entry) -> None:
        keys, read = self._keys(query, tags), entry.snapshot
        text = b"%b\n%d %d %b\n%b" % (generations, read.low, read.high, read.history.encode(), entry.body)
        await self._ask(("EVALSHA", self._store, len(keys), *keys, generations, read.low, text, TTL_S))

    async def invalidate(self, tags: set[str]) -> None:
        """Returns when it is delivered or owed."""
        keys, delivered = [self._prefix + tag for tag in tags], False
        try:
            load = [("SCRIPT", "LOAD", script) for script in self._scripts if ALL in tags]
            delivered = await self._ask(*load, ("UNLINK", *keys)) is not None
        finally:
            if not delivered:
                self.owe(tags)
        if len(self._missing) > MISSING_MAX:
            self._missing.clear()
        self._missing.update(keys)

    def owe(self, tags: set[str], *, after_s: float = 0.0) -> None:
        """Invalidate these before the cache is used again, but not sooner than after so long."""
        self._owed |= tags
        self._owed_from_s = max(self._owed_from_s, monotonic() + after_s)
        if len(self._owed) > OWED_MAX:
            self._owed = {ALL}

    async def _deliver(self) -> None:
        if self._delivering or monotonic() < self._owed_from_s:
            return
        owed, self._owed, self._delivering = self._owed, set(), True
        try:
            await self.invalidate(owed)  # or they are owed again
        finally:
            self._delivering = False

    async def _ask(self, *commands: Command) -> list[Any] | None:
        """None if the cache is not used now: it failed, and of those who would try it again one does."""
        if self._failed:
            if monotonic() < self._retry_s:
                return None
            self._retry_s = monotonic() + BACK_OFF_S
        try:
            replies = await self._redis.ask(*commands)
        except StoreGone as gone:
            if NO_SCRIPT in gone.reason:
                self.owe({ALL})
            self._failed, self._retry_s = True, monotonic() + BACK_OFF_S
            return None
        self._failed = False
        return replies

    async def evicted(self) -> int | None:
        """How many keys the server has evicted since it started."""
        replies = await self._ask(("EVAL", EVICTED, 0))
        return None if replies is None else int(replies[0])

    async def close(self) -> None:
        await self._redis.close()

    def _keys(self, query: Query, tags: Iterable[str]) -> list[str]:
        id = getattr(query, "id", "") if len(query.__struct_fields__) == 1 else _encode(query).decode()
        return [f"{self._prefix}{type(query).__name__}:{id}", *map(self._prefix.__add__, tags)]


@lru_cache(maxsize=1024)
def _snapshot(text: bytes) -> Snapshot:
    low, high, history = text.split(b" ")
    return Snapshot(int(low), int(high), history.decode())
