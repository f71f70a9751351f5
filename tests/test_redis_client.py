"""The clients of Redis: each caller gets the answers to what it asked, or an error; never those of another."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest
import redis

from contract.errors import StoreGone
from cqrs_impl.documents.clients.idiomatic import RedisPy
from cqrs_impl.documents.clients.lean import SharedConnection
from cqrs_impl.documents.redis_client import RedisClient

Open = Callable[..., RedisClient]


@pytest.fixture(params=["idiomatic", "lean"])
def open_client(request: pytest.FixtureRequest, redis_url: str) -> Open:
    if request.param == "idiomatic":
        return lambda timeout_s=5.0: RedisPy(redis_url, connections=300, timeout_s=timeout_s)
    return lambda timeout_s=5.0: SharedConnection(redis_url, timeout_s=timeout_s)


def test_answers_find_who_asked_whatever_becomes_of_the_others(open_client: Open) -> None:
    async def story() -> None:
        client = open_client()
        echoes = await asyncio.gather(*(client.ask(("ECHO", str(n)), ("ECHO", "x" * n)) for n in range(300)))
        assert echoes == [[str(n).encode(), b"x" * n] for n in range(300)]
        gone = asyncio.ensure_future(client.ask(("ECHO", "gone")))
        refused = client.ask(("ECHO", "1"), ("LPUSH", "test", "1"), ("GET", "test"))
        asking = [asyncio.ensure_future(one) for one in (refused, client.ask(("ECHO", "2")))]
        await asyncio.sleep(0)
        gone.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], StoreGone)
        assert answers[1] == [b"2"]
        await client.watch("test")
        with pytest.raises(StoreGone):
            await client.write(("GET", "test"))  # refused inside the EXEC
        assert await client.ask(("DEL", "test")) == [1]
        await client.close()

    asyncio.run(story())


def test_a_silent_redis_is_given_up_and_asked_again_on_a_new_connection(open_client: Open) -> None:
    async def story() -> None:
        client = open_client(timeout_s=1.0)
        with pytest.raises(StoreGone):
            await client.ask(("BLPOP", "test-nothing", "0"))
        assert await client.ask(("ECHO", "back")) == [b"back"]
        await client.close()

    asyncio.run(story())


def test_each_new_connection_asks_first_and_its_reply_is_told(open_client: Open, redis_url: str) -> None:
    async def story() -> None:
        client, told = open_client(), list[object]()
        client.on_open(("CLIENT", "ID"), told.append)
        for times in (1, 2):
            numbers = [await client.ask(("CLIENT", "ID")) for _ in range(2)]
            assert len(told) == times and numbers == [told[-1:]] * 2
            with redis.Redis.from_url(redis_url) as other:
                other.client_kill_filter(_id=str(told[-1]))
            with contextlib.suppress(StoreGone):
                await client.ask(("PING",))
        await client.close()

    asyncio.run(story())


def test_a_transaction_is_not_sent_on_a_connection_that_watches_nothing(open_client: Open, redis_url: str) -> None:
    async def cut_between_watch_and_write() -> None:
        client = open_client()
        (number,) = await client.watch("test-key", ("CLIENT", "ID"))
        with redis.Redis.from_url(redis_url) as other:
            other.client_kill_filter(_id=number)
        for _ in range(2):  # whoever shares the connection may find out first, and open another
            with contextlib.suppress(StoreGone):
                await client.ask(("PING",))
        with pytest.raises(StoreGone):
            await client.write(("SET", "test-key", "unwatched"))
        assert await client.ask(("GET", "test-key")) == [None]
        await client.close()

    asyncio.run(cut_between_watch_and_write())


def test_a_watched_key_that_another_wrote_refuses_the_transaction(open_client: Open) -> None:
    async def race() -> None:
        client, other = open_client(), open_client()
        assert await client.watch("test-key", ("SET", "test-other", "1"), ("GET", "test-key"))
        await other.ask(("SET", "test-key", "other's"))
        assert not await client.write(("SET", "test-key", "ours"))
        assert await client.watch("test-key", ("GET", "test-key")) == [b"other's"]
        assert await client.write(("DEL", "test-key", "test-other"))
        await client.close()
        await other.close()

    asyncio.run(race())
