"""The line to Redis: each gets the answers to what it asked, or an error; never those of another."""

import asyncio

import pytest
import redis.exceptions as redis_errors

from cqrs_impl.documents.redis_client import RedisClient


def test_answers_find_who_asked_whatever_becomes_of_the_others(redis_url: str) -> None:
    async def story() -> None:
        line = RedisClient(redis_url, timeout_s=5)
        echoes = await asyncio.gather(*(line.ask(("ECHO", str(n)), ("ECHO", "x" * n)) for n in range(300)))
        assert echoes == [[str(n).encode(), b"x" * n] for n in range(300)]

        gone = asyncio.ensure_future(line.ask(("ECHO", "gone")))
        refused = line.ask(("ECHO", "1"), ("MULTI",), ("LPUSH", "line-test", "1"), ("GET", "line-test"), ("EXEC",))
        asking = [asyncio.ensure_future(one) for one in (refused, line.ask(("ECHO", "2")))]
        await asyncio.sleep(0)
        gone.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], redis_errors.ResponseError), "of a command inside the EXEC"
        assert answers[1] == [b"2"]

        with pytest.raises(redis_errors.ConnectionError):
            await line.ask(("CLIENT", "KILL", "ID", (await line.ask(("CLIENT", "ID")))[0], "SKIPME", "no"), ("PING",))
        assert await line.ask(("DEL", "line-test")) == [1], "on a new connection"
        await line.close()

    asyncio.run(story())


def test_a_silent_redis_is_given_up_and_asked_again_on_a_new_connection(redis_url: str) -> None:
    async def story() -> None:
        line = RedisClient(redis_url, timeout_s=0.2)
        with pytest.raises(redis_errors.TimeoutError):
            await line.ask(("BLPOP", "line-test-nothing", "0"))
        assert await line.ask(("ECHO", "back")) == [b"back"]
        await line.close()

    asyncio.run(story())
