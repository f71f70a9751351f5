"""The reads of queries from Redis: one round trip each, which includes the checkpoint.

The checkpoint is read in the same command as the document, or before it. It is written atomically with the data and,
unless the store is emptied, only moves forward: the answer reflects at least the position in the checkpoint. It also
names the version that answers. Who asked for the keys of another, which was the last one known, asks once more.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from contract.errors import StoreGone, Unavailable
from contract.messages import OrderItem, Readiness
from contract.position import Position
from cqrs_impl import dead_letters
from cqrs_impl.checkpoint import CLEARING, Checkpoint
from cqrs_impl.documents.redis import Keys
from cqrs_impl.documents.redis_client import Command, RedisClient
from cqrs_impl.fold import with_word
from cqrs_impl.followed import Followed
from cqrs_impl.ports import Backlog

# The newest entries that are in all lists, KEYS[2] and up: walks the shortest list and looks up in the others.
SEARCH = """
local walk = 2
for i = 3, #KEYS do
  if redis.call('ZCARD', KEYS[i]) < redis.call('ZCARD', KEYS[walk]) then walk = i end
end
local prefix, limit, from = ARGV[1], tonumber(ARGV[2]), '+'
local items = {}
while #items < limit do
  local page = redis.call('ZRANGE', KEYS[walk], from, '-', 'BYLEX', 'REV', 'LIMIT', 0, limit)
  for _, m in ipairs(page) do
    local everywhere = #items < limit
    for i = 2, #KEYS do
      if i ~= walk and not redis.call('ZSCORE', KEYS[i], m) then everywhere = false; break end
    end
    if everywhere then items[#items + 1] = prefix .. string.sub(m, 28) end
  end
  if #page < limit then break end
  from = '(' .. page[#page]
end
if #items > 0 then items = redis.call('MGET', unpack(items)) end
return {redis.call('GET', KEYS[1]), items}
"""

_ages = msgspec.json.Decoder(tuple[list[int], float]).decode


class RedisReads:
    def __init__(self, client: RedisClient, keys: Keys, backlog: Backlog) -> None:
        self._client, self._followed = client, Followed(backlog)
        self.leads = self._followed.leads
        self._keys = keys  # of the version that answered last

    async def document(self, kind: type, id: str) -> tuple[bytes | None, Position | None]:
        ((checkpoint, body),) = await self._ask(lambda keys: (("MGET", keys.checkpoint, keys.document(kind, id)),))
        return body, await self._shown(checkpoint)

    async def first(self, name: str, limit: int) -> tuple[Sequence[bytes], Position | None]:
        return await self._range(name, limit)

    async def last(self, name: str, limit: int) -> tuple[Sequence[bytes], Position | None]:
        return await self._range(name, limit, "REV")

    async def _range(self, name: str, limit: int, *reverse: str) -> tuple[Sequence[bytes], Position | None]:
        checkpoint, entries = await self._ask(
            lambda keys: (("GET", keys.checkpoint), ("ZRANGE", keys.prefix + name, 0, limit - 1, *reverse))
        )
        return entries, await self._shown(checkpoint)

    async def page(
        self, name: str, before: str | None, limit: int, *, kind: type, id: str
    ) -> tuple[Sequence[bytes] | None, Position | None]:
        start = "+" if before is None else "(" + before
        checkpoint, entries, exists = await self._ask(
            lambda keys: (
                ("GET", keys.checkpoint),
                ("ZRANGE", keys.prefix + name, start, "-", "BYLEX", "REV", "LIMIT", 0, limit),
                ("EXISTS", keys.document(kind, id)),
            )
        )
        return entries if exists else None, await self._shown(checkpoint)

    async def search(self, words: Iterable[str], limit: int) -> tuple[Sequence[bytes], Position | None]:
        lists = [with_word(word) for word in words]

        def searched(keys: Keys) -> tuple[Command]:
            names = (keys.prefix + name for name in lists)
            return (("EVAL", SEARCH, 1 + len(lists), keys.checkpoint, *names, keys.document(OrderItem, ""), limit),)

        ((checkpoint, items),) = await self._ask(searched)
        return items, await self._shown(checkpoint)

    async def readiness(self) -> Readiness:
        ((text, parked, applied),) = await self._ask(
            lambda keys: (("MGET", keys.checkpoint, keys.parked, keys.applied),)
        )
        lag_events, lag_seconds = await self._followed.behind(_built(text))
        parked_events, ages = dead_letters.count(parked), applied and _ages(applied)
        return Readiness(lag_events, lag_seconds, parked_events, ages, await self._unwritable())

    async def _unwritable(self) -> str | None:
        """What the store says to a write that changes nothing: it may be full or read-only, and still answer reads."""
        try:
            await self._client.ask(("SETRANGE", self._keys.checkpoint, 0, ""))
        except StoreGone as gone:
            return gone.reason
        return None

    async def _ask(self, asks: Callable[[Keys], tuple[Command, ...]]) -> list[Any]:
        """The replies to what is asked of the version that answers. The checkpoint comes first in them, as a live
        rebuild may replace that version at any time; its keys are deleted long after that."""
        while True:
            keys = self._keys
            replies = await self._client.ask(*asks(keys))
            first = replies[0]
            checkpoint = _built(first[0] if isinstance(first, list) else first)
            if checkpoint.endswith(keys.ending) or (version := Checkpoint.of(checkpoint).version) == keys.version:
                return replies
            self._keys = keys.of(version)

    async def _shown(self, checkpoint: bytes | None) -> Position:
        return await self._followed.shown(_built(checkpoint))


def _built(checkpoint: bytes | None) -> bytes:
    if checkpoint is None or checkpoint.startswith(CLEARING):
        raise Unavailable("The read store has not been built yet.")
    return checkpoint
