"""CRUD behind a cache: an answer comes from the cache, or from the database, which is then cached; a command
invalidates after its commit, before it is acknowledged.

A position is a transaction's number. A valid entry reflects every command whose invalidation was delivered, and for
certain what was visible when it was read: a token that asks for more is answered by the database. As on `crud`, what a
restore took away is not asked for: tokens name no history, but no entry outlives its own.
"""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from contract.errors import Refusal, StoreGone
from contract.messages import (
    CancelOrder,
    Command,
    CommandResult,
    GetOrder,
    OrderView,
    PayOrder,
    PlaceOrder,
    Query,
    QueryResult,
    Readiness,
    ShipOrder,
)
from contract.ports import Clock, recorded_at
from contract.position import Position, covers
from crud_impl.cache.entries import Entries, Entry, Found, Snapshot
from crud_impl.cache.stale import ALL, Related, stale_tags, tags_of
from crud_impl.connections import Database, Transaction
from crud_impl.system import CrudOrders, answer, execute

KNOWN_MAX = 20_000  # orders whose customer is remembered
COMMITTED_WITHIN_S = 2.0  # a commit without a reply has happened by then, or the TTL is the last line
# Another start of the server, database or file of the table: transactions may have been given their numbers again.
HISTORY = "to_hex(hashtextextended(pg_postmaster_start_time()::text || pg_relation_filepath('orders'), 0))"
# Sent with each command; orders_pkey, order_lines_pkey
MARK = f"""
SELECT pg_current_xact_id()::text::bigint + 1, {HISTORY},
       (SELECT customer_id::text FROM orders WHERE id = %(order)s::uuid),
       ARRAY(SELECT product_id::text FROM order_lines WHERE order_id = %(order)s::uuid)"""
# A statement of CRUD with the snapshot that it reads. Where it finds nothing there is one row, of nulls.
WITH_SNAPSHOT = f"""
WITH found AS MATERIALIZED (SELECT true, statement.* FROM ({{}}) AS statement)
SELECT pg_snapshot_xmin(now.snapshot)::text::bigint, pg_snapshot_xmax(now.snapshot)::text::bigint, {HISTORY}, found.*
FROM (SELECT pg_current_snapshot() AS snapshot) AS now LEFT JOIN found ON true"""

_with_snapshot = lru_cache(WITH_SNAPSHOT.format)
_order = msgspec.json.Decoder(OrderView).decode


class _Load:
    """A load that has begun; who asks for the same meanwhile waits for it."""

    tags: Sequence[str] | None
    result: "asyncio.Task[QueryResult]"


class CachedOrders(CrudOrders):
    def __init__(self, database: Database, clock: Clock, entries: Entries) -> None:
        super().__init__(database, clock)
        self._entries = entries
        self._loads: dict[Query, _Load] = {}
        self._history = ""
        self._customers = dict[str, str]()  # of orders, which never change
        self._counts = dict.fromkeys(("cache_hits", "cache_misses", "cache_bypassed", "cache_loads"), 0)

    async def execute(self, command: Command) -> CommandResult:
        now = recorded_at(self._clock, command)
        known = order = None
        if isinstance(command, PayOrder | ShipOrder | CancelOrder):
            known = self._customers.get(command.id)
            if known is None or isinstance(command, CancelOrder):  # which needs the products too
                order = command.id
        begun = False

        async def work(transaction: Transaction) -> Any:
            nonlocal begun
            begun = True
            return await execute(transaction, command, now), await transaction.send(MARK, order=order)

        try:
            effect, mark = await self._database.transact(work)
        except BaseException as error:
            if begun and (isinstance(error, StoreGone) or not isinstance(error, Refusal)):  # it may have taken effect
                self._entries.owe({ALL}, after_s=COMMITTED_WITHIN_S)
                self._loads.clear()
            raise
        number, history, customer_id, product_ids = mark()
        self._follow(history)
        if isinstance(command, PlaceOrder):
            self._remember(command.id, command.customer_id)
        stale = stale_tags(command, Related(customer_id or known, tuple(product_ids)))
        self._loads = {query: load for query, load in self._loads.items() if load.tags and not stale & {*load.tags}}
        await self._entries.invalidate(stale)
        return CommandResult(effect.receipt, effect.created, Position(((number, 0),)))

    async def answer(self, query: Query, wanted: Position | None = None) -> QueryResult:
        tags = self._tags(query)
        found = await self._entries.find(query, tags) if tags else None
        entry = found.entry if found else None
        if entry is not None and (wanted is None or entry.snapshot.reflects(wanted)):
            self._counts["cache_hits"] += 1
            return QueryResult(entry.body, entry.snapshot.position)
        self._counts["cache_misses" if self._entries.usable else "cache_bypassed"] += 1
        load = self._loads.get(query)
        if load is None or wanted is not None:  # one that has begun may not reflect what is wanted
            load = self._loads[query] = _Load()
            load.tags = tags
            load.result = asyncio.ensure_future(self._load(query, load, found))
        result = await asyncio.shield(load.result)  # who goes away does not take it from others
        shown = result.position
        if wanted and shown and not (shown.history == wanted.history and covers(shown, wanted)):
            return QueryResult(result.body, wanted)  # of another database: this one lags behind none
        return result

    answer_at = answer

    async def _load(self, query: Query, load: _Load, found: Found | None) -> QueryResult:
        self._counts["cache_loads"] += 1
        try:
            if load.tags and found and found.generations is None:
                found = await self._entries.find(query, load.tags, make=True)
            body, snapshot = await self._read(query)
            self._follow(snapshot.history)
            if load.tags is None and body is not None:
                order = _order(body)
                self._remember(order.id, order.customer.id)
            if load.tags and found and found.generations and body is not None and self._entries.usable:
                await self._entries.store(query, load.tags, found.generations, Entry(body, snapshot))
            return QueryResult(body, snapshot.position)
        finally:
            if self._loads.get(query) is load:
                del self._loads[query]

    async def _read(self, query: Query) -> tuple[bytes | None, Snapshot]:
        """From the database."""
        read: list[Snapshot] = []

        async def rows(sql: str, params: dict[str, Any]) -> Sequence[Any]:
            found = await self._database.rows(_with_snapshot(sql), params)
            read.append(Snapshot(*found[0][:3]))
            return [row[4:] for row in found if row[3]]

        body = (await answer(rows, query)).body
        return body, read[0]

    def _follow(self, history: str) -> None:
        """What was read in another history than the present one is no longer used."""
        if self._history not in ("", history):
            self._entries.owe({ALL})
            self._customers.clear()
        self._history = history

    def _remember(self, order_id: str, customer_id: str) -> None:
        if len(self._customers) >= KNOWN_MAX:
            self._customers.clear()
        self._customers[order_id] = customer_id

    def _tags(self, query: Query) -> Sequence[str] | None:
        """None for an order whose customer is not known yet: it is read past the cache, and shows its customer."""
        if not isinstance(query, GetOrder):
            return tags_of(query)
        customer_id = self._customers.get(query.id)
        return customer_id and tags_of(query, customer_id)

    async def readiness(self) -> Readiness:
        ready, evicted = await super().readiness(), await self._entries.evicted()
        counts = self._counts | ({} if evicted is None else {"cache_evictions": evicted})
        return Readiness(ready.lag_events, ready.lag_seconds, ready.parked_events, counts=counts)

    async def close(self) -> None:
        await self._entries.close()
        await super().close()
