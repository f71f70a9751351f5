"""Documents in Redis: one key per document, one sorted set per list, the checkpoint beside them.

A batch is one optimistic transaction: WATCH the checkpoint, read what the events touch, fold in memory, and write
everything with the new checkpoint in one MULTI/EXEC. If another process wrote meanwhile (a second projector, a rebuild,
a replay), Redis refuses the transaction, and the batch starts over from the new contents.

A live rebuild builds the next version of the documents under other keys. The checkpoint names the version whose keys
answer, readers ask for it with every answer, and the projector watches it: the one transaction that replaces it
switches all of them.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from copy import copy
from itertools import chain, islice
from typing import Any

import msgspec

from contract import messages, text
from contract.errors import StoreGone
from contract.position import Position, covers
from cqrs_impl import batch, fold
from cqrs_impl.checkpoint import CLEARING, AnotherHistory, Checkpoint, clearing, history_of
from cqrs_impl.dead_letters import DeadLetters
from cqrs_impl.documents.redis_client import Command, RedisClient, step_client
from cqrs_impl.fold import KINDS, key_of
from cqrs_impl.next_version import HELD_S, NextVersionGone, NotBuilt, Unlike, leads_to_present
from cqrs_impl.ports import Changes, Contents, EventLog
from cqrs_impl.program import digest_of

KEYS_MAX = 500  # of a command, as readers wait for its end
HELD_MS = int(1000 * HELD_S)

_encode = msgspec.json.Encoder().encode
_decoders: dict[type, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(kind) for kind in KINDS}

FOLD = digest_of(batch, fold, messages, text).encode()


class Keys:
    """The key names of a namespace, and of one version of its documents."""

    def __init__(self, namespace: str) -> None:
        self.namespace = f"{namespace}:"
        self.checkpoint = f"{namespace}:checkpoint"  # of the version that answers, which it names
        self.building = f"{namespace}:building"  # the checkpoint of the next version, while there is one
        self.made_by = f"{namespace}:building-by"  # the program whose fold makes it
        self.held = f"{namespace}:held"  # there while the version that answers must not go on
        self.marked = [self.checkpoint]  # that show that the store is being emptied
        self.applied = f"{namespace}:applied"  # histogram of the time from recording to applying
        self._become(1)

    def _become(self, version: int) -> None:
        self.version, self.prefix = version, f"{self.namespace}{version}:"
        self.ending = f" {version}".encode()  # of the text of a checkpoint that names it
        self.parked = f"{self.prefix}parked"  # the dead letters

    def of(self, version: int) -> "Keys":
        """Those of another version."""
        keys = copy(self)
        keys._become(version)
        return keys

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
            client.mset(dict.fromkeys(keys.marked, clearing(history(None, 0))))  # a projector finds it, and empties it


class RedisDocuments:
    """A `DocumentStore`. Needs a client of its own, because all users of a client share its watched key."""

    def __init__(self, client: RedisClient, keys: Keys, present: Callable[[], Awaitable[str]] | None = None) -> None:
        """`present` returns the id of the log's present history; leave it out where there is only one."""
        self._client, self._keys, self._present = client, keys, present

    async def open(self) -> Contents:
        checkpoint = self._keys.checkpoint
        while True:
            keys = self._keys
            ((found, parked, held),) = await self._client.watch(
                checkpoint, ("MGET", checkpoint, keys.parked, keys.held)
            )
            if found is None:  # an empty store: start from the beginning; NX, as another projector may do the same
                begin = Checkpoint.begin(await self._present() if self._present else "").text
                await self._client.ask(("SET", checkpoint, begin, "NX"))
            elif found.startswith(CLEARING):
                await self._empty(found)
            elif (at := Checkpoint.of(found)).version != keys.version:
                self._keys = keys.of(at.version)  # another version has taken the place of ours: it goes on from there
            elif held is not None:
                raise StoreGone("The next views are about to take the place of these.")
            else:
                return Contents(at, parked)

    async def fetch(self, keys: Mapping[str, type]) -> Mapping[str, Any]:
        names, prefix = list(keys), self._keys.prefix
        parts = [names[at : at + KEYS_MAX] for at in range(0, len(names), KEYS_MAX)]
        found = await self._client.ask(*(("MGET", *(prefix + key for key in part)) for part in parts))
        return {
            key: None if text is None else _decoders[kind].decode(text)
            for (key, kind), text in zip(keys.items(), chain.from_iterable(found), strict=True)
        }

    async def entries(self, name: str) -> Sequence[str]:
        (members,) = await self._client.ask(("ZRANGE", self._keys.prefix + name, 0, -1))
        return [member.decode() for member in members]

    async def write(self, checkpoint: Checkpoint, changes: Changes) -> bool:
        return await self._client.write(("SET", self._keys.checkpoint, checkpoint.text), *self._commands(changes))

    def beside(self, log: EventLog) -> "RedisVersion":
        return RedisVersion(self._client, self._keys, log)

    async def close(self) -> None:
        await self._client.close()

    def _commands(self, changes: Changes) -> Iterator[Command]:
        prefix, documents = self._keys.prefix, iter(changes.documents.items())
        if changes.dead_letters is not None:
            yield "SET", self._keys.parked, changes.dead_letters
        while some := list(islice(documents, KEYS_MAX)):
            yield "MSET", *(text for key, one in some for text in (prefix + key, _encode(one)))
        for name, entries in changes.lists.items():
            if gone := [entry for entry, present in entries.items() if not present]:
                yield "ZREM", prefix + name, *gone
            if come := [entry for entry, present in entries.items() if present]:
                yield "ZADD", prefix + name, *(word for entry in come for word in (b"0", entry.encode()))
        if changes.ages is not None:
            yield "SET", self._keys.applied, changes.ages

    async def clear(self) -> None:
        mark = clearing(await self._present() if self._present else "")
        await self._client.ask(("MSET", *(word for key in self._keys.marked for word in (key, mark))))
        await self._empty(mark)

    async def _empty(self, mark: bytes) -> None:
        """Delete all keys, of every version. Stop if another process finished or restarted this: the keys may then be
        new. A version that is being built cannot be written to once its checkpoint is gone, which goes first."""
        checkpoint, cursor = self._keys.checkpoint, 0
        await self._client.ask(("UNLINK", self._keys.building))
        while True:
            found, (cursor, keys) = await self._client.watch(
                checkpoint, ("GET", checkpoint), ("SCAN", cursor, "MATCH", f"{self._keys.namespace}*", "COUNT", 1000)
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


class RedisVersion(RedisDocuments):
    """A `NextVersion`. Its checkpoint is not the one that answers are read with, so nobody reads it yet."""

    def __init__(self, client: RedisClient, live: Keys, log: EventLog) -> None:
        super().__init__(client, live, log.present)
        self._live, self._log = live, log

    async def begin(self) -> int:
        live = self._live
        while True:
            found, building = await self._watched()
            if found is None:
                raise NotBuilt
            if building is not None and await self._goes_on(building):
                begun = building  # written again, so that what another was about to write is refused
            else:
                version = max(found.version, building.version if building else 0) + 1
                begun = Checkpoint.begin(await self._log.present(), version)
            if await self._client.write(("SET", live.building, begun.text), ("SET", live.made_by, FOLD)):
                break
        self._keys = live.of(begun.version)
        await self._delete_all_but(live.of(found.version), self._keys)
        return begun.counted

    async def _goes_on(self, building: Checkpoint) -> bool:
        """Whether we can continue what somebody has begun: it has the documents that we make, of this log."""
        (made_by,) = await self._client.ask(("GET", self._live.made_by))
        return made_by == FOLD and await leads_to_present(self._log, building)

    async def open(self) -> Contents:
        own = self._keys
        ((text, parked),) = await self._client.watch(own.building, ("MGET", own.building, own.parked))
        if text is None or (checkpoint := Checkpoint.of(text)).version != own.version:
            raise NextVersionGone
        return Contents(checkpoint, parked)

    async def write(self, checkpoint: Checkpoint, changes: Changes) -> bool:
        commands = self._commands(changes._replace(ages=None))  # those of the projector stay
        return await self._client.write(("SET", self._keys.building, checkpoint.text), *commands)

    async def switch(self) -> bool:
        live = self._live
        found, own = await self._watched()
        if found is None or own is None or own.version != self._keys.version:
            raise NextVersionGone
        if found.position.history != own.position.history:  # an earlier one, or `AnotherHistory`
            await self._log.history(found.position, found.counted)
        if not covers(own.position, found.position):
            await self._client.ask(("SET", live.held, "", "PX", HELD_MS))
            return False
        if not covers(own.low_water, found.low_water):
            (parked,) = await self._client.ask(("GET", self._keys.parked))
            await self.drop()
            raise Unlike(DeadLetters(parked))
        return await self._client.write(
            ("SET", live.checkpoint, own.text), ("UNLINK", live.building, live.made_by, live.held)
        )

    async def drop(self) -> None:
        found, building = await self._watched()
        if found is None:
            return  # who empties the store deletes all
        if building is not None and building.version == self._keys.version:
            await self._client.ask(("UNLINK", self._live.building, self._live.made_by))
            building = None
        await self._delete_all_but(*(self._live.of(one.version) for one in (found, building) if one))

    async def _delete_all_but(self, *versions: Keys) -> None:
        live, cursor = self._live, 0
        names = (live.checkpoint, live.building, live.applied, *(keys.prefix for keys in versions))
        stay = tuple(name.encode() for name in names)
        while True:
            ((at, keys),) = await self._client.ask(("SCAN", cursor, "MATCH", f"{live.namespace}*", "COUNT", KEYS_MAX))
            if gone := [key for key in keys if not key.startswith(stay)]:
                await self._client.ask(("UNLINK", *gone))
            if not (cursor := int(at)):
                return

    async def _watched(self) -> tuple[Checkpoint | None, Checkpoint | None]:
        """The checkpoint that answers are read with, which is watched, and that of a version that is being built."""
        live = self._live
        ((found, building),) = await self._client.watch(live.checkpoint, ("MGET", live.checkpoint, live.building))
        answers = found is not None and not found.startswith(CLEARING)
        return Checkpoint.of(found) if answers else None, Checkpoint.of(building) if building else None
