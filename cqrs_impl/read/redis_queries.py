"""The query side over Redis: an answer is a document that lies there ready, fetched together with the checkpoint.

The checkpoint is read in the same command as the document, or before it: it moves in one unit with the data and only
forward, so the answer reflects at least what the checkpoint says.
"""

from typing import Any

import redis.asyncio as redis
import redis.exceptions as redis_errors

from contract.connections import Reader
from contract.errors import Unavailable
from contract.messages import (
    Answer,
    DailySales,
    GetCustomer,
    GetHistory,
    GetOrder,
    GetProduct,
    ListOrders,
    Position,
    Query,
    Readiness,
    SearchOrders,
    TopProducts,
)
from contract.text import cursor_text, time_text, token_position
from cqrs_impl.read.checkpoint import Checkpoint
from cqrs_impl.read.keys import TIME_WIDTH, Keys, member
from cqrs_impl.read.parking import parked_events

# Members of KEYS[2] (of all lists from KEYS[2] on), newest first: walks the shortest list and looks the others up.
PAGE = """
local walk = 2
for i = 3, #KEYS do
  if redis.call('ZCARD', KEYS[i]) < redis.call('ZCARD', KEYS[walk]) then walk = i end
end
local prefix, from, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local members, items = {}, {}
while #members < limit do
  local page = redis.call('ZRANGE', KEYS[walk], from, '-', 'BYLEX', 'REV', 'LIMIT', 0, limit)
  for _, m in ipairs(page) do
    local everywhere = true
    for i = 2, #KEYS do
      if i ~= walk and not redis.call('ZSCORE', KEYS[i], m) then everywhere = false; break end
    end
    if everywhere and #members < limit then
      members[#members + 1] = m
      items[#items + 1] = prefix .. string.sub(m, 28)
    end
  end
  if #page < limit then break end
  from = '(' .. page[#page]
end
if #items > 0 then items = redis.call('MGET', unpack(items)) end
return {redis.call('GET', KEYS[1]), members, items}
"""

BACKLOG = """
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0)::float8
FROM (SELECT recorded_at FROM outbox WHERE (xid, id) > (%(xid)s::text::xid8, %(id)s) LIMIT 100001) AS waiting"""

REDIS_GONE = (redis_errors.ConnectionError, redis_errors.TimeoutError, redis_errors.BusyLoadingError)


class RedisQueries:
    def __init__(self, client: "redis.Redis", keys: Keys, outbox: Reader) -> None:
        self._client: Any = client  # redis-py types every answer as text or bytes; ours are bytes
        self._keys, self._outbox = keys, outbox
        self._page = client.register_script(PAGE)

    async def answer(self, query: Query) -> Answer:
        keys = self._keys
        try:
            match query:
                case GetOrder():
                    return await self._document(keys.order(query.id))
                case GetHistory():
                    return await self._document(keys.history(query.id))
                case GetCustomer():
                    return await self._document(keys.customer(query.id))
                case GetProduct():
                    return await self._document(keys.product(query.id))
                case ListOrders():
                    return await self._orders_of(query)
                case SearchOrders():
                    return await self._found(query)
                case TopProducts():
                    return await self._list(b"products", keys.top, query.limit, 20 + 36, newest_first=False)
                case DailySales():
                    return await self._list(b"days", keys.days, query.days, 10, newest_first=True)
        except REDIS_GONE as error:
            raise Unavailable("The read store cannot be asked right now.") from error

    async def _document(self, key: str) -> Answer:
        checkpoint, body = await self._client.mget(self._keys.checkpoint, key)
        return Answer(body, _position(checkpoint))

    async def _list(self, name: bytes, key: str, limit: int, skip: int, *, newest_first: bool) -> Answer:
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.get(self._keys.checkpoint)
            if newest_first:
                pipe.zrange(key, "+", "-", bylex=True, desc=True, offset=0, num=limit)
            else:
                pipe.zrange(key, 0, limit - 1)
            checkpoint, members = await pipe.execute()
        return Answer(b'{"%s":[%s]}' % (name, b",".join(m[skip:] for m in members)), _position(checkpoint))

    async def _orders_of(self, query: ListOrders) -> Answer:
        keys = self._keys
        start = "+" if query.after is None else "(" + member(time_text(query.after[0]), query.after[1])
        async with self._client.pipeline(transaction=False) as pipe:
            await self._page(
                keys=[keys.checkpoint, keys.orders_of(query.id)],
                args=[keys.item(""), start, query.limit + 1],
                client=pipe,
            )
            pipe.exists(keys.customer(query.id))
            (checkpoint, members, items), exists = await pipe.execute()
        if not exists:
            return Answer(None, _position(checkpoint))
        after = b"null"
        if len(items) > query.limit:
            last = members[query.limit - 1].decode()
            after = b'"%s"' % cursor_text(last[:TIME_WIDTH], last[TIME_WIDTH:]).encode()
        return Answer(b'{"orders":[%s],"next":%s}' % (b",".join(items[: query.limit]), after), _position(checkpoint))

    async def _found(self, query: SearchOrders) -> Answer:
        keys = self._keys
        checkpoint, _, items = await self._page(
            keys=[keys.checkpoint, *(keys.word(word) for word in dict.fromkeys(query.words))],
            args=[keys.item(""), "+", query.limit],
        )
        return Answer(b'{"orders":[%s]}' % b",".join(items), _position(checkpoint))

    async def readiness(self) -> Readiness:
        try:
            checkpoint, parked = await self._client.mget(self._keys.checkpoint, self._keys.parked)
        except REDIS_GONE as error:
            raise Unavailable("The read store cannot be asked right now.") from error
        if checkpoint is None:
            raise Unavailable("The read store has not been built yet.")
        at = Checkpoint.of(checkpoint).reached
        rows = await self._outbox.rows(BACKLOG, {"xid": str(at.transaction), "id": at.sequence})
        return Readiness(rows[0][0], max(0.0, rows[0][1]), parked_events(parked))

    def in_use(self) -> tuple[int, int]:
        return self._outbox.in_use()


def _position(checkpoint: Any) -> Position:
    """How far everything is reflected, which is the first word of the checkpoint."""
    if checkpoint is None:
        raise Unavailable("The read store has not been built yet.")
    return token_position(checkpoint.split(b" ", 1)[0].decode())
