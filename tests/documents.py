"""What tests of documents share: work on stores of their own, which are closed after it, and answers from them."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pytest

from contract.messages import Event, Query, QueryResult
from contract.position import Position
from cqrs_impl.batch import apply
from cqrs_impl.documents.memory import MemoryDocuments
from cqrs_impl.documents.redis_client import RedisClient
from cqrs_impl.ports import DocumentReads
from cqrs_impl.queries import DocumentQueries
from ladder.connections import redis_client
from ladder.environment import CLIENTS, LEVELS, Environment
from servers.redis import REDIS


class NoBacklog:
    async def history(self, position: Position, counted: int | None = None) -> str:
        return position.history

    async def behind(self, position: Position, counted: int | None = None) -> tuple[int, float]:
        return 0, 0.0

    async def trouble(self) -> str | None:
        return None


class Closing:
    """Runs work of a test, and closes what that has opened."""

    async def close(self) -> None:
        return None

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def done() -> Any:
            try:
                return await work
            finally:
                await self.close()

        return asyncio.run(done())


class Documented(Closing, ABC):
    """Answers from documents of one adapter."""

    @abstractmethod
    async def reads(self, story: Iterable[Event]) -> DocumentReads:
        """Fresh documents after a story."""

    def answers(self, story: Iterable[Event], *queries: Query) -> list[QueryResult]:
        async def asked() -> list[QueryResult]:
            documents = DocumentQueries(await self.reads(story))
            return [await documents.answer(query) for query in queries]

        answered: list[QueryResult] = self.run(asked())
        return answered


class OfMemory(Documented):
    async def reads(self, story: Iterable[Event]) -> DocumentReads:
        documents = MemoryDocuments()
        for event in story:
            await apply(event, documents)
        return documents


class OfRedis(Closing):
    @pytest.fixture(autouse=True, params=LEVELS)
    def given(self, request: pytest.FixtureRequest, redis_url: str, namespace: Callable[[], str]) -> None:
        self.url, self.namespace = redis_url, namespace
        self.env = Environment({REDIS.variable: redis_url, CLIENTS: request.param})
        self.clients: list[RedisClient] = []

    def client(self) -> RedisClient:
        self.clients.append(redis_client(self.env))
        return self.clients[-1]

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
