"""What the stores really hold: the truth and its events by SQL, the answers by HTTP, the views as they lie there."""

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import redis

from crossover.torture.stage import Stage
from crossover.torture.wire import Reply, Wire

READERS = 8
Row = dict[str, Any]


class Truth(NamedTuple):
    """Rows by id, as text; `events` is None on a rung that keeps none, else (stream, version, body) in stream order."""

    customers: dict[str, Row]
    products: dict[str, Row]
    orders: dict[str, Row]  # with `lines`, in their order
    deliveries: dict[tuple[str, str], int]  # (product, delivery) → pieces
    events: list[tuple[str, int, str]] | None


async def truth_of(stage: Stage) -> Truth:
    async def rows(statement: str) -> list[Row]:
        return [{k: _plain(v) for k, v in row.items()} for row in await stage.ask(statement)]

    customers = {row["id"]: row for row in await rows("SELECT id, version, name, registered_name FROM customers")}
    products = {
        row["id"]: row
        for row in await rows(
            "SELECT id, version, name, price_cents, stock, added_price_cents, added_stock FROM products"
        )
    }
    orders = {row["id"]: row | {"lines": []} for row in await rows("SELECT * FROM orders")}
    for line in await rows("SELECT * FROM order_lines ORDER BY order_id, position"):
        orders[line["order_id"]]["lines"].append(line)
    deliveries = {
        (row["product_id"], row["delivery_id"]): row["quantity"] for row in await rows("SELECT * FROM deliveries")
    }
    events = None
    if (await rows("SELECT to_regclass('outbox') IS NOT NULL AS kept"))[0]["kept"]:
        found = await rows("SELECT stream, version, body FROM outbox ORDER BY stream, version, id")
        events = [(row["stream"], row["version"], row["body"]) for row in found]
    return Truth(customers, products, orders, deliveries, events)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"
    return value if isinstance(value, int | str | None) else str(value)


async def answers_to(port: int, paths: Iterable[str]) -> dict[str, Reply]:
    """Ask all of them; the pages of a list are joined into one."""
    left = list(paths)
    answers: dict[str, Reply] = {}

    async def reader() -> None:
        wire = Wire(port, timeout_s=10.0)
        while left:
            path = left.pop()
            answers[path] = await (_whole_list(wire, path) if path.endswith("/orders") else wire.ask("GET", path))
        wire.close()

    await asyncio.gather(*(reader() for _ in range(READERS)))
    return answers


async def _whole_list(wire: Wire, path: str) -> Reply:
    orders: list[Any] = []
    after = ""
    while True:
        reply = await wire.ask("GET", f"{path}?limit=100{after}")
        if reply.status != 200:
            return reply
        page = json.loads(reply.body)
        orders += page["orders"]
        if page["next"] is None:
            return reply._replace(body=dumped({"orders": orders, "next": None}))
        after = f"&after={page['next']}"


def dumped(answer: Any) -> bytes:
    """JSON as the contract has it: compact, nothing escaped that need not be."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


async def views_of(stage: Stage) -> dict[str, Any]:
    """Everything in the rung's read store, to be compared with itself; empty where reads go to the truth."""
    if "redis" in stage.parts:
        return await asyncio.to_thread(_redis_views, stage)
    tables = await stage.ask(
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = %(schema)s"
        " AND table_name LIKE '%%\\_views'",
        {"schema": stage.namespace},
    )
    return {
        f"{table['name']} {row['row']}": 1
        for table in tables
        for row in await stage.ask(f"SELECT t::text AS row FROM {table['name']} t")
    }


def _redis_views(stage: Stage) -> dict[str, Any]:
    own = {f"{stage.namespace}:{book}".encode() for book in ("checkpoint", "parked", "applied")}  # how it came about
    with redis.Redis.from_url(stage.redis_url) as store:
        keys = sorted({*store.scan_iter(match=f"{stage.namespace}:*", count=1000)} - own)
        kinds = [store.type(key) for key in keys]
        return {
            key.decode(): store.get(key) if kind == b"string" else store.zrange(key, 0, -1, withscores=True)
            for key, kind in zip(keys, kinds, strict=True)
        }
