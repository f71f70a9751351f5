"""The query side over Redis: an answer is a document that lies there ready, fetched together with the checkpoint.

The checkpoint is read in the same command as the document, or before it: it moves in one unit with the data and only
forward, so the answer reflects at least what the checkpoint says.
"""

import msgspec
import redis.exceptions as redis_errors

from contract.errors import Unavailable
from contract.messages import (
    DailySales,
    GetCustomer,
    GetHistory,
    GetOrder,
    GetProduct,
    ListOrders,
    Query,
    QueryResult,
    Readiness,
    SearchOrders,
    TopProducts,
)
from contract.position import Position, position_of
from contract.text import cursor_text, time_text
from cqrs_impl.documents.redis_client import Command, RedisClient
from cqrs_impl.read.checkpoint import CLEARING, Checkpoint
from cqrs_impl.read.keys import MEMBER_WIDTH, TIME_WIDTH, Keys, member
from cqrs_impl.read.parking import parked_events
from crud_impl.connections import Rows

# The newest members that are in all lists, from KEYS[2] on: walks the shortest and looks the others up.
FOUND = """
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

BACKLOG = """
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0)::float8
FROM (SELECT recorded_at FROM outbox WHERE (xid, id) > (%(xid)s::text::xid8, %(id)s) LIMIT 100001) AS waiting"""

REDIS_GONE = (redis_errors.ConnectionError, redis_errors.TimeoutError, redis_errors.BusyLoadingError)

_ages = msgspec.json.Decoder(tuple[list[int], float]).decode


class RedisQueries:
    def __init__(self, line: RedisClient, keys: Keys, outbox: Rows) -> None:
        self._line, self._keys, self._outbox = line, keys, outbox

    async def answer(self, query: Query) -> QueryResult:
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
                    return await self._list(b"products", ("ZRANGE", keys.top, 0, query.limit - 1), 20 + 36)
                case DailySales():
                    return await self._list(b"days", ("ZRANGE", keys.days, 0, query.days - 1, "REV"), 10)
        except REDIS_GONE as error:
            raise Unavailable("The read store cannot be asked right now.") from error

    async def _document(self, key: str) -> QueryResult:
        ((checkpoint, body),) = await self._line.ask(("MGET", self._keys.checkpoint, key))
        return QueryResult(body, _position(checkpoint))

    async def _list(self, name: bytes, range: Command, skip: int) -> QueryResult:
        checkpoint, members = await self._line.ask(("GET", self._keys.checkpoint), range)
        return QueryResult(b'{"%s":[%s]}' % (name, b",".join([m[skip:] for m in members])), _position(checkpoint))

    async def _orders_of(self, query: ListOrders) -> QueryResult:
        keys, limit = self._keys, query.limit
        start = "+" if query.after is None else "(" + member(time_text(query.after[0]), query.after[1])
        checkpoint, members, exists = await self._line.ask(
            ("GET", keys.checkpoint),
            ("ZRANGE", keys.orders_of(query.id), start, "-", "BYLEX", "REV", "LIMIT", 0, limit + 1),
            ("EXISTS", keys.customer(query.id)),
        )
        if not exists:
            return QueryResult(None, _position(checkpoint))
        after = b"null"
        if len(members) > limit:
            last = members[limit - 1].decode()
            after = b'"%s"' % cursor_text(last[:TIME_WIDTH], last[TIME_WIDTH:MEMBER_WIDTH]).encode()
        items = b",".join([m[MEMBER_WIDTH:] for m in members[:limit]])
        return QueryResult(b'{"orders":[%s],"next":%s}' % (items, after), _position(checkpoint))

    async def _found(self, query: SearchOrders) -> QueryResult:
        keys = [self._keys.checkpoint, *(self._keys.word(word) for word in dict.fromkeys(query.words))]
        ((checkpoint, items),) = await self._line.ask(
            ("EVAL", FOUND, len(keys), *keys, self._keys.item(""), query.limit)
        )
        return QueryResult(b'{"orders":[%s]}' % b",".join(items), _position(checkpoint))

    async def readiness(self) -> Readiness:
        try:
            keys = self._keys
            ((checkpoint, parked, applied),) = await self._line.ask(
                ("MGET", keys.checkpoint, keys.parked, keys.applied)
            )
        except REDIS_GONE as error:
            raise Unavailable("The read store cannot be asked right now.") from error
        ((xid, sequence),) = Checkpoint.of(_built(checkpoint)).reached
        rows = await self._outbox(BACKLOG, {"xid": str(xid), "id": sequence})
        return Readiness(rows[0][0], max(0.0, rows[0][1]), parked_events(parked), applied and _ages(applied))


def _position(checkpoint: bytes | None) -> Position:
    """How far everything is reflected, which is the first word of the checkpoint."""
    return position_of(_built(checkpoint).split(b" ", 1)[0].decode())


def _built(checkpoint: bytes | None) -> bytes:
    if checkpoint is None or checkpoint.startswith(CLEARING):
        raise Unavailable("The read store has not been built yet.")
    return checkpoint
