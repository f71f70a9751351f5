"""Taking the stock by a saga, where one transaction could take it.

The textbook makes each stream a boundary of consistency. So an order is accepted in one transaction, a process manager
takes the stock of its product in the next, and cancels the order by a compensation if there is none left. Each step is
right. Between them is a window: whoever looks at the stock before it is taken sees the last piece, and all of them are
told that it is theirs.

The remedy, where the streams are in one database, is to append to all of them in one transaction: who comes too late is
refused at once. Across databases the window cannot be closed. Say so: an order is then requested, not yet accepted.
"""

from collections.abc import Sequence

from contract import rules
from contract.errors import InsufficientStock
from contract.messages import AddProduct, CancelOrder, PlaceOrder, RegisterCustomer, Wanted
from contract.ports import utc_now
from cqrs_impl.event_store.commands import EventCommands, moved, place
from cqrs_impl.event_store.events import StockTaken, StoredEvent
from cqrs_impl.event_store.history import past
from cqrs_impl.event_store.store import EventStore
from crossover.gallery.environment import DemoEnvironment, Evidence, fresh_id
from crud_impl.connections import Transaction

PRODUCTS, BUYERS = 10, 4


class OneTransaction:
    def __init__(self, env: DemoEnvironment, store: EventStore) -> None:
        self.database, self.store = env.writing, store
        self.execute = EventCommands(env.writing, store, utc_now).execute

    async def place(self, order: PlaceOrder) -> None:
        await self.execute(order)

    async def follow(self, order: PlaceOrder) -> None:
        """Nothing is left to do."""


class Saga(OneTransaction):
    async def place(self, order: PlaceOrder) -> None:
        async def accept(transaction: Transaction) -> None:
            own, customer, product, stock = names_of(order)
            streams = await self.store.load(transaction, [own, customer, product, stock], locked=[own])
            accepted = place(streams, order, utc_now())
            assert accepted is not None, "a new order"
            await self.store.append(transaction, streams, [accepted])

        await self.database.transact(accept)

    async def follow(self, order: PlaceOrder) -> None:
        async def take(transaction: Transaction) -> None:
            own, _, product, stock = names_of(order)
            streams = await self.store.load(transaction, [own, product, stock], locked=[own, stock])
            before = streams[stock].state
            events: Sequence[StoredEvent] = moved(StockTaken, streams, order.id, order.lines)
            if streams[product].state.stock <= (before.taken if before else 0):
                cancelled = rules.advance(streams[own].state, CancelOrder(order.id), utc_now())
                assert cancelled is not None, "it was accepted"
                events = [cancelled]
            await self.store.append(transaction, streams, events)

        await self.database.transact(take)


def names_of(order: PlaceOrder) -> tuple[str, str, str, str]:
    """The streams of an order, its customer, its only product and the stock of that."""
    product = order.lines[0].product_id
    return f"order-{order.id}", f"customer-{order.customer_id}", f"product-{product}", f"stock-{product}"


WRONG, RIGHT = Saga, OneTransaction


async def show(env: DemoEnvironment, part: type[OneTransaction]) -> Evidence:
    shop = part(env, await env.event_store())
    customer = fresh_id()
    await shop.execute(RegisterCustomer(customer, "Ann"))
    accepted = []
    for _ in range(PRODUCTS):
        product = fresh_id()
        await shop.execute(AddProduct(product, "Tea", 100, 1))
        for _ in range(BUYERS):
            order = PlaceOrder(fresh_id(), customer, (Wanted(product, 1),))
            try:
                await shop.place(order)
                accepted.append(order)
            except InsufficientStock:
                pass
    for order in accepted:
        await shop.follow(order)
    events = await past(env.writing.rows, [f"order-{order.id}" for order in accepted])
    taken_back = len(events) - len(accepted)
    assert len(accepted) - taken_back == PRODUCTS, "each last piece is sold once"
    return Evidence(taken_back, PRODUCTS * BUYERS, "orders that were accepted and cancelled for want of stock")
