"""The clients of PostgreSQL: a transaction is whole or nothing, and leaves its connection fit for the next."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from contract.errors import InsufficientStock, StoreGone
from crud_impl.connections import Database, Transaction
from ladder.connections import POOL_CONNECTIONS, database
from ladder.environment import CLIENTS, LEVELS, NAMESPACE, Environment
from servers.postgres import POSTGRES

INSERT = "INSERT INTO numbers (n) VALUES (%(n)s)"
TABLE = "CREATE TABLE numbers (n int CONSTRAINT orders_pkey PRIMARY KEY CHECK (n < 100), m int UNIQUE);"
ALL = "SELECT n FROM numbers ORDER BY n"
CUT_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE query LIKE 'SELECT pg_sleep%%' OR pid = pg_backend_pid() ORDER BY pid = pg_backend_pid()"""
Ask = Callable[[Callable[[Database], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=LEVELS)
def ask(request: pytest.FixtureRequest, postgres_url: str, namespace: Callable[[], str]) -> Ask:
    env = Environment({POSTGRES.variable: postgres_url, NAMESPACE: namespace(), CLIENTS: request.param})
    POSTGRES.create_schema(postgres_url, env.namespace, TABLE)

    def run(story: Callable[[Database], Coroutine[Any, Any, None]]) -> None:
        async def told() -> None:
            tables = database(env)
            await story(tables)
            assert tables.in_use()[0] == 0
            await tables.close()

        asyncio.run(told())

    return run


async def insert(transaction: Transaction, *numbers: int) -> None:
    for n in numbers:
        await transaction.send(INSERT, n=n)


async def numbers(tables: Database) -> list[int]:
    return [n for (n,) in await tables.rows(ALL, {})]


def test_what_was_sent_is_answered_after_the_commit(ask: Ask) -> None:
    async def story(tables: Database) -> None:
        async def work(transaction: Transaction) -> Callable[[], Any]:
            await insert(transaction, 1, 2)
            assert [n for (n,) in await transaction.rows(ALL)] == [1, 2]
            assert await transaction.first("SELECT 1 WHERE false") is None
            return await transaction.send("INSERT INTO numbers (n) VALUES (3) RETURNING n, 'x'")

        row = await tables.transact(work)
        assert tuple(row()) == (3, "x")
        assert await numbers(tables) == [1, 2, 3]

    ask(story)


@pytest.mark.parametrize("failure", [InsufficientStock("none"), ZeroDivisionError(), asyncio.CancelledError()])
def test_a_transaction_that_fails_leaves_no_trace(ask: Ask, failure: BaseException) -> None:
    async def story(tables: Database) -> None:
        async def work(transaction: Transaction) -> None:
            await insert(transaction, 1)
            raise failure

        with pytest.raises(type(failure)):
            await tables.transact(work)
        await tables.transact(lambda transaction: insert(transaction, 2))
        assert await numbers(tables) == [2]

    ask(story)


def test_a_statement_that_fails_is_the_reason_and_takes_the_others_with_it(ask: Ask) -> None:
    async def story(tables: Database) -> None:
        with pytest.raises(StoreGone) as at_commit:
            await tables.transact(lambda transaction: insert(transaction, 1, 100, 2))

        async def asks_on(transaction: Transaction) -> None:
            await insert(transaction, 1, 100)
            await transaction.first("SELECT 1")

        with pytest.raises(StoreGone) as asking:
            await tables.transact(asks_on)
        assert "(23514)" in at_commit.value.reason and "(23514)" in asking.value.reason
        assert await numbers(tables) == []

    ask(story)


def test_a_transaction_that_meets_another_starts_over_and_sees_it(ask: Ask) -> None:
    async def story(tables: Database) -> None:
        tries = 0

        async def second(transaction: Transaction) -> bool:
            nonlocal tries
            tries += 1
            if tries > 1 and await transaction.first("SELECT FROM numbers WHERE n = 1") is not None:
                return False
            await insert(transaction, 1)
            return True

        await tables.transact(lambda transaction: insert(transaction, 1))
        assert await tables.transact(second) is False
        assert tries == 2

    ask(story)


def test_what_no_race_explains_is_raised_at_once(ask: Ask) -> None:
    async def story(tables: Database) -> None:
        tries = 0

        async def twice(transaction: Transaction) -> None:
            nonlocal tries
            tries += 1
            for n in (1, 2):
                await transaction.send("INSERT INTO numbers VALUES (%(n)s, 7)", n=n)

        with pytest.raises(StoreGone):
            await tables.transact(twice)
        assert tries == 1

    ask(story)


def test_after_a_restart_of_the_server_one_request_fails(ask: Ask) -> None:
    async def story(tables: Database) -> None:
        await asyncio.gather(*(tables.rows("SELECT pg_sleep(0.1)", {}) for _ in range(POOL_CONNECTIONS)))
        with pytest.raises(StoreGone):
            await tables.rows(CUT_ALL, {})
        await asyncio.gather(*(tables.rows(ALL, {}) for _ in range(POOL_CONNECTIONS)))
        await tables.transact(lambda transaction: insert(transaction, 2))

    ask(story)


def test_a_server_that_cut_a_connection_is_asked_on_a_new_one(ask: Ask) -> None:
    async def story(tables: Database) -> None:
        async def cut(transaction: Transaction) -> None:
            await insert(transaction, 1)
            await transaction.first("SELECT pg_terminate_backend(pg_backend_pid())")

        with pytest.raises(StoreGone):
            await tables.transact(cut)
        with pytest.raises(StoreGone):
            await tables.rows("SELECT pg_terminate_backend(pg_backend_pid())", {})
        await tables.transact(lambda transaction: insert(transaction, 2))
        assert await numbers(tables) == [2]

    ask(story)
