"""Whatever a store says or does that is no expected outcome means that it is away: 503, the reason in the log and in
`/ready`, and all is well again when the store is."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import httpx
import psycopg
import pytest
import redis

from contract import stores
from contract.errors import StoreGone, Unavailable
from contract.messages import Query, QueryResult, Readiness
from contract.stores import HIDDEN, gone
from cqrs_impl.documents.clients.idiomatic import RedisPy
from cqrs_impl.documents.clients.lean import SharedConnection
from cqrs_impl.documents.redis_client import RedisClient
from crossover.targets import LOOPBACK, Target, listen, target_env
from crud_impl.connections import Transaction
from ladder.connections import database
from ladder.environment import CLIENTS, LEVELS, NAMESPACE, Environment
from servers.postgres import POSTGRES
from servers.redis import REDIS
from servers.server import fresh_namespace
from servers.supervisor import Processes
from tests.conftest import LONG_LEVELS
from tests.service import Shop, client_of, fresh_id, settle, wait_until

REPLIES = """
LOADING Redis is loading the dataset in memory
READONLY You can't write against a read only replica.
OOM command not allowed when used memory > 'maxmemory'.
MISCONF Errors writing to the AOF file: No space left
NOREPLICAS Not enough good replicas to write.
MASTERDOWN Link with MASTER is down
BUSY Redis is busy running a script
CLUSTERDOWN Hash slot not served
TRYAGAIN Multiple keys request during rehashing of slot
MOVED 1 127.0.0.1:7001
ASK 1 127.0.0.1:7001
CROSSSLOT Keys in request don't hash to the same slot
NOPERM User x has no permissions to run the command
NOAUTH Authentication required.
WRONGPASS invalid username-password pair
UNKILLABLE Sorry the script already executed write commands
EXECABORT Transaction discarded because of previous errors.
WRONGTYPE Operation against a key holding the wrong kind of value
NOPROTO unsupported protocol version
NOSCRIPT No matching script
ERR max number of clients reached
ERR unknown command 'GET'
NEWCODE of a later version
""".strip().splitlines()


class FakeRedis:
    """Says what it is told to: an error to every command, one unasked, garbage, or nothing; OK otherwise."""

    def __init__(self) -> None:
        self.says: bytes | None = None
        self.unasked = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        if self.says is not None and self.unasked:
            writer.write(self.says)
            return writer.close()
        while data := await reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                if self.says is not None:
                    writer.write(self.says)
                elif command[0] == b"EXEC":
                    writer.write(b"*1\r\n+OK\r\n")
                else:
                    writer.write(b"+QUEUED\r\n" if command[0] == b"SET" else b"+OK\r\n")
        writer.close()


@asynccontextmanager
async def fake_redis(level: str) -> AsyncIterator[tuple[FakeRedis, RedisClient]]:
    fake = FakeRedis()
    server = await asyncio.start_server(fake.serve, LOOPBACK, 0)
    url = f"redis://{LOOPBACK}:{server.sockets[0].getsockname()[1]}?protocol=2"
    client: Any = (
        RedisPy(url, connections=9, timeout_s=1.0) if level == "idiomatic" else SharedConnection(url, timeout_s=1.0)
    )
    yield fake, client
    await client.close()
    server.close()


async def well(client: RedisClient) -> None:
    assert await client.ask(("GET", "a")) == [b"OK"]
    assert await client.ask(("GET", "a"), ("GET", "b")) == [b"OK", b"OK"]
    assert await client.watch("a", ("GET", "a")) == [b"OK"]
    assert await client.write(("SET", "a", "1"))


@pytest.mark.parametrize("level", LONG_LEVELS)
def test_every_error_of_redis_means_away_and_is_forgotten_when_it_is_well(level: str) -> None:
    async def story() -> None:
        async with fake_redis(level) as (fake, client):
            await well(client)
            for words in REPLIES:
                for ask in (lambda: client.ask(("GET", "a")), lambda: client.ask(("GET", "a"), ("GET", "b"))):
                    fake.says = f"-{words}\r\n".encode()
                    with pytest.raises(StoreGone) as error:
                        await ask()
                    assert words.partition(" ")[2][:20] in error.value.reason, words
                with pytest.raises(StoreGone):
                    await client.watch("a", ("GET", "a"))
                fake.says = None
                await client.watch("a", ("GET", "a"))
                fake.says = f"-{words}\r\n".encode()
                with pytest.raises(StoreGone):
                    await client.write(("SET", "a", "1"))
                fake.says = None
                await well(client)

    asyncio.run(story())


@pytest.mark.parametrize("level", LONG_LEVELS)
@pytest.mark.parametrize(
    ("says", "unasked", "reason"),
    [
        (b"-ERR max number of clients reached\r\n", True, ("max number of clients", "onnection")),
        (b"-DENIED Redis is running in protected mode\r\n", True, ("protected mode", "onnection")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, ("rotocol",)),
        (b"\x15\x03\x03\x00\x02\x02\x28", False, ("rotocol",)),
        (b"", True, ("onnection", "losed")),
        (b"", False, ("imeout", "does not answer")),
    ],
)
def test_whatever_redis_does_means_away(level: str, says: bytes, unasked: bool, reason: tuple[str, ...]) -> None:
    async def story() -> None:
        async with fake_redis(level) as (fake, client):
            fake.says, fake.unasked = says, unasked
            for _ in range(2):
                with pytest.raises(StoreGone) as error:
                    await client.ask(("GET", "a"))
                assert any(words in error.value.reason for words in reason), error.value.reason
            fake.says = None
            await well(client)

    asyncio.run(story())


# One of every class that a server can raise: 00, 01 and 02 are no errors.
CODES = [one.sqlstate for one in vars(psycopg.errors).values() if isinstance(getattr(one, "sqlstate", None), str)]
CLASSES = sorted({code[:2]: code for code in CODES if code[:2] not in ("00", "01", "02")}.values())
KNOWN = ("53300", "53100", "25006", "57P03", "42P01", "42501", "23505", "23514", "40001", "40P01", "ZZ999")
SQLSTATES = (*CLASSES, *KNOWN)
RAISE = "DO $$ BEGIN RAISE EXCEPTION 'said so' USING ERRCODE = '{}'; END $$"


@pytest.mark.parametrize("level", LONG_LEVELS)
def test_every_sqlstate_means_away_but_a_collision(level: str, postgres_url: str) -> None:
    async def story() -> None:
        tables = database(Environment({POSTGRES.variable: postgres_url, NAMESPACE: "public", CLIENTS: level}))
        for code in SQLSTATES:

            async def work(transaction: Transaction) -> None:
                await transaction.send(RAISE.format(code))  # noqa: B023

            with pytest.raises(StoreGone) as error:
                await tables.rows(RAISE.format(code), {})
            assert error.value.reason == f"said so ({code})"
            with pytest.raises(Unavailable) as refusal:
                await tables.transact(work)
            collision = code in ("40001", "40P01")
            assert collision or getattr(refusal.value, "reason", "") == f"said so ({code})", code
            assert [*map(tuple, await tables.rows("SELECT 1", {}))] == [(1,)]
        assert tables.in_use()[0] == 0
        await tables.close()

    assert len(SQLSTATES) > 35
    asyncio.run(story())


class Away:
    """A system whose stores are away, or whose read store takes no writes."""

    def __init__(self, unwritable: str | None) -> None:
        self.unwritable = unwritable

    async def answer(self, query: Query) -> QueryResult:
        raise StoreGone("The read store cannot be asked right now.", "LOADING it")

    async def readiness(self) -> Readiness:
        if self.unwritable is None:
            raise StoreGone("The read store cannot be asked right now.", "LOADING it")
        return Readiness(0, 0.0, 0, None, self.unwritable)

    def pool_use(self) -> tuple[int, int]:
        return 0, 0

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(("unwritable", "reason"), [(None, "LOADING it"), ("OOM full", "OOM full")])
def test_ready_tells_the_reason_and_an_answer_does_not(unwritable: str | None, reason: str) -> None:
    with client_of(Away(unwritable)) as client:  # type: ignore[arg-type]
        ready = client.get("/ready")
        assert ready.status_code == 503 and ready.json()["reason"] == reason and "retry-after" in ready.headers
        answer = client.get(f"/orders/{fresh_id()}")
        assert answer.status_code == 503 and "LOADING" not in answer.text
        assert client.get("/metrics").status_code == 200


def test_the_reason_is_logged_once_a_second_in_one_line_without_a_password(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((100.0, 100.0, 100.5, 100.5, 100.99, 100.99, 101.5, 101.5))
    monkeypatch.setattr(stores, "monotonic", lambda: next(times))
    HIDDEN.add("geheim")
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(4):
                gone("The attic is away.", "ERR unknown command 'AUTH',\n with args: 'geheim' \x1b[1m")
                gone("The cellar is away.", "")
    finally:
        HIDDEN.discard("geheim")
    attic = [record.getMessage() for record in caplog.records if "attic" in record.getMessage()]
    assert attic == ["The attic is away. ERR unknown command 'AUTH', with args: '***' ?[1m"] * 2
    assert len(caplog.records) == 4


HURT: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "full": (lambda r: r.config_set("maxmemory", 1), lambda r: r.config_set("maxmemory", 0), "maxmemory"),
    "failed over": (lambda r: r.replicaof("127.0.0.1", 1), lambda r: r.replicaof("NO", "ONE"), "read only replica"),
    "too few replicas": (
        lambda r: r.config_set("min-replicas-to-write", 1),
        lambda r: r.config_set("min-replicas-to-write", 0),
        "replicas",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("level", LEVELS)
def test_a_read_store_that_takes_no_writes_is_seen_in_ready_and_caught_up_with_afterwards(
    level: str, postgres_url: str
) -> None:
    with Processes() as processes:
        urls = {POSTGRES.name: postgres_url, REDIS.name: REDIS.start(processes)}
        env = target_env("cqrs", urls, namespace=fresh_namespace("test_away"), clients=level)
        placed = Target("it", "cqrs", env, processes)
        placed.prepare(private=True)
        target = placed.launch(listen(LOOPBACK, 0))
        try:
            with (
                httpx.Client(base_url=target.url, timeout=60) as client,
                redis.Redis.from_url(urls[REDIS.name]) as store,
            ):
                for hurt, mend, reason in HURT.values():
                    hurt(store)
                    wait_until(lambda: client.get("/ready").status_code == 503)
                    assert reason in client.get("/ready").json()["reason"]
                    customer = Shop(client).customer()
                    wait_until(lambda: reason in processes.last_lines("it/projector", lines=50))  # noqa: B023
                    mend(store)
                    wait_until(lambda: client.get("/ready").status_code == 200)
                    settle(client)
                    assert client.get(f"/customers/{customer}").status_code == 200
        finally:
            target.stop()
            POSTGRES.drop(postgres_url, env[NAMESPACE])
