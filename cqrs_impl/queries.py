"""The query side: each answer is a stored document or a stored list, in any document store."""

from contract.messages import (
    CustomerView,
    DailySales,
    GetCustomer,
    GetHistory,
    GetOrder,
    GetProduct,
    HistoryView,
    ListOrders,
    OrderView,
    ProductView,
    Query,
    QueryResult,
    Readiness,
    SearchOrders,
    TopProducts,
)
from contract.text import cursor_text, time_text
from cqrs_impl.fold import DAY_WIDTH, DAYS, PLACE_WIDTH, RANK_WIDTH, TIME_WIDTH, TOP, orders_of, place_of
from cqrs_impl.ports import DocumentReads


class DocumentQueries:
    def __init__(self, documents: DocumentReads) -> None:
        self._documents = documents

    async def answer(self, query: Query) -> QueryResult:
        return await _answer(self._documents, query)

    async def readiness(self) -> Readiness:
        return await self._documents.readiness()


async def _answer(documents: DocumentReads, query: Query) -> QueryResult:
    match query:
        case GetOrder():
            return QueryResult(*await documents.document(OrderView, query.id))
        case GetHistory():
            return QueryResult(*await documents.document(HistoryView, query.id))
        case GetCustomer():
            return QueryResult(*await documents.document(CustomerView, query.id))
        case GetProduct():
            return QueryResult(*await documents.document(ProductView, query.id))
        case ListOrders():
            return await _page(documents, query)
        case TopProducts():
            entries, position = await documents.first(TOP, query.limit)
            products = b",".join([entry[RANK_WIDTH:] for entry in entries])
            return QueryResult(b'{"products":[%s]}' % products, position)
        case DailySales():
            entries, position = await documents.last(DAYS, query.days)
            days = b",".join([entry[DAY_WIDTH:] for entry in entries])
            return QueryResult(b'{"days":[%s]}' % days, position)
        case SearchOrders():
            items, position = await documents.search(query.words, query.limit)
            return QueryResult(b'{"orders":[%s]}' % b",".join(items), position)


async def _page(documents: DocumentReads, query: ListOrders) -> QueryResult:
    before = None if query.after is None else place_of(time_text(query.after[0]), query.after[1])
    more = query.limit + 1  # one extra entry shows whether a next page exists
    entries, position = await documents.page(orders_of(query.id), before, more, kind=CustomerView, id=query.id)
    if entries is None:
        return QueryResult(None, position)
    after = b"null"
    if len(entries) == more:
        last = entries[query.limit - 1].decode()
        after = b'"%s"' % cursor_text(last[:TIME_WIDTH], last[TIME_WIDTH:PLACE_WIDTH]).encode()
    orders = b",".join([entry[PLACE_WIDTH:] for entry in entries[: query.limit]])
    return QueryResult(b'{"orders":[%s],"next":%s}' % (orders, after), position)
