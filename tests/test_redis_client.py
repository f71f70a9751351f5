"""The Redis client: each caller gets the answers to what it asked, or an error; never those of another."""

import asyncio

import pytest
from redis.exceptions import ResponseError

from contract.errors import StoreGone
from cqrs_impl.documents.redis_client import RedisClient


def test_answers_find_who_asked_whatever_becomes_of_the_others(redis_url: str) -> None:
    async def story() -> None:
        client = RedisClient(redis_url, timeout_s=5)
        echoes = await asyncio.gather(*(client.ask(("ECHO", str(n)), ("ECHO", "x" * n)) for n in range(300)))
        assert echoes == [[str(n).encode(), b"x" * n] for n in range(300)]

        gone = asyncio.ensure_future(client.ask(("ECHO", "gone")))
        refused = client.ask(("ECHO", "1"), ("MULTI",), ("LPUSH", "test", "1"), ("GET", "test"), ("EXEC",))
        asking = [asyncio.ensure_future(one) for one in (refused, client.ask(("ECHO", "2")))]
        await asyncio.sleep(0)
        gone.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], ResponseError), "of a command inside the EXEC"
        assert answers[1] == [b"2"]

        with pytest.raises(StoreGone):
            await client.ask(
                ("CLIENT", "KILL", "ID", (await client.ask(("CLIENT", "ID")))[0], "SKIPME", "no"), ("PING",)
            )
        assert await client.ask(("DEL", "test")) == [1], "on a new connection"
        await client.close()

    asyncio.run(story())


def test_a_silent_redis_is_given_up_and_asked_again_on_a_new_connection(redis_url: str) -> None:
    async def story() -> None:
        client = RedisClient(redis_url, timeout_s=0.2)
        with pytest.raises(StoreGone):
            await client.ask(("BLPOP", "test-nothing", "0"))
        assert await client.ask(("ECHO", "back")) == [b"back"]
        await client.close()

    asyncio.run(story())
