"""The transport over Redis Streams: a partition is a stream, and a message an entry of it.

The reply to XADD is the confirmation: the entry is in the server's memory. What a server loses that writes nothing to
disk, or is restarted empty, is read from the outbox. A partition has one reader for each purpose, so that no consumer
group is needed: whoever takes it over begins with its oldest entry. To acknowledge is to trim: what all purposes are
done with is deleted, and nothing else, so that no entry goes unread.
"""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from cqrs_impl.documents.redis_client import RedisClient
from cqrs_impl.feeds.transport import READ_MAX, Delivered

FIRST = "0-0"
BLOCK_S_MAX = 0.5  # shorter than the timeout of a client
TRIM_S = 1.0


def stream_of(namespace: str, partition: int, partitions: int) -> str:
    return f"{namespace}:{partitions}:events:{partition}"


def _numbers(id: bytes) -> tuple[int, ...]:
    return tuple(map(int, id.split(b"-")))


class StreamsPublisher:
    def __init__(self, client: RedisClient, namespace: str, partitions: int) -> None:
        self._client = client
        self._streams = [stream_of(namespace, partition, partitions) for partition in range(partitions)]

    async def publish(self, messages: Sequence[tuple[int, bytes]]) -> None:
        await self._client.ask(*(("XADD", self._streams[partition], "*", "m", body) for partition, body in messages))

    async def close(self) -> None:
        await self._client.close()


class StreamsReader:
    """Needs a client of its own, which it lets wait."""

    def __init__(self, client: RedisClient, stream: str, purpose: str = "", purposes: Sequence[str] = ("",)) -> None:
        self._client, self._stream, self._purpose, self._purposes = client, stream, purpose, purposes
        self._last: str | bytes = FIRST
        self._waiting: list[Delivered] = []  # read while waiting
        self._trim_s = 0.0

    async def read(self, limit: int) -> Sequence[Delivered]:
        if not self._waiting:
            await self._fetch(limit)
        some, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return some

    async def wait(self, timeout_s: float) -> None:
        if not self._waiting:
            await self._fetch(READ_MAX, "BLOCK", int(1000 * min(timeout_s, BLOCK_S_MAX)))

    async def acknowledge(self, offset: Any) -> None:
        if monotonic() >= self._trim_s:
            self._trim_s = monotonic() + TRIM_S
            done = f"{self._stream}:done"
            _, ids = await self._client.ask(("HSET", done, self._purpose, offset), ("HMGET", done, *self._purposes))
            if None not in ids:
                await self._client.ask(("XTRIM", self._stream, "MINID", min(ids, key=_numbers)))

    async def close(self) -> None:
        """The server may be another when it is connected to again, and count from the beginning."""
        self._last, self._waiting = FIRST, []
        await self._client.close()

    async def _fetch(self, limit: int, *block: str | int) -> None:
        (found,) = await self._client.ask(("XREAD", "COUNT", limit, *block, "STREAMS", self._stream, self._last))
        for _, entries in found or ():
            for id, fields in entries:
                body = fields[b"m"] if isinstance(fields, dict) else fields[1]  # redis-py makes a dictionary of them
                self._waiting.append(Delivered(id, body))
                self._last = id
