"""The environment of a demo: tables and keys of its own on real servers, and the parts of the ladder that it uses."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg
import redis.asyncio as redis
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncEngine

from contract.messages import AddProduct, Command, CommandResult, PlaceOrder, RegisterCustomer, Wanted
from contract.ports import utc_now
from cqrs_impl.batch import Apply, apply
from cqrs_impl.commands import Commands
from cqrs_impl.documents.redis import Keys, RedisDocuments
from cqrs_impl.event_store.store import EVENT_STORE, EventStore
from cqrs_impl.feeds.outbox.feed import OutboxFeed
from cqrs_impl.feeds.outbox.recorder import OUTBOX, Outbox
from cqrs_impl.ports import Recorder
from cqrs_impl.projector import Projector
from cqrs_impl.read_tables.recorder import READ_TABLES
from crossover.targets import target_env
from crud_impl.clients.idiomatic import open_engine
from crud_impl.connections import SCHEMA
from ladder.connections import POOL_CONNECTIONS, connect, database, redis_client
from ladder.environment import Environment
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import fresh_namespace


class Evidence(NamedTuple):
    """How often it went wrong, out of how many times it could have; `what` names one such time in the plural."""

    bad: int
    of: int
    what: str
    cost_us: float = 0.0  # of one time, where the mistake costs nothing but time


class DemoEnvironment:
    """An async context on private servers, whose Redis it leaves empty.

    `execute` carries out commands as the cqrs rung does, `project` moves its views to the end.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.urls, self.database_url, self.redis_url = urls, urls[POSTGRES.name], urls[REDIS.name]
        self.namespace = fresh_namespace("gallery")
        self.keys = Keys(self.namespace)
        self.ladder = Environment(target_env("cqrs", urls, namespace=self.namespace))
        self.engine = self.open_engine()
        self.writing = database(self.ladder)
        self.redis: Any = redis.Redis.from_url(self.redis_url)
        self.execute = self.commands(Outbox(self.namespace)).execute

    async def __aenter__(self) -> "DemoEnvironment":
        self.database = await psycopg.AsyncConnection.connect(self.database_url, autocommit=True)
        await self.database.execute(sql.SQL("CREATE SCHEMA {0}").format(sql.Identifier(self.namespace)))
        await self.database.execute(sql.SQL("SET search_path = {0}").format(sql.Identifier(self.namespace)))
        await self.database.execute((SCHEMA + OUTBOX + READ_TABLES).encode())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self.database.close()
        await self.redis.flushdb()
        await self.redis.aclose()
        await self.engine.dispose()
        await self.writing.close()

    async def rows(self, query: str, **params: Any) -> list[Any]:
        return await (await self.database.execute(query.encode(), params)).fetchall()

    def commands(self, journal: Recorder) -> Commands:
        return Commands(self.writing, journal, utc_now)

    def open_engine(self, **settings: Any) -> AsyncEngine:
        return open_engine(self.database_url, self.namespace, pool_size=POOL_CONNECTIONS, **settings)

    async def event_store(self) -> EventStore:
        """Instead of the tables: the events alone, as the rung event_sourced keeps them."""
        await self.database.execute(EVENT_STORE.encode())
        return EventStore(self.namespace)

    async def place(
        self, customer: str, *products: str, id: str = "", by: Callable[[Command], Awaitable[CommandResult]]
    ) -> str:
        """One order of one piece each, with a fresh id if none is given."""
        id = id or fresh_id()
        await by(PlaceOrder(id, customer, tuple(Wanted(product, 1) for product in products)))
        return id

    async def customer(self, name: str = "Ann") -> str:
        id = fresh_id()
        await self.execute(RegisterCustomer(id, name))
        return id

    async def customers(self, count: int) -> list[str]:
        return [await self.customer() for _ in range(count)]

    async def products(self, count: int) -> list[str]:
        return [await self.product() for _ in range(count)]

    async def missing(self, kind: type, ids: list[str]) -> int:
        """How many of these have no document."""
        found = await self.redis.mget([self.keys.document(kind, id) for id in ids])
        return int(found.count(None))

    async def product(self, stock: int = 1_000_000) -> str:
        id = fresh_id()
        await self.execute(AddProduct(id, "Tea", 100, stock))
        return id

    async def project(self, keys: Keys | None = None, *, apply: Apply = apply, replay: bool = False) -> None:
        """Let a fresh projector work until nothing is left, and if asked replay the dead letters."""
        feed, client = OutboxFeed(connect(self.ladder), self.namespace), redis_client(self.ladder)
        projector = Projector(feed, feed, RedisDocuments(client, keys or self.keys, feed.present), apply=apply)
        try:
            async with asyncio.timeout(120):
                while any(await projector.step()):
                    pass
                if replay:
                    await projector.replay()
        finally:
            await feed.close()
            await client.close()


async def crowd(workers: int, times: int, work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """Several at once, each one thing after the other: `work(number)` for all numbers; what they returned."""

    async def one(worker: int) -> list[Any]:
        return [await work(number) for number in range(worker, workers * times, workers)]

    return [result for results in await asyncio.gather(*map(one, range(workers))) for result in results]


def fresh_id() -> str:
    return str(uuid4())
