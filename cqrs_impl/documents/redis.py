"""Documents in Redis: one key per document, one sorted set per list, the checkpoint beside them.

A batch is one optimistic transaction: WATCH the checkpoint, read what the events touch, fold in memory, and write
everything with the new checkpoint in one MULTI/EXEC. If another process wrote meanwhile (a second projector, a rebuild,
a replay), Redis refuses the transaction, and the batch starts over from the new contents.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from contract.position import Position
from cqrs_impl.checkpoint import CLEARING, AnotherHistory, Checkpoint, clearing, history_of
from cqrs_impl.documents.redis_client import Command, RedisClient, step_client
from cqrs_impl.fold import KINDS, key_of
from cqrs_impl.ports import Changes, Contents

_encode = msgspec.json.Encoder().encode
_decoders: dict[type, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(kind) for kind in KINDS}


class Keys:
    """The key names of a namespace."""

    def __init__(self, namespace: str) -> None:
        self.prefix = f"{namespace}:"
        self.checkpoint = f"{namespace}:checkpoint"
        self.parked = f"{namespace}:parked"  # the dead letters
        self.applied = f"{namespace}:applied"  # histogram of the time from recording to applying

    def document(self, kind: type, id: str) -> str:
        return self.prefix + key_of(kind, id)


def claim(url: str, keys: Keys, history: Callable[[Position | None, int], str]) -> None:
    """Make the store follow this log. Documents that do not lead to its present history are dropped, and the projector
    of another log is refused. `history` is as in the port `Histories`, and gives the present one if asked for none."""
    with step_client(url) as client:
        found: Any = client.get(keys.checkpoint)
        if found is None:
            client.set(keys.checkpoint, Checkpoint.begin(history(None, 0)).text, nx=True)
            return
        checkpoint = Checkpoint.of(found)
        try:
            history(checkpoint.position, checkpoint.counted)
        except AnotherHistory:
            client.set(keys.checkpoint, clearing(history(None, 0)))  # the projector finds it and empties the store


class RedisDocuments:
    """A `DocumentStore`. Needs a client of its own, because all users of a client share its watched key."""

    def __init__(self, client: RedisClient, keys: Keys, present: Callable[[], Awaitable[str]] | None = None) -> None:
        """`present` returns the id of the log's present history; leave it out where there is only one."""
        self._client, self._keys, self._present = client, keys, present

    async def open(self) -> Contents:
        checkpoint = self._keys.checkpoint
        while True:
            ((found, parked),) = await self._client.watch(checkpoint, ("MGET", checkpoint, self._keys.parked))
            if found is None:  # an empty store: start from the beginning; NX, as another projector may do the same
                begin = Checkpoint.begin(await self._present() if self._present else "").text
                await self._client.ask(("SET", checkpoint, begin, "NX"))
            elif found.startswith(CLEARING):
                await self._empty(found)
            else:
                return Contents(Checkpoint.of(found), parked)

    async def fetch(self, keys: Mapping[str, type]) -> Mapping[str, Any]:
        (found,) = await self._client.ask(("MGET", *(self._keys.prefix + key for key in keys)))
        return {
            key: None if text is None else _decoders[kind].decode(text)
            for (key, kind), text in zip(keys.items(), found, strict=True)
        }

    async def entries(self, name: str) -> Sequence[str]:
        (members,) = await self._client.ask(("ZRANGE", self._keys.prefix + name, 0, -1))
        return [member.decode() for member in members]

    async def write(self, checkpoint: Checkpoint, changes: Changes) -> bool:
        return await self._client.write(*self._commands(checkpoint, changes))

    def _commands(self, checkpoint: Checkpoint, changes: Changes) -> Iterator[Command]:
        prefix = self._keys.prefix
        yield "SET", self._keys.checkpoint, checkpoint.text
        if changes.dead_letters is not None:
            yield "SET", self._keys.parked, changes.dead_letters
        if changes.documents:
            yield "MSET", *(text for key, one in changes.documents.items() for text in (prefix + key, _encode(one)))
        for name, entries in changes.lists.items():
            if gone := [entry for entry, present in entries.items() if not present]:
                yield "ZREM", prefix + name, *gone
            if come := [entry for entry, present in entries.items() if present]:
                yield "ZADD", prefix + name, *(word for entry in come for word in ("0", entry))
        yield "SET", self._keys.applied, changes.ages

    async def clear(self) -> None:
        mark = clearing(await self._present() if self._present else "")
        await self._client.ask(("SET", self._keys.checkpoint, mark))
        await self._empty(mark)

    async def _empty(self, mark: bytes) -> None:
        """Delete all keys. Stop if another process finished or restarted this: the keys may then be new."""
        checkpoint, cursor = self._keys.checkpoint, 0
        while True:
            found, (cursor, keys) = await self._client.watch(
                checkpoint, ("GET", checkpoint), ("SCAN", cursor, "MATCH", f"{self._keys.prefix}*", "COUNT", 1000)
            )
            if found != mark:
                return
            gone = [key for key in keys if key != checkpoint.encode()]
            work: list[Command] = [("UNLINK", *gone)] if gone else []
            cursor = int(cursor)
            if not cursor:
                work.append(("SET", checkpoint, Checkpoint.begin(history_of(mark)).text))
            if (work and not await self._client.write(*work)) or not cursor:
                return
