"""Documents in Redis that several projectors build at the same time, each one part of them.

Each part has a checkpoint of its own, which its projector watches and writes with the documents, so that parts do not
disturb each other. The checkpoint that answers are read with is joined from them in the same transaction: it is that of
the part furthest behind. So a read costs what it costs without parts.
"""

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Protocol

import msgspec
from msgspec.structs import replace

from contract.messages import Readiness
from contract.position import Position
from cqrs_impl import dead_letters
from cqrs_impl.checkpoint import CLEARING, Checkpoint
from cqrs_impl.documents.redis import Keys, RedisDocuments, claim
from cqrs_impl.documents.redis_client import RedisClient, step_client
from cqrs_impl.documents.redis_reads import RedisReads
from cqrs_impl.part import Part
from cqrs_impl.ports import Backlog, Changes, Contents

PARTS_MAX = 64
UNLINK_BATCH = 1000

# KEYS[1] is the checkpoint of all parts, the others are theirs. It stays as it is while a part is missing or follows
# another history: parts only move forward, so that it goes on to be true. Numbers are compared as texts, the longer of
# which is the larger, since those of Lua end at 2^53.
JOIN = """
local function parse(place)
  local history, high, low = string.match(place, '^([^.]*)%.(%d+)-(%d+)$')
  if not history then history, high, low = '', string.match(place, '^(%d+)-(%d+)$') end
  return {history, high, low, place}
end
local function less(a, b)
  for i = 2, 3 do
    if #a[i] ~= #b[i] then return #a[i] < #b[i] end
    if a[i] ~= b[i] then return a[i] < b[i] end
  end
  return false
end
local low, at, counted, version, writes = nil, nil, nil, nil, 0
for i = 2, #KEYS do
  local found = redis.call('GET', KEYS[i]) or ''
  local low_water, position, wrote, count, views = string.match(found, '^(%S+) (%S+) (%d+) (%d+) (%d+)$')
  if not views then return end
  local shown, reached = parse(low_water), parse(position)
  if at and (shown[1] ~= low[1] or reached[1] ~= at[1]) then return end
  if not low or less(shown, low) then low = shown end
  if not at or less(reached, at) then at, counted = reached, count end
  version, writes = views, writes + tonumber(wrote)
end
redis.call('SET', KEYS[1], string.format('%s %s %.0f %s %s', low[4], at[4], writes, counted, version))
"""

_ages = msgspec.json.Decoder(tuple[list[int], float]).decode


def layout(namespace: str, parts: int) -> str:
    """Where the views in so many parts are: another number of parts would put other things under the same names."""
    return f"{namespace}:{parts}"


class PartKeys(Keys):
    """Those of one part; the documents have the same keys in all."""

    def __init__(self, namespace: str, part: Part) -> None:
        super().__init__(layout(namespace, part.of))
        numbers = range(part.of)
        checkpoints, self.every_parked, self.every_applied = (
            [f"{key}:{number}" for number in numbers] for key in (self.checkpoint, self.parked, self.applied)
        )
        self.joined = [self.checkpoint, *checkpoints]
        self.marked = self.joined
        self.own = checkpoints[part.number]
        self.parked, self.applied = self.every_parked[part.number], self.every_applied[part.number]


def claim_parts(url: str, namespace: str, parts: int, history: Callable[[Position | None, int], str]) -> None:
    """Make the store follow this log in so many parts; what it holds in another number of them is dropped."""
    claim(url, PartKeys(namespace, Part(0, parts)), history)
    others = [layout(namespace, number) for number in range(1, PARTS_MAX + 1) if number != parts]
    with step_client(url) as client:
        for other in others:
            if client.exists(f"{other}:checkpoint"):
                keys = client.scan_iter(match=f"{other}:*", count=UNLINK_BATCH)
                while some := list(islice(keys, UNLINK_BATCH)):
                    client.unlink(*some)


class PartDocuments(RedisDocuments):
    def __init__(
        self, client: RedisClient, keys: PartKeys, present: Callable[[], Awaitable[str]] | None = None
    ) -> None:
        super().__init__(client, keys, present)
        self._part = keys

    async def open(self) -> Contents:
        own, joined = self._part.own, self._part.checkpoint
        while True:
            ((found, shown, parked),) = await self._client.watch(own, ("MGET", own, joined, self._part.parked))
            if shown is not None and shown.startswith(CLEARING):
                await self._empty(shown)
            elif found is None or shown is None:
                begin = Checkpoint.begin(await self._present() if self._present else "").text
                await self._client.ask(("SET", own, begin, "NX"), ("SET", joined, begin, "NX"))
            else:
                return Contents(Checkpoint.of(found), parked)

    async def write(self, checkpoint: Checkpoint, changes: Changes) -> bool:
        keys = self._part.joined
        return await self._client.write(
            ("SET", self._part.own, checkpoint.text), *self._commands(changes), ("EVAL", JOIN, len(keys), *keys)
        )


class FedBacklog(Backlog, Protocol):
    async def trouble(self) -> str | None:
        """What keeps events from coming, if that is known."""


class PartReads(RedisReads):
    def __init__(self, client: RedisClient, keys: PartKeys, backlog: FedBacklog) -> None:
        super().__init__(client, keys, backlog)
        self._parts, self._trouble = keys, backlog.trouble

    async def readiness(self) -> Readiness:
        ready, keys = await super().readiness(), self._parts
        parked, applied = await self._client.ask(("MGET", *keys.every_parked), ("MGET", *keys.every_applied))
        applied = [_ages(text) for text in applied if text]
        counts = [sum(column) for column in zip(*(counts for counts, _ in applied), strict=True)]
        ages = (counts, sum(seconds for _, seconds in applied)) if applied else None
        return replace(ready, parked_events=dead_letters.count(*parked), applied=ages, reason=await self._trouble())
