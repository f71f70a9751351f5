"""The queries over entities: each says which relationships and columns it needs, and how they are loaded.

A to-one relationship is joined. The lines of one order are joined too, as they are few. Reports and lists select what
they show. Every query is one statement, but a page that is empty, which asks whether there is such a customer.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Date, Integer, Select, Text, bindparam, cast, func, select, tuple_, union
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, joinedload, load_only

from contract import messages as m
from contract.text import time_text
from crud_impl import orders
from crud_impl.orm.entities import Customer, Id, Order, OrderLine, Product

NOT_CANCELLED = Order.status != "cancelled"
ID, LIMIT = bindparam("id", type_=Id), bindparam("limit", type_=Integer)
NEWEST_FIRST = Order.placed_at.desc(), Order.id.desc()
ITEM = load_only(Order.version, Order.status, Order.placed_at, Order.line_count, Order.total_cents, raiseload=True)

CUSTOMER = (
    select(Customer, func.count(Order.id), func.coalesce(func.sum(Order.total_cents), 0), func.max(Order.placed_at))
    .outerjoin(Customer.orders.and_(NOT_CANCELLED))
    .where(Customer.id == ID)
    .group_by(Customer.id)
    .options(load_only(Customer.version, Customer.name, raiseload=True))
)
SOLD = (
    select(func.coalesce(func.sum(OrderLine.quantity), 0))
    .join(OrderLine.order)
    .where(OrderLine.product_id == Product.id, NOT_CANCELLED)
    .scalar_subquery()
)
PRODUCT = select(Product, SOLD).where(Product.id == ID)
ORDER = (
    select(Order)
    .where(Order.id == ID)
    .options(
        joinedload(Order.customer).load_only(Customer.name, raiseload=True),
        joinedload(Order.lines).joinedload(OrderLine.product).load_only(Product.name, raiseload=True),
    )
)
HISTORY = select(Order).where(Order.id == ID)
PAGE = select(Order).where(Order.customer_id == ID).order_by(*NEWEST_FIRST).limit(LIMIT).options(ITEM)
AFTER = tuple_(Order.placed_at, Order.id) < tuple_(bindparam("placed_at"), bindparam("after_id", type_=Id))
REVENUE = func.sum(OrderLine.quantity * OrderLine.unit_price_cents)
BEST = (
    select(OrderLine.product_id, func.sum(OrderLine.quantity).label("sold"), REVENUE.label("revenue"))
    .join(OrderLine.order)
    .where(NOT_CANCELLED)
    .group_by(OrderLine.product_id)
    .order_by(REVENUE.desc(), OrderLine.product_id)
    .limit(LIMIT)
    .subquery()
)
TOP_PRODUCTS = (
    select(Product.id, Product.name, BEST.c.sold, BEST.c.revenue)
    .join(BEST, BEST.c.product_id == Product.id)
    .order_by(BEST.c.revenue.desc(), Product.id)
)
DAY = cast(func.timezone("UTC", Order.placed_at), Date)
DAILY_SALES = (
    select(DAY, func.count(), func.sum(Order.total_cents))
    .where(NOT_CANCELLED)
    .group_by(DAY)
    .order_by(DAY.desc())
    .limit(LIMIT)
)


async def answer(session: AsyncSession, query: m.Query) -> Any:
    """The view, None if there is no such thing."""
    match query:
        case m.GetCustomer():
            return await customer(session, query.id)
        case m.GetProduct():
            return await product(session, query.id)
        case m.GetOrder():
            return await order(session, query.id)
        case m.GetHistory():
            return await history(session, query.id)
        case m.ListOrders():
            return await page(session, query)
        case m.TopProducts():
            rows = await session.execute(TOP_PRODUCTS, {"limit": query.limit})
            return m.TopProductsView(tuple(m.TopProduct(id, name, int(s), int(r)) for id, name, s, r in rows))
        case m.DailySales():
            rows = await session.execute(DAILY_SALES, {"limit": query.days})
            return m.DailySalesView(tuple(m.DaySales(day.isoformat(), n, int(cents)) for day, n, cents in rows))
        case m.SearchOrders():
            words = {f"w{number}": word for number, word in enumerate(query.words)}
            found = await session.scalars(search(len(words)), words | {"limit": query.limit})
            return m.FoundOrders(orders.items(columns(found)))


async def customer(session: AsyncSession, id: str) -> m.CustomerView | None:
    row = (await session.execute(CUSTOMER, {"id": id})).first()
    if row is None:
        return None
    one, count, spent_cents, last_at = row
    last = time_text(last_at) if last_at else None
    return m.CustomerView(one.id, one.version, one.name, count, int(spent_cents), last)


async def product(session: AsyncSession, id: str) -> m.ProductView | None:
    row = (await session.execute(PRODUCT, {"id": id})).first()
    if row is None:
        return None
    one, sold = row
    return m.ProductView(one.id, one.version, one.name, one.price_cents, one.stock, int(sold))


async def order(session: AsyncSession, id: str) -> m.OrderView | None:
    one = (await session.scalars(ORDER, {"id": id})).unique().one_or_none()
    if one is None:
        return None
    lines = tuple(
        m.Line(line.product_id, line.product.name, line.quantity, line.unit_price_cents, amount(line))
        for line in one.lines
    )
    by = m.CustomerRef(one.customer.id, one.customer.name)
    return m.OrderView(one.id, one.version, one.status, time_text(one.placed_at), by, lines, one.total_cents)


def amount(line: OrderLine) -> int:
    return line.quantity * line.unit_price_cents


async def history(session: AsyncSession, id: str) -> m.HistoryView | None:
    one = await session.scalar(HISTORY, {"id": id})
    if one is None:
        return None
    return orders.changes((one.placed_at, one.paid_at, one.shipped_at, one.cancelled_at))


async def page(session: AsyncSession, query: m.ListOrders) -> m.OrderPage | None:
    params: dict[str, Any] = {"id": query.id, "limit": query.limit + 1}  # one more: is there a next page?
    wanted = PAGE
    if query.after is not None:
        wanted, (params["placed_at"], params["after_id"]) = PAGE.where(AFTER), query.after
    found = (await session.scalars(wanted, params)).all()
    if not found and await session.get(Customer, query.id) is None:
        return None
    return orders.page_of(columns(found), query.limit)


def search(words: int) -> Select[Order]:
    """Orders in which every word is in the customer's name or in a product's."""
    wanted = select(Order).order_by(*NEWEST_FIRST).limit(LIMIT).options(ITEM)
    for number in range(words):
        named = aliased(Order)
        word = cast(array([bindparam(f"w{number}", type_=Text)]), Customer.words.type)
        wanted = wanted.where(
            Order.id.in_(
                union(
                    select(named.id).join(named.customer).where(Customer.words.contains(word)),
                    select(OrderLine.order_id).join(OrderLine.product).where(Product.words.contains(word)),
                )
            )
        )
    return wanted


def columns(found: Iterable[Order]) -> list[Any]:
    """As rows of the SQL of `crud_impl.orders`."""
    return [(one.id, one.version, one.status, one.placed_at, one.line_count, one.total_cents) for one in found]
