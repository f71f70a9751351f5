"""Fills the write model with a data set by COPY, in one transaction: all of it or nothing."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Protocol

import psycopg
from psycopg import sql

from contract.messages import (
    CustomerRegistered,
    Event,
    Line,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
    ProductAdded,
)
from contract.ports import DataSet, OrderRow
from contract.text import words
from crud_impl.session import open_step

Progress = Callable[[str, int, int], None]
Record = Callable[[psycopg.Connection, Iterable[Event]], None]
"""Records the events of the copied rows, in the same transaction."""
History = tuple[OrderPlaced, *tuple[OrderPaid | OrderShipped | OrderCancelled, ...]]

BATCH = 1_000  # orders per COPY: a connection runs one COPY at a time
AFTER = {"paid": timedelta(minutes=1), "shipped": timedelta(hours=1), "cancelled": timedelta(hours=1)}
CHANGED: dict[str, type[OrderPaid] | type[OrderShipped] | type[OrderCancelled]] = {
    "paid": OrderPaid,
    "shipped": OrderShipped,
    "cancelled": OrderCancelled,
}
CUSTOMERS = "customers (id, version, name, words, registered_name)"
PRODUCTS = "products (id, version, name, words, price_cents, stock, added_price_cents, added_stock)"
ORDERS = (
    "orders (id, version, status, customer_id, placed_at, paid_at, shipped_at, cancelled_at, line_count, total_cents)"
)
HELD = """
SELECT id::text FROM customers WHERE id = ANY(%s::uuid[]) UNION ALL SELECT id::text FROM orders WHERE id = %s::uuid"""
LINES = "order_lines (order_id, position, product_id, quantity, unit_price_cents)"


class OtherData(Exception):
    """The database holds another data set of the same seed."""


class Copies(Protocol):
    """Copies a data set into what a rung's commands write."""

    def held(self, connection: psycopg.Connection, customers: Sequence[str], order: str) -> set[str]:
        """Which of these ids are there."""

    def begin(self, connection: psycopg.Connection, data: DataSet) -> None:
        """Customers and products."""

    def orders(self, connection: psycopg.Connection, histories: Sequence[History]) -> None: ...
    def end(self, connection: psycopg.Connection) -> None:
        """After the last order."""


def load(url: str, schema: str, data: DataSet, until: datetime, progress: Progress, copies: Copies) -> None:
    """Copy the data set, its newest order placed at `until`. A database that already holds it is left unchanged."""
    with open_step(url, schema) as connection:
        if _holds(connection, data, copies):
            return
        with connection.transaction():
            copies.begin(connection, data)
            progress("copying customers and products", 1, 1)
            _copy_orders(connection, data, until, progress, copies)
            copies.end(connection)
        _analyze(connection, schema, progress)


def _holds(connection: psycopg.Connection, data: DataSet, copies: Copies) -> bool:
    """Ids depend only on seed and index: if the customer after the last exists, the database holds a larger set."""
    customers, _, orders = data.size
    first, last, beyond = (data.customer_id(index) for index in (0, customers - 1, customers))
    held = copies.held(connection, (first, last, beyond), order := data.order_id(orders - 1))
    if held and held != {first, last, order}:
        raise OtherData
    return bool(held)


def _copy_orders(
    connection: psycopg.Connection, data: DataSet, until: datetime, progress: Progress, copies: Copies
) -> None:
    products = {id: (name, price) for id, name, price, _ in data.products()}
    rows, done = data.orders(), 0
    while batch := list(islice(rows, BATCH)):
        copies.orders(connection, [_history(row, products, until) for row in batch])
        done += len(batch)
        progress("copying orders", done, data.size[2])


def begun(data: DataSet) -> Iterator[Event]:
    """The events before the first order."""
    for customer, name in data.customers():
        yield CustomerRegistered(customer, 1, name)
    for product, name, price, stock in data.products():
        yield ProductAdded(product, 1, name, price, stock)


class Tables:
    """Copies into the tables of the write model."""

    def __init__(self, record: Record | None = None) -> None:
        self._record = record

    def held(self, connection: psycopg.Connection, customers: Sequence[str], order: str) -> set[str]:
        return {str(id) for (id,) in connection.execute(HELD, (list(customers), order))}

    def begin(self, connection: psycopg.Connection, data: DataSet) -> None:
        sold = Counter[str]()
        for _, _, lines, changes, _ in data.orders():
            if "cancelled" not in changes:
                sold.update(dict(lines))
        copy(connection, CUSTOMERS, ((id, 1, name, list(words(name)), name) for id, name in data.customers()))
        copy(
            connection,
            PRODUCTS,
            (
                (id, 1, name, list(words(name)), price, stock - sold[id], price, stock)
                for id, name, price, stock in data.products()
            ),
        )
        if self._record:
            self._record(connection, begun(data))

    def orders(self, connection: psycopg.Connection, histories: Sequence[History]) -> None:
        copy(connection, ORDERS, map(_order_row, histories))
        copy(connection, LINES, chain.from_iterable(map(_line_rows, histories)))
        if self._record:
            self._record(connection, chain.from_iterable(histories))

    def end(self, connection: psycopg.Connection) -> None:
        pass


def _history(row: OrderRow, products: dict[str, tuple[str, int]], until: datetime) -> History:
    """The events of an order, none of them after `until`."""
    order_id, customer_id, wanted, changes, age_us = row
    placed_at = until - timedelta(microseconds=age_us)
    lines = []
    for id, quantity in wanted:
        name, price = products[id]
        lines.append(Line(id, name, quantity, price, price * quantity))
    placed = OrderPlaced(order_id, 1, placed_at, customer_id, tuple(lines), sum(line.amount_cents for line in lines))
    later = (
        CHANGED[change](order_id, version, min(placed_at + AFTER[change], until))
        for version, change in enumerate(changes, 2)
    )
    return placed, *later


def _order_row(history: History) -> Sequence[object]:
    placed, *changes = history
    at = {type(event): event.at for event in changes}
    status = next((name for name, kind in CHANGED.items() if kind is type(history[-1])), "placed")
    times = (placed.at, at.get(OrderPaid), at.get(OrderShipped), at.get(OrderCancelled))
    return placed.id, len(history), status, placed.customer_id, *times, len(placed.lines), placed.total_cents


def _line_rows(history: History) -> Iterator[Sequence[object]]:
    for position, line in enumerate(history[0].lines, 1):
        yield history[0].id, position, line.product_id, line.quantity, line.unit_price_cents


def copy(connection: psycopg.Connection, table: str, rows: Iterable[Sequence[object]]) -> None:
    """`table` is a table with its columns. It is not escaped: pass constants only."""
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN".encode()) as copying:
        for row in rows:
            copying.write_row(row)


def _analyze(connection: psycopg.Connection, schema: str, progress: Progress) -> None:
    """Build the visibility map and statistics of a database in use: index-only scans and plans depend on them."""
    tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
    for done, (table,) in enumerate(tables):
        progress("analyzing the tables", done, len(tables))
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):  # on a server of the user's own
        connection.execute("CHECKPOINT")
    progress("analyzing the tables", len(tables), len(tables))
