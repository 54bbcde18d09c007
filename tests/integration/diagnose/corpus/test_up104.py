"""UP104: a relationship that is loaded eagerly, and read in no sampled request."""

from __future__ import annotations

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    contains_eager,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

SAMPLED = {"use_sample_rate": 1.0, "unused_samples": 4, "times": 5}


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="somebody")


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    customer: Mapped[Customer] = relationship()
    items: Mapped[list[Item]] = relationship()


class EagerOrder(Base):
    __table__ = Order.__table__
    customer: Mapped[Customer] = relationship(lazy="joined", viewonly=True)


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))


def fill(session):
    session.add(Customer(id=1))
    session.flush()
    session.add_all(Order(customer_id=1, items=[Item(), Item()]) for _ in range(5))


def test_an_option_whose_collection_is_not_read(corpus):
    def work(session):
        orders = session.scalars(select(Order).options(selectinload(Order.items)).limit(9))  # UP104
        assert all(order.id for order in orders)

    corpus.work(corpus.sqlite(Base, fill), work, **SAMPLED)


def test_an_option_of_two_that_is_not_read_on_postgresql(corpus):
    async def work(session):
        options = joinedload(Order.customer), selectinload(Order.items)
        orders = await session.scalars(select(Order).options(*options).limit(9))  # UP104
        assert {order.customer.name for order in orders} == {"somebody"}

    corpus.work(corpus.async_postgres(Base, fill), work, **SAMPLED)


def test_a_mapping_whose_object_is_not_read(corpus):
    def work(session):
        assert all(order.id for order in session.scalars(select(EagerOrder).limit(9)))  # UP104

    corpus.work(corpus.sqlite(Base, fill), work, **SAMPLED)


def test_an_option_that_is_read(corpus):
    def work(session):
        orders = session.scalars(select(Order).options(selectinload(Order.items)).limit(9))
        assert [len(order.items) for order in orders] == [2] * 5

    corpus.work(corpus.sqlite(Base, fill), work, **SAMPLED)


def test_an_option_that_one_request_of_many_reads(corpus):
    requests = []

    def work(session):
        requests.append(1)
        orders = session.scalars(select(Order).options(selectinload(Order.items)).limit(9)).all()
        assert all(order.id for order in orders)
        if len(requests) == 3:
            assert len(orders[4].items) == 2

    corpus.work(corpus.sqlite(Base, fill), work, **SAMPLED | {"times": 12})


def test_too_few_samples(corpus):
    def work(session):
        orders = session.scalars(select(Order).options(selectinload(Order.items)).limit(9))
        assert all(order.id for order in orders)

    corpus.work(corpus.sqlite(Base, fill), work, **SAMPLED | {"times": 3})


def test_a_statement_that_brings_no_objects(corpus):
    def work(session):
        assert all(order.id for order in session.scalars(select(Order).limit(9)))
        statement = select(Order).options(selectinload(Order.items)).where(Order.id < 0).limit(9)
        assert session.scalars(statement).all() == []

    corpus.work(corpus.sqlite(Base, fill), work, **SAMPLED)


def test_a_join_that_the_conditions_need(corpus):
    def work(session):
        statement = select(Order).join(Order.customer).where(Customer.name == "somebody").limit(9)
        orders = session.scalars(statement.options(contains_eager(Order.customer)))
        assert all(order.id for order in orders)

    corpus.work(corpus.sqlite(Base, fill), work, **SAMPLED)


def test_objects_that_are_read_in_a_way_that_is_not_seen(corpus):
    def work(session):
        orders = session.scalars(select(Order).options(selectinload(Order.items)).limit(9))
        assert [len(vars(order)["items"]) for order in orders] == [2] * 5

    corpus.work(corpus.sqlite(Base, fill), work, **SAMPLED)


def test_a_relationship_that_another_statement_of_the_request_has_read_of(corpus):
    def work(session):
        statement = select(Order).options(selectinload(Order.items)).limit(9)
        first = session.scalars(statement).all()
        again = session.scalars(select(Order).options(selectinload(Order.items)).where(Order.id > 1).limit(9))
        assert [len(order.items) for order in first] == [2] * 5
        assert all(order.id for order in again)

    corpus.work(corpus.sqlite(Base, fill), work, **SAMPLED)
