"""Fills the event store with a data set, and tells whether this version can read what the store holds."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
import psycopg

from contract.errors import WorkerError
from contract.messages import OrderCancelled, OrderPlaced
from contract.ports import DataSet
from cqrs_impl.event_store.events import SCHEMAS, StockReturned, StockTaken, StoredEvent, encode
from cqrs_impl.event_store.streams import RULES, Stock, evolve_stock
from crud_impl.load import History, begun, copy
from crud_impl.session import open_step

HELD = "SELECT substring(stream FROM '-(.*)') FROM outbox WHERE version = 1 AND stream = ANY(%s)"
NEWER = """
SELECT type, held.schema, known.schema FROM event_types held
LEFT JOIN unnest(%(types)s::text[], %(schemas)s::int[]) AS known (type, schema) USING (type)
WHERE known.schema IS NULL OR known.schema < held.schema ORDER BY type LIMIT 1"""
CLAIM = """
INSERT INTO event_types SELECT * FROM unnest(%(types)s::text[], %(schemas)s::int[])
ON CONFLICT (type) DO UPDATE SET schema = excluded.schema"""

_encode = msgspec.json.Encoder().encode


class NewerEvents(WorkerError):
    """The store was written by a later version, whose events would be misread."""


def claim_types(url: str, schema: str) -> None:
    """Enter the types and schemas that this version writes, or refuse the store."""
    ours = {"types": list(SCHEMAS), "schemas": list(SCHEMAS.values())}
    with open_step(url, schema) as connection, connection.transaction():
        if newer := connection.execute(NEWER, ours).fetchone():
            name, held, known = newer
            reads = "does not know them" if known is None else f"reads them up to schema {known}"
            raise NewerEvents(
                f"The event store holds events of the type {name} with schema {held}, and this version {reads}:"
                " serve it with the version that wrote them, or a later one."
            )
        connection.execute(CLAIM, ours)


class EventCopies:
    """Copies a data set into the store, as `crud_impl.load.Tables` does into tables."""

    def __init__(self) -> None:
        self._stocks = dict[str, Stock]()

    def held(self, connection: psycopg.Connection, customers: Sequence[str], order: str) -> set[str]:
        streams = [*(f"customer-{id}" for id in customers), f"order-{order}"]
        return {str(id) for (id,) in connection.execute(HELD, (streams,))}

    def begin(self, connection: psycopg.Connection, data: DataSet) -> None:
        connection.execute("SELECT outbox_history()")  # begins before the events
        self._copy(connection, begun(data))

    def orders(self, connection: psycopg.Connection, histories: Iterable[History]) -> None:
        self._copy(connection, self._events(histories))

    def end(self, connection: psycopg.Connection) -> None:
        """Snapshots of the stocks, whose streams are the only long ones."""
        ((history,),) = connection.execute("SELECT outbox_history()")
        rows = (
            (f"stock-{stock.id}", stock.version, RULES, history, _encode(stock).decode())
            for stock in self._stocks.values()
        )
        copy(connection, "snapshots (stream, version, rules, history, state)", rows)

    def _events(self, histories: Iterable[History]) -> Iterator[StoredEvent]:
        for history in histories:
            for event in history:
                if isinstance(event, OrderPlaced | OrderCancelled):
                    kind = StockTaken if isinstance(event, OrderPlaced) else StockReturned
                    for line in history[0].lines:
                        yield self._moved(kind, event.id, line.product_id, line.quantity)
                yield event

    def _moved(
        self, kind: type[StockTaken] | type[StockReturned], order_id: str, product_id: str, quantity: int
    ) -> StockTaken | StockReturned:
        before = self._stocks.get(product_id)
        event = kind(product_id, before.version + 1 if before else 1, order_id, quantity)
        self._stocks[product_id] = evolve_stock(before, event)
        return event

    @staticmethod
    def _copy(connection: psycopg.Connection, events: Iterable[StoredEvent]) -> None:
        copy(connection, "outbox (stream, version, body)", ((e.stream, e.version, encode(e)) for e in events))
