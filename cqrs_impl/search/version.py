"""The next version of an index: built beside the one that answers, which an alias then leaves for it.

The engine has no transaction over two indexes. So the one that answers is held first: a mark in its checkpoint makes
its projector wait, whose writes before that are refused, and an alias is there as long as that holds. The step that
lets the next index answer takes that alias away, and so does a projector that has waited for long enough: only one of
them can.
"""

from contract.position import covers
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.dead_letters import DeadLetters
from cqrs_impl.next_version import NextVersionGone, NotBuilt, Unlike, leads_to_present
from cqrs_impl.ports import Contents, EventLog
from cqrs_impl.search.indexes import Got, Indexes, number_of
from cqrs_impl.search.store import IndexedDocuments


class IndexedVersion(IndexedDocuments):
    """A `NextVersion`. While it is built no alias leads there but that of its writes."""

    def __init__(self, indexes: Indexes, log: EventLog) -> None:
        super().__init__(indexes, log.present)
        self._log, self._own = log, ""
        self._wanted = 0  # how many events those that answer may show, since they were held

    async def begin(self) -> int:
        live = await self._indexes.checkpoint(self._indexes.namespace)
        if live is None or not live.found:
            raise NotBuilt
        begun = await self._begun(live.index)
        self._own = begun.index if begun else await self._indexes.make_next()
        if begun is None:
            await self._begin(self._own)
        await self._indexes.delete_all_but(live.index, self._own)
        return Checkpoint.of(begun.source.text).counted if begun else 0

    async def _begun(self, live: str) -> Got | None:
        """What somebody has begun and we can continue: it has the documents that we make, of this log."""
        for index in await self._indexes.names():
            if number_of(index) > number_of(live) and await self._indexes.is_ours(index):
                found = await self._indexes.checkpoint(index)
                if found and found.found and await leads_to_present(self._log, Checkpoint.of(found.source.text)):
                    return found
        return None

    async def open(self) -> Contents:
        own = await self._indexes.checkpoint(self._own)
        if own is None or not own.found:
            raise NextVersionGone
        return await self._opened(own)

    async def switch(self) -> bool:
        indexes = self._indexes
        live, own = await indexes.checkpoint(indexes.namespace), await indexes.checkpoint(self._own)
        if live is None or own is None:
            raise NextVersionGone
        shown, built = Checkpoint.of(live.source.text), Checkpoint.of(own.source.text)
        if shown.position.history != built.position.history:  # an earlier one, or `AnotherHistory`
            await self._log.history(shown.position, shown.counted)
        if not live.source.held or not self._wanted:
            await indexes.complete(self._own)  # most of it, so that the other is held for less
            if not await indexes.hold(live):
                return False
            self._wanted = await self._log.count()  # of what it shows without a checkpoint, too
        if not covers(built.position, shown.position) or built.counted < self._wanted:
            return False
        if not covers(built.low_water, shown.low_water):
            await self.drop()
            raise Unlike(DeadLetters(own.source.letters))
        await indexes.complete(self._own)
        if not await indexes.replace(live.index, self._own):
            self._wanted = 0  # the projector has waited for long enough
            return False
        return True

    async def drop(self) -> None:
        live = await self._indexes.checkpoint(self._indexes.namespace)
        if live is None:
            await self._indexes.delete(self._own)
        else:
            await self._indexes.delete_all_but(live.index)
