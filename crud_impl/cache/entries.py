"""The cache in Redis, which may lose any key at any time.

An entry is an answer with its tags and their generations, and is valid while those are the present ones. A generation
is random, made when a reader finds none, and deleted to invalidate; so neither an evicted tag nor one that was made
again matches an old entry. A reader asks for the generations before it asks the database: what a command invalidates
meanwhile is not stored.
"""

import secrets
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha1
from time import monotonic
from typing import Any, NamedTuple, Protocol

import msgspec

from contract.errors import StoreGone
from contract.messages import Query
from contract.position import Position, covers
from crud_impl.cache.stale import ALL

# The last line: how long an answer can be stale after a process was killed between a commit and its invalidation while
# others go on, or after a write past the service.
TTL_S = 30
BACK_OFF_S = 0.2  # after an error the cache is left alone for so long
OWED_MAX = 1_000  # tags; more are all of them

FIND = """
local entry = redis.call('GET', KEYS[1])
if not entry then return false end
local tags, generations = string.match(entry, '^([^\\n]*)\\n([^\\n]*)')
local names = {}
for tag in string.gmatch(tags, '%S+') do names[#names + 1] = tag end
local now = redis.call('MGET', unpack(names))
for i = 1, #now do now[i] = now[i] or '' end
return table.concat(now) == generations and entry"""
GENERATIONS = """
local found = {}
for i, tag in ipairs(KEYS) do
  if redis.call('EXPIRE', tag, ARGV[2]) == 0 then redis.call('SET', tag, ARGV[1], 'EX', ARGV[2]) end
  found[i] = redis.call('GET', tag)
end
return table.concat(found)"""
# Nothing of earlier generations is stored, and of two answers of the same the later read stays.
STORE = """
local now = redis.call('MGET', unpack(KEYS, 2))
for i = 1, #now do now[i] = now[i] or '' end
if table.concat(now) ~= ARGV[1] then return 0 end
local held = redis.call('GET', KEYS[1])
if held then
  local generations, low = string.match(held, '^[^\\n]*\\n([^\\n]*)\\n(%d+)')
  if generations == ARGV[1] and tonumber(low) > tonumber(string.match(ARGV[2], '%d+')) then return 0 end
end
local tags = table.concat(KEYS, ' ', 2)
redis.call('SET', KEYS[1], table.concat({tags, ARGV[1], ARGV[2], ARGV[3]}, '\\n'), 'EX', ARGV[4])
return 1"""
EVICTED = "return string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)')"

NO_SCRIPT = "No matching script"

_encode = msgspec.json.Encoder().encode


Command = tuple[str | bytes | int, ...]


class Redis(Protocol):
    async def ask(self, *commands: Command) -> list[Any]:
        """Replies to commands; raises `StoreGone`."""

    async def close(self) -> None: ...


class Snapshot(NamedTuple):
    """What an answer was read from: it shows all transactions below `low` and none from `high` on."""

    low: int
    high: int
    history: str

    @property
    def position(self) -> Position:
        """For who saw the answer: what shows all below it shows all that the answer did."""
        return Position(((self.high, 0),))

    def reflects(self, wanted: Position) -> bool:
        return covers(Position(((self.low, 0),)), wanted)


class Entry(NamedTuple):
    body: bytes
    snapshot: Snapshot


class Entries:
    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis, self._prefix = redis, f"{namespace}:"
        # Invalidations that are not delivered yet; until they are, the cache is not used. A process begins with all:
        # it does not know what the one before it left undelivered.
        self._owed, self._owed_from_s, self._delivering = {ALL}, 0.0, False
        self._failed, self._retry_s = False, 0.0
        # Nobody else loads this script, so a server that lacks it was restarted or is another, with older contents.
        self._find = f"{FIND} -- {secrets.token_hex(8)}"
        self._find_sha = sha1(self._find.encode()).hexdigest()

    async def find(self, query: Query) -> Entry | None:
        """A valid entry, in one round trip; None if there is none, or no cache to be used."""
        if self._owed:
            await self._deliver()
        if self._owed or self._delivering:
            return None
        replies = await self._ask(("EVALSHA", self._find_sha, 1, self._key(query)))
        if replies is None or replies[0] is None:
            return None
        _, _, snapshot, body = replies[0].split(b"\n", 3)
        return Entry(body, _snapshot(snapshot))

    @property
    def usable(self) -> bool:
        return not (self._failed or self._owed or self._delivering)

    async def generations(self, tags: Iterable[str]) -> bytes | None:
        """The present generations of these tags, to be asked for before the database is; None if there is no cache."""
        keys = self._keys(tags)
        replies = await self._ask(("EVAL", GENERATIONS, len(keys), *keys, secrets.token_hex(8), 2 * TTL_S))
        return None if replies is None else bytes(replies[0])

    async def store(self, query: Query, tags: Iterable[str], generations: bytes, entry: Entry) -> None:
        keys, text = [self._key(query), *self._keys(tags)], " ".join(map(str, entry.snapshot))
        await self._ask(("EVAL", STORE, len(keys), *keys, generations, text, entry.body, TTL_S))

    async def invalidate(self, tags: set[str]) -> None:
        """Returns when it is delivered or owed."""
        delivered = False
        try:
            script = (("SCRIPT", "LOAD", self._find),) if ALL in tags else ()
            delivered = await self._ask(*script, ("UNLINK", *self._keys(tags))) is not None
        finally:
            if not delivered:
                self.owe(tags)

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

    def _key(self, query: Query) -> str:
        return f"{self._prefix}{type(query).__name__}:{_encode(query).decode()}"

    def _keys(self, tags: Iterable[str]) -> list[str]:
        return [self._prefix + tag for tag in sorted(tags)]


@lru_cache(maxsize=1024)
def _snapshot(text: bytes) -> Snapshot:
    low, high, history = text.split(b" ")
    return Snapshot(int(low), int(high), history.decode())
