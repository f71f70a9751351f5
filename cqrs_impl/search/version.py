"""The next version of an index: built beside the one that answers, which an alias then leaves for it."""

from contract.position import covers
from cqrs_impl.checkpoint import Checkpoint
from cqrs_impl.dead_letters import DeadLetters
from cqrs_impl.documents.redis import NextVersionGone, NotBuilt, Unlike
from cqrs_impl.ports import Contents, EventLog
from cqrs_impl.search.indexes import Indexes
from cqrs_impl.search.store import IndexedDocuments


class IndexedVersion(IndexedDocuments):
    """A `NextVersion`. While it is built no alias leads there but that of its writes.

    What the projector has written to the other index since the two were compared is in this one as soon as the
    projector finds it: until then answers claim no more than they show.
    """

    def __init__(self, indexes: Indexes, log: EventLog) -> None:
        super().__init__(indexes, log.present)
        self._log, self._own = log, ""

    async def begin(self) -> int:
        """From nothing, always: what of another was not finished is dropped."""
        live = await self._indexes.checkpoint(self._indexes.namespace)
        if live is None or not live.found:
            raise NotBuilt
        await self._indexes.delete_all_but(live.index)
        self._own = await self._indexes.make_next()
        await self._begin(self._own)
        return 0

    async def open(self) -> Contents:
        own = await self._indexes.checkpoint(self._own)
        if own is None or not own.found:
            raise NextVersionGone
        return self._opened(own)

    async def switch(self) -> bool:
        live = await self._indexes.checkpoint(self._indexes.namespace)
        own = await self._indexes.checkpoint(self._own)
        if live is None or own is None:
            raise NextVersionGone
        shown, built = Checkpoint.of(live.source.text), Checkpoint.of(own.source.text)
        if shown.position.history != built.position.history:  # an earlier one, or `AnotherHistory`
            await self._log.history(shown.position, shown.counted)
        if not covers(built.position, shown.position):
            return False
        if not covers(built.low_water, shown.low_water):
            await self.drop()
            raise Unlike(DeadLetters(own.source.letters))
        await self._indexes.make_searchable(self._own)
        return await self._indexes.replace(live.index, self._own, delete=False)

    async def drop(self) -> None:
        live = await self._indexes.checkpoint(self._indexes.namespace)
        if live is None:
            await self._indexes.delete(self._own)
        else:
            await self._indexes.delete_all_but(live.index)
