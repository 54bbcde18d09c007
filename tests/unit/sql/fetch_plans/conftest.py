"""A shop with three levels of relationships, and the statements that a walk over it sends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, insert
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.pool import StaticPool

from upshift.sql.fetch_plans.fetch_plans import FetchPlans

ORDERS = 24
ITEMS = 3


class Base(AsyncAttrs, DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Brand(Base):
    __tablename__ = "brand"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    brand_id: Mapped[int] = mapped_column(ForeignKey("brand.id"))
    brand: Mapped[Brand] = relationship()


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    product: Mapped[Product] = relationship()
    order: Mapped[Order] = relationship(back_populates="items")


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str] = mapped_column(default="")
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customer.id"))
    customer: Mapped[Customer | None] = relationship()
    items: Mapped[list[Item]] = relationship(order_by=Item.id, back_populates="order")


def fill(connection) -> None:
    Base.metadata.create_all(connection)
    rows = {
        Customer: [{"id": n, "name": f"customer {n}"} for n in range(1, 6)],
        Brand: [{"id": n, "name": f"brand {n}"} for n in range(1, 4)],
        Product: [{"id": n, "tenant": n % 2, "brand_id": n % 3 + 1} for n in range(1, 11)],
        Order: [{"id": n, "customer_id": n % 5 + 1} for n in range(1, ORDERS + 1)],
        Item: [
            {"id": n, "tenant": n % 2, "order_id": n % ORDERS + 1, "product_id": n % 10 + 1}
            for n in range(1, ORDERS * ITEMS + 1)
        ],
    }
    for model, values in rows.items():
        connection.execute(insert(model), values)


@pytest.fixture
def shop():
    """The models, as a name space."""
    return {each.__name__: each for each in (Base, Brand, Customer, Item, Order, Product)} | {"fill": fill}


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    with engine.begin() as connection:
        fill(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def plans(engine: Engine) -> Iterator[FetchPlans]:
    plans = FetchPlans([engine])
    yield plans
    plans.close()
    assert plans.faults == 0
