"""Fills a target's stores before it runs: the data set by COPY into the truth and the outbox, then the views of it.

One transaction: the data set is there in whole or not at all, so that serving a namespace again finds it filled.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

import msgspec
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
from contract.text import words
from crossover.errors import Fallen, UserError
from crossover.processes import household
from crossover.rebuild import build_views
from loadtests.dataset import SIZES, Dataset, OrderRow

Progress = Callable[[str, int, int], None]
Row = tuple[object, ...]

BATCH = 1_000  # orders a COPY: one connection copies into one table at a time
TABLES = ("customers", "products", "orders", "order_lines", "deliveries")
AFTER = {"paid": timedelta(minutes=1), "shipped": timedelta(hours=1), "cancelled": timedelta(hours=1)}
CHANGED: dict[str, type[OrderPaid] | type[OrderShipped] | type[OrderCancelled]] = {
    "paid": OrderPaid,
    "shipped": OrderShipped,
    "cancelled": OrderCancelled,
}

_encode = msgspec.json.Encoder().encode


class Priced(NamedTuple):
    name: str
    price_cents: int


def seed(target_env: dict[str, str], rung: str, size: str, seed: int, until: datetime, progress: Progress) -> None:
    """Fill the prepared stores of a rung; a namespace that holds this very data set keeps it."""
    if "DATABASE_URL" not in target_env:
        raise UserError(
            f"{rung} keeps nothing in a store, so there is nothing to fill before it runs: serve it with --size empty."
        )
    dataset = Dataset(seed, *SIZES[size])
    if not any(dataset.size):
        return
    try:
        with psycopg.connect(target_env["DATABASE_URL"], autocommit=True, connect_timeout=5) as connection:
            namespace = sql.Identifier(target_env["CROSSOVER_NAMESPACE"])
            connection.execute(sql.SQL("SET search_path TO {}").format(namespace))
            connection.execute("SET statement_timeout = 0")
            connection.execute("SET idle_in_transaction_session_timeout = 0")
            if not _is_there(connection, dataset):
                _copy(connection, dataset, until.astimezone(UTC), progress)
    except psycopg.Error as error:
        raise Fallen(f"Filling the stores of {rung} failed ({str(error).strip().splitlines()[0]}).") from error
    from ladder import serving

    # Also when the data was there: what ended an earlier fill between the truth and its views left them empty.
    if serving.needs_rebuild(rung):
        with household() as house:
            build_views(house, rung, target_env, progress)


def _is_there(connection: psycopg.Connection, dataset: Dataset) -> bool:
    """Ids depend on seed and index alone, so the customer after the last tells a larger data set of the same seed."""
    size = dataset.size
    first, last, beyond = (dataset.customer_id(index) for index in (0, size.customers - 1, size.customers))
    found = connection.execute("SELECT id::text FROM customers WHERE id = ANY(%s::uuid[])", ([first, last, beyond],))
    ids = {str(row[0]) for row in found}
    order = dataset.order_id(size.orders - 1)
    ordered = connection.execute("SELECT FROM orders WHERE id = %s::uuid", (order,)).fetchone() is not None
    if ids == {first, last} and ordered:
        return True
    if ids:
        raise UserError(
            f"This target holds data of another size of seed {dataset.seed}: give --size empty to keep it, "
            "another --seed to add to it, or another database."
        )
    return False


def _copy(connection: psycopg.Connection, dataset: Dataset, until: datetime, progress: Progress) -> None:
    with connection.transaction():
        found = connection.execute("SELECT to_regclass('outbox') IS NOT NULL").fetchone()
        outbox = bool(found and found[0])
        _copy_parties(connection, dataset, outbox, progress)
        _copy_orders(connection, dataset, until, outbox, progress)
    # Visibility and statistics as of a database that has been running: index-only scans and plans depend on them.
    tables = [*TABLES, "outbox"] if outbox else TABLES
    for done, table in enumerate(tables):
        progress("analyzing the tables", done, len(tables))
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):  # on a server of the user's own
        connection.execute("CHECKPOINT")
    progress("analyzing the tables", len(tables), len(tables))


def _copy_parties(connection: psycopg.Connection, dataset: Dataset, outbox: bool, progress: Progress) -> None:
    progress("copying customers and products", 0, 1)
    sold = Counter[str]()
    for order in dataset.orders():
        if "cancelled" not in order.changes:
            for product, quantity in order.lines:
                sold[product] += quantity
    _into(
        connection,
        "customers (id, version, name, words, registered_name)",
        ((id_, 1, name, list(words(name)), name) for id_, name in dataset.customers()),
    )
    _into(
        connection,
        "products (id, version, name, words, price_cents, stock, added_price_cents, added_stock)",
        (
            (id_, 1, name, list(words(name)), price, stock - sold[id_], price, stock)
            for id_, name, price, stock in dataset.products()
        ),
    )
    if outbox:
        registered = (("customer", CustomerRegistered(id_, 1, name)) for id_, name in dataset.customers())
        added = (
            ("product", ProductAdded(id_, 1, name, price, stock)) for id_, name, price, stock in dataset.products()
        )
        _into_outbox(connection, registered)
        _into_outbox(connection, added)
    progress("copying customers and products", 1, 1)


def _copy_orders(
    connection: psycopg.Connection, dataset: Dataset, until: datetime, outbox: bool, progress: Progress
) -> None:
    products = {id_: Priced(name, price) for id_, name, price, _ in dataset.products()}
    rows, done, total = dataset.orders(), 0, dataset.size.orders
    progress("copying orders", 0, total)
    while batch := list(islice(rows, BATCH)):
        histories = [_history(row, products, until) for row in batch]
        _into(
            connection,
            "orders (id, version, status, customer_id, placed_at, paid_at, shipped_at, cancelled_at,"
            " line_count, total_cents)",
            (_order(row, history) for row, history in zip(batch, histories, strict=True)),
        )
        _into(
            connection,
            "order_lines (order_id, position, product_id, quantity, unit_price_cents)",
            (
                (placed.id, position, line.product_id, line.quantity, line.unit_price_cents)
                for placed, *_ in histories
                for position, line in enumerate(placed.lines, 1)
            ),
        )
        if outbox:
            _into_outbox(connection, (("order", event) for history in histories for event in history))
        done += len(batch)
        progress("copying orders", done, total)


History = tuple[OrderPlaced, *tuple[OrderPaid | OrderShipped | OrderCancelled, ...]]


def _history(row: OrderRow, products: dict[str, Priced], until: datetime) -> History:
    """The events of an order, none of them after `until`."""
    placed_at = until - timedelta(microseconds=row.age_us)
    lines = []
    for id_, quantity in row.lines:
        name, price = products[id_]
        lines.append(Line(id_, name, quantity, price, price * quantity))
    placed = OrderPlaced(row.id, 1, placed_at, row.customer_id, tuple(lines), sum(line.amount_cents for line in lines))
    changes = (
        CHANGED[change](row.id, version, min(placed_at + AFTER[change], until))
        for version, change in enumerate(row.changes, 2)
    )
    return placed, *changes


def _order(row: OrderRow, history: History) -> Row:
    placed, *changes = history
    at = {change: event.at for change, event in zip(row.changes, changes, strict=True)}
    status = row.changes[-1] if row.changes else "placed"
    times = (placed.at, at.get("paid"), at.get("shipped"), at.get("cancelled"))
    return row.id, len(history), status, row.customer_id, *times, len(placed.lines), placed.total_cents


def _into_outbox(connection: psycopg.Connection, events: Iterable[tuple[str, Event]]) -> None:
    rows: Iterator[Sequence[object]] = (
        (f"{kind}-{event.id}", event.version, _encode(event).decode()) for kind, event in events
    )
    _into(connection, "outbox (stream, version, body)", rows)


def _into(connection: psycopg.Connection, table: str, rows: Iterable[Sequence[object]]) -> None:
    """`table` with its columns, from this file alone."""
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row(row)
