"""The tables of `schema.sql` as entities with relationships. No relationship is ever loaded by accident: `raise` makes
an attribute that a query did not ask for an error instead of one more statement."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, SmallInteger, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from contract import rules
from contract.messages import Status, Wanted

Id = Uuid(as_uuid=False)  # text, as everywhere outside the database
Cents = BigInteger
Time = TIMESTAMP(timezone=True)


class Entity(DeclarativeBase):
    pass


class Customer(Entity):
    __tablename__ = "customers"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    version: Mapped[int]
    name: Mapped[str] = mapped_column(Text)
    words: Mapped[list[str]] = mapped_column(ARRAY(Text))
    registered_name: Mapped[str] = mapped_column(Text)
    orders: Mapped[list["Order"]] = relationship(back_populates="customer", lazy="raise")

    @property
    def state(self) -> rules.Customer:
        return rules.Customer(self.id, self.version, self.name, self.registered_name)


class Product(Entity):
    __tablename__ = "products"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    version: Mapped[int]
    name: Mapped[str] = mapped_column(Text)
    words: Mapped[list[str]] = mapped_column(ARRAY(Text))
    price_cents: Mapped[int] = mapped_column(Cents)
    stock: Mapped[int] = mapped_column(BigInteger)
    added_price_cents: Mapped[int] = mapped_column(Cents)
    added_stock: Mapped[int] = mapped_column(BigInteger)

    @property
    def state(self) -> rules.Product:
        added = self.added_price_cents, self.added_stock
        return rules.Product(self.id, self.version, self.name, self.price_cents, self.stock, *added)


class Delivery(Entity):
    __tablename__ = "deliveries"

    product_id: Mapped[str] = mapped_column(Id, ForeignKey(Product.id), primary_key=True)
    delivery_id: Mapped[str] = mapped_column(Id, primary_key=True)
    quantity: Mapped[int] = mapped_column(BigInteger)


class Order(Entity):
    __tablename__ = "orders"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    version: Mapped[int]
    status: Mapped[Status] = mapped_column(Text)
    customer_id: Mapped[str] = mapped_column(Id, ForeignKey(Customer.id))
    placed_at: Mapped[datetime] = mapped_column(Time)
    paid_at: Mapped[datetime | None] = mapped_column(Time)
    shipped_at: Mapped[datetime | None] = mapped_column(Time)
    cancelled_at: Mapped[datetime | None] = mapped_column(Time)
    line_count: Mapped[int]
    total_cents: Mapped[int] = mapped_column(Cents)
    customer: Mapped[Customer] = relationship(back_populates="orders", lazy="raise")
    lines: Mapped[list["OrderLine"]] = relationship(back_populates="order", order_by="OrderLine.position", lazy="raise")

    def state(self, lines: tuple[Wanted, ...] = ()) -> rules.Order:
        return rules.Order(self.id, self.version, self.status, self.paid_at is not None, self.customer_id, lines)


class OrderLine(Entity):
    __tablename__ = "order_lines"

    order_id: Mapped[str] = mapped_column(Id, ForeignKey(Order.id), primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    product_id: Mapped[str] = mapped_column(Id, ForeignKey(Product.id))
    quantity: Mapped[int]
    unit_price_cents: Mapped[int] = mapped_column(Cents)
    order: Mapped[Order] = relationship(back_populates="lines", lazy="raise")
    product: Mapped[Product] = relationship(lazy="raise")
