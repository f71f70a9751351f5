"""The cache: what makes an answer stale, and that none is given after that, whatever becomes of the cache."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis

from contract import messages as m
from contract.errors import Refusal, StoreGone
from contract.position import START, Position, covers
from crossover.targets import target_env
from crud_impl.cache.entries import TTL_S, Entries
from crud_impl.cache.system import CachedOrders
from crud_impl.session import open_step
from crud_impl.system import CrudOrders
from ladder.connections import database, redis_client
from ladder.environment import Environment
from ladder.rung import rung
from servers.postgres import POSTGRES
from servers.redis import CACHE
from tests.conftest import LONG_LEVELS
from tests.service import PATIENCE_S, fresh_id


class Redis:
    """A client whose commands fail while they are named in `refused`."""

    def __init__(self, client: Any) -> None:
        self.client, self.refused, self.asked = client, "", list[str]()

    async def ask(self, *commands: Any) -> list[Any]:
        self.asked.append(commands[0][0])
        if self.refused and any(self.refused in str(word) for word in commands[0][:2]):
            raise StoreGone("The cache is away.")
        return await self.client.ask(*commands)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


class Held:
    """A database whose reads, once made, are held back while the gate is shut, and whose commits can lose replies."""

    def __init__(self, env: Environment) -> None:
        self.real, self.gate, self.reads, self.mute = database(env), asyncio.Event(), 0, False
        self.gate.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def rows(self, sql: str, params: dict[str, Any]) -> Any:
        found = await self.real.rows(sql, params)
        if "found" in sql:
            self.reads += 1
            await self.gate.wait()
        return found

    async def transact(self, work: Any) -> Any:
        result = await self.real.transact(work)
        if self.mute:
            raise StoreGone("The reply was lost.")
        return result

    async def reading(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.reads < count:
                await asyncio.sleep(0.001)


class World:
    """Processes that share tables and a cache."""

    def __init__(self, env: Environment) -> None:
        self.env, self.opened = env, list[CachedOrders]()
        self.past = CrudOrders(database(env), env.clock)  # writes past the cache

    def process(self) -> tuple[CachedOrders, Held, Redis]:
        # A cache that is only slow, on a busy machine, is asked all the same, so that hits can be counted.
        held, client = Held(self.env), Redis(redis_client(self.env, CACHE, timeout_s=PATIENCE_S))
        self.opened.append(CachedOrders(held, self.env.clock, Entries(client, self.env.namespace)))  # type: ignore[arg-type]
        return self.opened[-1], held, client

    async def close(self) -> None:
        for one in (self.past, *self.opened):
            await one.close()


Play = Callable[[Callable[[World], Any]], None]


@pytest.fixture(params=LONG_LEVELS)
def play(request: pytest.FixtureRequest, postgres_url: str, cache_url: str, namespace: Callable[[], str]) -> Play:
    urls = {POSTGRES.name: postgres_url, CACHE.name: cache_url}

    def played(story: Callable[[World], Any]) -> None:
        env = Environment(target_env("cache", urls, namespace=namespace(), clients=request.param))
        rung("cache").prepare(env)

        async def run() -> None:
            world = World(env)
            try:
                await story(world)
            finally:
                await world.close()

        asyncio.run(run())

    return played


async def name_of(system: Any, id: str, wanted: Position | None = None, kind: Any = m.GetCustomer) -> str:
    result = await system.answer_at(kind(id), wanted)
    if wanted is not None:
        assert covers(result.position, wanted), "no position is earlier than what was asked for"
    return str(result.body).partition('"name":"')[2].partition('"')[0]


async def counts(system: CachedOrders) -> dict[str, int]:
    found = (await system.readiness()).counts
    assert found is not None
    return found


async def asking(system: CachedOrders, id: str, kind: Any) -> list["asyncio.Future[str]"]:
    """Twenty who ask for a name, each of whom has begun a load by now or waits for one."""
    before = (await counts(system))["cache_misses"]
    crowd = [asyncio.ensure_future(name_of(system, id, kind=kind)) for _ in range(20)]
    async with asyncio.timeout(PATIENCE_S):
        while (await counts(system))["cache_misses"] < before + len(crowd):
            await asyncio.sleep(0.001)
    return crowd


async def cached(system: CachedOrders) -> str:
    """A customer Ann whose answer is in the cache."""
    customer = fresh_id()
    await system.execute(m.RegisterCustomer(customer, "Ann"))
    before = (await counts(system))["cache_hits"]
    for _ in range(2):
        assert await name_of(system, customer) == "Ann"
    assert (await counts(system))["cache_hits"] == before + 1
    return customer


def test_a_slow_reader_stores_nothing_that_was_made_stale_meanwhile(play: Play) -> None:
    async def story(world: World) -> None:
        (slow, held, _), (other, *_) = world.process(), world.process()
        customer = await cached(other)
        await other.execute(m.RenameCustomer(customer, "Bea"))
        held.gate.clear()
        reading = asyncio.ensure_future(name_of(slow, customer))
        await held.reading(1)
        await other.execute(m.RenameCustomer(customer, "Cleo"))
        held.gate.set()
        assert await reading == "Bea"
        assert [await name_of(one, customer) for one in (slow, other)] == ["Cleo", "Cleo"]

    play(story)


@pytest.mark.parametrize("kind", [m.GetCustomer, m.GetOrder])
def test_one_loads_and_those_who_ask_meanwhile_wait_but_not_after_a_command(play: Play, kind: Any) -> None:
    async def story(world: World) -> None:
        (system, held, _), (other, *_) = world.process(), world.process()
        id = customer = await cached(system)
        if kind is m.GetOrder:  # one whose customer the process does not know yet
            id, product = fresh_id(), fresh_id()
            await other.execute(m.AddProduct(product, "Tea", 100, 5))
            await other.execute(m.PlaceOrder(id, customer, (m.Wanted(product, 2),)))
        await system.execute(m.RenameCustomer(customer, "Bea"))
        held.reads = 0
        held.gate.clear()
        crowd = await asking(system, id, kind)
        await held.reading(1)
        await system.execute(m.RenameCustomer(customer, "Cleo"))
        later = await asking(system, id, kind)
        await held.reading(2)
        crowd[0].cancel()
        held.gate.set()
        assert {*await asyncio.gather(*crowd[1:])} == {"Bea"}
        assert {*await asyncio.gather(*later)} == {"Cleo"}
        assert held.reads == 2

    play(story)


def test_what_could_not_be_invalidated_is_not_read_until_it_is(play: Play) -> None:
    async def story(world: World) -> None:
        system, held, client = world.process()
        customer = await cached(system)
        client.refused = "UNLINK"
        await system.execute(m.RenameCustomer(customer, "Bea"))
        assert await name_of(system, customer) == "Bea"
        client.refused = ""
        async with asyncio.timeout(PATIENCE_S):
            while (await counts(system))["cache_hits"] < 2:
                assert await name_of(system, customer) == "Bea"
                await asyncio.sleep(0.01)
        held.mute = True
        with pytest.raises(StoreGone):
            await system.execute(m.RenameCustomer(customer, "Cleo"))
        assert await name_of(system, customer) == "Cleo", "a commit without a reply may have happened"

    play(story)


def test_a_killed_process_costs_staleness_until_the_next_starts_or_the_time_to_live_ends(play: Play) -> None:
    async def story(world: World) -> None:
        system, *_ = world.process()
        customer = await cached(system)
        await world.past.execute(m.RenameCustomer(customer, "Bea"))  # committed, and killed before it invalidated
        assert await name_of(system, customer) == "Ann"
        with redis.Redis.from_url(world.env.url(CACHE)) as store:
            keys = store.keys(f"{world.env.namespace}:GetCustomer:*")
            assert len(keys) == 1 and 0 < store.ttl(keys[0]) <= TTL_S
        assert await name_of(world.process()[0], customer) == "Bea"
        assert await name_of(system, customer) == "Bea"

    play(story)


def test_a_token_gets_what_it_asks_for_even_if_another_process_cannot_invalidate(play: Play) -> None:
    async def story(world: World) -> None:
        (writer, _, client), (reader, *_) = world.process(), world.process()
        await cached(writer)
        customer = await cached(reader)
        client.refused = "UNLINK"
        token = (await writer.execute(m.RenameCustomer(customer, "Bea"))).position
        assert await name_of(reader, customer) == await name_of(reader, customer, START) == "Ann"
        assert await name_of(reader, customer, token) == "Bea"
        shown = (await reader.answer_at(m.GetCustomer(customer), token)).position
        assert shown is not None and await name_of(reader, customer, shown) == "Bea"
        again = (await writer.execute(m.RenameCustomer(customer, "Bea"))).position
        assert covers(again, token) and again != token, "a repeat has a later position"
        assert await name_of(reader, customer, Position(((10**15, 0),))) == "Bea", "a token of a database with more"

    play(story)


def test_another_history_of_the_database_is_not_answered_from_the_cache(play: Play) -> None:
    async def story(world: World) -> None:
        system, *_ = world.process()
        customer = await cached(system)
        await world.past.execute(m.RenameCustomer(customer, "Bea"))
        assert await name_of(system, customer) == "Ann"
        with open_step(world.env.url(POSTGRES), world.env.namespace) as connection:
            connection.execute("VACUUM FULL orders")  # as a restore does, it gives the table another file
        await system.execute(m.RegisterCustomer(fresh_id(), "Eva"))
        assert await name_of(system, customer) == "Bea"

    play(story)


def test_an_order_shows_a_new_name_and_a_refusal_and_what_is_missing_are_not_cached(play: Play) -> None:
    async def story(world: World) -> None:
        system, *_ = world.process()
        customer, product, order = await cached(system), fresh_id(), fresh_id()
        assert (await system.answer(m.GetOrder(order))).body is None
        await system.execute(m.AddProduct(product, "Tea", 100, 5))
        await system.execute(m.PlaceOrder(order, customer, (m.Wanted(product, 2),)))
        queries = (m.GetOrder(order), m.GetProduct(product), m.ListOrders(customer, 5), m.SearchOrders(("tea",), 5))
        for number, change in enumerate((m.RenameCustomer(customer, "Bea"), m.PayOrder(order), m.CancelOrder(order))):
            await system.execute(change)
            for query in (*queries, m.TopProducts(5), m.DailySales(5), m.GetHistory(order), m.GetCustomer(customer)):
                expected = (await world.past.answer(query)).body
                assert [(await system.answer(query)).body for _ in range(2)] == [expected] * 2, (number, query)
        with pytest.raises(Refusal):
            await system.execute(m.ShipOrder(order))

    play(story)


def test_a_miss_after_a_command_asks_the_cache_twice_and_the_database_once(play: Play) -> None:
    async def story(world: World) -> None:
        (system, held, client), (other, *_) = world.process(), world.process()
        customer, product, order = await cached(system), fresh_id(), fresh_id()
        await other.execute(m.AddProduct(product, "Tea", 100, 5))
        await other.execute(m.PlaceOrder(order, customer, (m.Wanted(product, 2),)))

        async def costs(query: m.Query) -> tuple[list[str], int]:
            client.asked, held.reads = [], 0
            assert (await system.answer(query)).body == (await world.past.answer(query)).body
            return client.asked, held.reads

        hit, read, loaded = (["MGET"], 0), ["EVALSHA", "EVALSHA"], 1
        assert await costs(m.GetOrder(order)) == ([], 1), "its customer is not known: past the cache"
        assert await costs(m.GetOrder(order)) == (["MGET", *read], loaded), "nobody asked for it before"
        assert await costs(m.GetOrder(order)) == hit
        await other.execute(m.RenameCustomer(customer, "Bea"))
        assert await costs(m.GetOrder(order)) == (["MGET", *read], loaded), "another process made it stale"
        for change in (m.RenameCustomer(customer, "Cleo"), m.PayOrder(order), m.CancelOrder(order)):
            await system.execute(change)
            assert await costs(m.GetOrder(order)) == (read, loaded)
            assert await costs(m.GetOrder(order)) == hit

    play(story)
