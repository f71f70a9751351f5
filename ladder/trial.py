"""The trial: before anything is served or filled, a rung is used on names of its own, by the clients of the service.

It sends every kind of command and of query, often enough that statements are prepared, on every connection of the pool;
its workers apply the events. The answers are compared with those of a system in memory. Nothing of it stays.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import uuid4

import uvloop

from contract import messages as m
from contract.errors import StoreGone, Unavailable
from contract.ports import OrderSystem
from contract.position import Position, covers
from contract.stores import LATEST
from contract.tasks import end
from ladder.environment import CLOCK, NAMESPACE, Environment
from ladder.noop.system import MemoryOrders
from ladder.rung import Rung, errors_of
from ladder.workers import close
from servers.server import OURS, Listing, Unusable, fresh_namespace

PREFIX = f"{OURS}trial_"
OLD_S = 600.0  # nobody is using it any more: whoever made it was killed
MIDNIGHT = "step:2026-01-01T23:59:59.998000+00:00"  # passes during the trial, so that there are two days to report
PREPARED = 3  # times after which a statement was planned, was prepared, and ran as such
CAUGHT_UP_S_MAX = 10.0


def trial(one: Rung, env: Environment) -> None:
    """Raises what the servers say, `Unusable` where their answers are wrong."""
    _sweep(one, env)
    namespace = fresh_namespace(f"trial_{int(time.time())}")
    own = replace(env, variables={**env.variables, NAMESPACE: namespace, CLOCK: MIDNIGHT})
    LATEST.clear()
    try:
        one.prepare(own)
        uvloop.run(_use(one, own))
    except BaseException:
        with contextlib.suppress(Unusable, *errors_of(one)):  # what it says to that matters less
            _drop(one, own)
        raise
    _drop(one, own)


async def _use(one: Rung, env: Environment) -> None:
    system, expected = one.system(env), MemoryOrders(replace(env).clock)
    helpers = one.workers(env).values()
    workers = [asyncio.ensure_future(worker.run()) for worker in helpers]
    try:
        ids = _Ids()
        for command in _commands(ids):
            done = await system.execute(command)
            assert done.receipt == (await expected.execute(command)).receipt, "the rules decide"
        crowd = max(1, system.pool_use()[1] // 2)  # of each kind: half of the connections read, half write
        deliveries = [m.DeliverStock(ids.product, str(uuid4()), 1) for _ in range(crowd)]
        await asyncio.gather(
            *(system.execute(delivery) for delivery in deliveries), *(_ready(system) for _ in range(crowd))
        )
        LATEST.clear()  # of a store that was only starting
        for delivery in deliveries:
            await expected.execute(delivery)
        token = (await system.execute(deliveries[0])).position
        for query in _queries(ids):
            answer, wanted = await _settled(system, workers, query, token), await expected.answer(query)
            for _ in range(PREPARED - 1):
                answer = await system.answer(query)
            if answer.body != wanted.body:
                raise Unusable(f"{one.name} gives a wrong answer on these servers to {type(query).__name__}.")
        await asyncio.gather(*(system.answer(m.GetOrder(ids.orders[0])) for _ in range(crowd)))
    finally:
        await end(workers)
        for helper in helpers:
            await close(helper)
        await system.close()


async def _ready(system: OrderSystem) -> m.Readiness:
    """Once there are views: what a server made a moment ago may not be there for all to see."""
    deadline_s = time.monotonic() + CAUGHT_UP_S_MAX
    while True:
        try:
            return await system.readiness()
        except Unavailable as error:
            if isinstance(error, StoreGone) or time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(0.005)


async def _settled(
    system: OrderSystem, workers: Sequence["asyncio.Future[None]"], query: m.Query, token: Position
) -> m.QueryResult:
    """The answer, once it reflects what the token stands for; whatever keeps a worker from it is raised."""
    deadline_s = time.monotonic() + CAUGHT_UP_S_MAX
    while time.monotonic() < deadline_s:
        for gone in LATEST.values():
            raise gone
        for worker in workers:
            if worker.done():
                worker.result()
        result = await system.answer(query)
        if result.position is None or covers(result.position, token):
            return result
        await asyncio.sleep(0.005)
    raise Unusable(f"No worker applied the events of the trial within {CAUGHT_UP_S_MAX:g} s.")


class _Ids:
    def __init__(self) -> None:
        self.customer, self.product = str(uuid4()), str(uuid4())
        self.orders = [str(uuid4()) for _ in range(3)]


def _commands(ids: _Ids) -> Iterator[m.Command]:
    yield m.RegisterCustomer(ids.customer, "Zoë O'Neill \\ 日本")
    yield m.AddProduct(ids.product, "Grüner Tee", 123, 50)
    for order in ids.orders:  # each kind of command as often as there are orders
        yield m.PlaceOrder(order, ids.customer, (m.Wanted(ids.product, 2),))
        yield m.PayOrder(order)
        yield m.ShipOrder(order) if order != ids.orders[1] else m.CancelOrder(order)
    for number in range(PREPARED):
        yield m.RenameCustomer(ids.customer, f"Zoë {number}")
        yield m.RepriceProduct(ids.product, 200 + number)
        yield m.DeliverStock(ids.product, str(uuid4()), 5)


def _queries(ids: _Ids) -> Iterator[m.Query]:
    for order in ids.orders:
        yield m.GetOrder(order)
        yield m.GetHistory(order)
    yield m.GetCustomer(ids.customer)
    yield m.ListOrders(ids.customer, 2)
    yield m.GetProduct(ids.product)
    yield m.TopProducts(10)
    yield m.DailySales(30)
    yield m.SearchOrders(("zoë", "tee"), 10)


def _drop(one: Rung, env: Environment) -> None:
    for server in one.servers:
        server.drop(env.url(server), env.variables[NAMESPACE])


def _sweep(one: Rung, env: Environment) -> None:
    """Drop what trials that were killed left behind."""
    for server in one.servers:
        if isinstance(server, Listing):
            for name in [*server.namespaces(env.url(server), PREFIX)]:
                begun = name.removeprefix(PREFIX).split("_")[0]
                if begun.isdigit() and int(begun) < time.time() - OLD_S:
                    server.drop(env.url(server), name)
