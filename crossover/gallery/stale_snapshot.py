"""Trusting a snapshot after the rules that wrote it have changed.

A snapshot is a state that some code computed. Yesterday's rules forgot that a cancelled order returns its pieces.
Today's do not, and every test of today's fold passes; but a state from a snapshot of yesterday was never folded by it.
The mistake stays in exactly the streams that are long enough to have a snapshot, and no event says so.

The remedy gives each snapshot the name of the rules that wrote it, derived from their source, so that nobody has to
think of it; a snapshot of other rules is not read. It is a cache: dropping it costs one fold.
"""

import inspect
from collections.abc import Callable
from functools import partial
from hashlib import sha256

import msgspec

from contract.errors import InsufficientStock
from contract.messages import AddProduct, CancelOrder, PlaceOrder, RegisterCustomer, Wanted
from contract.ports import utc_now
from cqrs_impl.event_store.commands import EventCommands
from cqrs_impl.event_store.events import StockEvent, StockTaken
from cqrs_impl.event_store.history import past
from cqrs_impl.event_store.store import SNAPSHOT, EventStore
from cqrs_impl.event_store.streams import Stock, evolve_stock
from crossover.gallery.environment import DemoEnvironment, Evidence, fresh_id
from crud_impl.connections import Transaction

PRODUCTS = 20
Rule = Callable[[Stock | None, StockEvent], Stock]


def yesterdays(stock: Stock | None, event: StockEvent) -> Stock:
    taken = stock.taken if stock else 0
    return Stock(event.id, event.version, taken + event.quantity * isinstance(event, StockTaken))


def named_by_hand(rule: Rule) -> str:
    return "stock-1"  # to be raised by whoever changes the rule


def named_by_source(rule: Rule) -> str:
    return sha256(inspect.getsource(rule).encode()).hexdigest()


async def keep(stock: Stock, rules: str, transaction: Transaction) -> None:
    state = msgspec.json.encode(stock).decode()
    await transaction.send(SNAPSHOT, stream=f"stock-{stock.id}", version=stock.version, rules=rules, state=state)


WRONG, RIGHT = named_by_hand, named_by_source


async def show(env: DemoEnvironment, name_of: Callable[[Rule], str]) -> Evidence:
    await env.event_store()
    store = EventStore(env.namespace, rules=name_of(evolve_stock))
    execute, customer = EventCommands(env.writing, store, utc_now).execute, fresh_id()
    await execute(RegisterCustomer(customer, "Ann"))

    async def order(product: str) -> str:
        id = fresh_id()
        await execute(PlaceOrder(id, customer, (Wanted(product, 1),)))
        return id

    refused = 0
    for product in [fresh_id() for _ in range(PRODUCTS)]:
        await execute(AddProduct(product, "Tea", 100, 1))
        await execute(CancelOrder(await order(product)))
        stock: Stock | None = None
        for one in await past(env.writing.rows, [f"stock-{product}"]):
            assert isinstance(one.event, StockEvent)
            stock = yesterdays(stock, one.event)
        assert stock is not None and stock.taken == 1, "yesterday's rules forget the return"
        await env.writing.transact(partial(keep, stock, name_of(yesterdays)))
        try:
            await order(product)
        except InsufficientStock:
            refused += 1
    return Evidence(refused, PRODUCTS, "orders refused for want of a piece that is there")
