"""A system whose searches a search engine answers, and whose other queries another read store does."""

from msgspec.structs import replace

from contract.messages import BestOrders, Query, QueryResult, Readiness, SearchOrders
from contract.position import Position
from cqrs_impl.commands import Commands
from cqrs_impl.ports import Queries
from cqrs_impl.search.reads import SearchReads
from cqrs_impl.system import CqrsOrders, Leads
from crud_impl.connections import Database


class SearchedOrders(CqrsOrders):
    """Each answer claims the position of the store it came from, so that a token leads from one to the other."""

    def __init__(
        self, database: Database, commands: Commands, queries: Queries, leads: Leads, search: SearchReads
    ) -> None:
        super().__init__(database, commands, queries, leads)
        self._search = search

    async def answer(self, query: Query) -> QueryResult:
        return await (self._search.search(query) if isinstance(query, SearchOrders) else super().answer(query))

    async def answer_at(self, query: Query, wanted: Position) -> QueryResult:
        return await (self._search.search_at(query, wanted) if isinstance(query, SearchOrders) else self.answer(query))

    async def best(self, asked: BestOrders) -> QueryResult:
        return await self._search.best(asked)

    async def readiness(self) -> Readiness:
        """Of the store that is further behind; what neither can show is parked in both."""
        views, index = await super().readiness(), await self._search.readiness()
        return replace(
            views,
            lag_events=max(views.lag_events, index.lag_events),
            lag_seconds=max(views.lag_seconds, index.lag_seconds),
            parked_events=max(views.parked_events, index.parked_events),
            unwritable=views.unwritable or index.unwritable,
        )

    async def close(self) -> None:
        await super().close()
        await self._search.close()
