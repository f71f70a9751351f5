"""The commands over entities: load what a rule needs, locked; let the rule decide; change the entities. The session
writes the changes at the commit (unit of work)."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from contract import messages as m
from contract import rules
from contract.errors import Refusal
from contract.text import words
from crud_impl.effect import Effect, changed, repeated
from crud_impl.orm.entities import Customer, Delivery, Order, OrderLine, Product

LOCKED = {"key_share": True}  # FOR NO KEY UPDATE: foreign keys that point here are not kept waiting
PRODUCTS = select(Product).order_by(Product.id).with_for_update(key_share=True)  # in the order of ids: no deadlock


async def execute(session: AsyncSession, command: m.Command, now: datetime) -> Effect:
    """Execute one command inside the caller's transaction; raises the contract's refusals."""
    match command:
        case m.RegisterCustomer():
            return await register(session, command)
        case m.RenameCustomer():
            return await rename(session, command)
        case m.AddProduct():
            return await add_product(session, command)
        case m.RepriceProduct():
            return await reprice(session, command)
        case m.DeliverStock():
            return await deliver(session, command)
        case m.PlaceOrder():
            return await place(session, command, now)
        case m.PayOrder() | m.ShipOrder() | m.CancelOrder():
            return await advance(session, command, now)


async def register(session: AsyncSession, command: m.RegisterCustomer) -> Effect:
    event = rules.register(None, command)
    assert event is not None, "a new customer has an event"
    # Insert first: of two concurrent registrations of one id, the second waits here and then finds the first.
    new = {"id": command.id, "version": 1, "name": command.name, "registered_name": command.name}
    fresh = insert(Customer).values(**new, words=list(words(command.name))).on_conflict_do_nothing()
    if await session.scalar(fresh.returning(Customer.id)):
        return changed(event)
    customer = await session.get_one(Customer, command.id, with_for_update=LOCKED)
    rules.register(customer.state, command)
    return repeated(customer.id, customer.version)


async def rename(session: AsyncSession, command: m.RenameCustomer) -> Effect:
    customer = await session.get(Customer, command.id, with_for_update=LOCKED)
    event = rules.rename(customer.state if customer else None, command)
    assert customer is not None, "an unknown customer was refused"
    if event is None:
        return repeated(customer.id, customer.version)
    customer.version, customer.name, customer.words = event.version, event.name, list(words(event.name))
    return changed(event)


async def add_product(session: AsyncSession, command: m.AddProduct) -> Effect:
    event = rules.add_product(None, command)
    assert event is not None, "a new product has an event"
    price, stock = command.price_cents, command.stock
    new = {"id": command.id, "version": 1, "name": command.name, "words": list(words(command.name))}
    new |= {"price_cents": price, "stock": stock, "added_price_cents": price, "added_stock": stock}
    if await session.scalar(insert(Product).values(**new).on_conflict_do_nothing().returning(Product.id)):
        return changed(event)
    product = await session.get_one(Product, command.id, with_for_update=LOCKED)
    rules.add_product(product.state, command)
    return repeated(product.id, product.version)


async def reprice(session: AsyncSession, command: m.RepriceProduct) -> Effect:
    product = await session.get(Product, command.id, with_for_update=LOCKED)
    event = rules.reprice(product.state if product else None, command)
    assert product is not None, "an unknown product was refused"
    if event is None:
        return repeated(product.id, product.version)
    product.version, product.price_cents = event.version, event.price_cents
    return changed(event)


async def deliver(session: AsyncSession, command: m.DeliverStock) -> Effect:
    product = await session.get(Product, command.id, with_for_update=LOCKED)  # serialises two equal deliveries
    before = await session.get(Delivery, (command.id, command.delivery_id))
    event = rules.deliver(product.state if product else None, before.quantity if before else None, command)
    assert product is not None, "an unknown product was refused"
    if event is None:
        return repeated(product.id, product.version)
    session.add(Delivery(product_id=product.id, delivery_id=event.delivery_id, quantity=event.quantity))
    product.version, product.stock = event.version, product.stock + event.quantity
    return changed(event)


async def place(session: AsyncSession, command: m.PlaceOrder, now: datetime) -> Effect:
    """Of two concurrent placements of one order, the insert of the second fails; its transaction is then run again and
    finds the order."""
    wanted = [line.product_id for line in command.lines]
    products = {one.id: one for one in await session.scalars(PRODUCTS.where(Product.id.in_(wanted)))}
    known = await session.get(Customer, command.customer_id) is not None
    order = await _find(session, command.id)
    states = {id: product.state for id, product in products.items()}
    try:
        event = rules.place(order, known, states, command, now)
    except Refusal:
        # A concurrent placement of this same order may have taken the stock while this one waited for the locks.
        if order is not None or (order := await _find(session, command.id)) is None:
            raise
        event = rules.place(order, known, states, command, now)
    if event is None:
        assert order is not None, "a repeat has an order"
        return repeated(order.id, order.version)
    for line in event.lines:
        products[line.product_id].stock -= line.quantity
    session.add(
        Order(
            id=event.id,
            version=event.version,
            status="placed",
            customer_id=event.customer_id,
            placed_at=event.at,
            line_count=len(event.lines),
            total_cents=event.total_cents,
            lines=[
                OrderLine(
                    position=position,
                    product_id=line.product_id,
                    quantity=line.quantity,
                    unit_price_cents=line.unit_price_cents,
                )
                for position, line in enumerate(event.lines, 1)
            ],
        )
    )
    return changed(event)


async def _find(session: AsyncSession, order_id: str) -> rules.Order | None:
    order = await session.get(Order, order_id, options=[selectinload(Order.lines)])
    if order is None:
        return None
    return order.state(tuple(m.Wanted(line.product_id, line.quantity) for line in order.lines))


async def advance(session: AsyncSession, command: m.Transition, now: datetime) -> Effect:
    """Pay, ship or cancel."""
    order = await session.get(Order, command.id, with_for_update=LOCKED)
    event = rules.advance(order.state() if order else None, command, now)
    assert order is not None, "an unknown order was refused"
    match event:
        case None:
            return repeated(order.id, order.version)
        case m.OrderPaid():
            order.status, order.paid_at = "paid", now
        case m.OrderShipped():
            order.status, order.shipped_at = "shipped", now
        case m.OrderCancelled():
            await _return_stock(session, order)  # before the order changes: a query would write the change at once
            order.status, order.cancelled_at = "cancelled", now
    order.version = event.version
    return changed(event)


async def _return_stock(session: AsyncSession, order: Order) -> None:
    lines = (await session.scalars(select(OrderLine).where(OrderLine.order_id == order.id))).all()
    pieces = {line.product_id: line.quantity for line in lines}
    for product in await session.scalars(PRODUCTS.where(Product.id.in_(pieces))):
        product.stock += pieces[product.id]
