"""A watched attribute tells of reads, and is the plain one again afterwards."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import ForeignKey, create_engine, inspect, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
    relationship,
    selectinload,
)
from sqlalchemy.orm.attributes import InstrumentedAttribute
from sqlalchemy.pool import StaticPool

from upshift.sql.uses.watch import Watch


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    items: Mapped[list[Item]] = relationship()
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "plain"}


class Express(Order):
    __mapper_args__ = {"polymorphic_identity": "express"}


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Order(items=[Item()]), Express(items=[Item()])])
        session.commit()
    yield engine
    engine.dispose()
    assert type(Order.items) is type(Express.items) is InstrumentedAttribute


@pytest.fixture
def told():
    return []


@pytest.fixture
def watch(told):
    made = []

    def watch(attribute=None):
        made.append(
            Watch(inspect(Order).attrs[attribute or "items"], lambda prop, one: told.append((prop.key, one)))
        )
        return made[-1]

    yield watch
    for each in made:
        each.stop()


def test_it_tells_of_each_read_and_changes_no_value(engine, watch, told):
    watch()
    with Session(engine) as session:
        orders = session.scalars(select(Order).options(selectinload(Order.items))).all()
        assert told == []
        assert "items" in vars(orders[0])
        assert [item.id for item in orders[0].items] == [1]
        assert told == [("items", orders[0])]
        orders[0].items.append(Item())
        session.flush()
        assert len(orders[0].items) == 2


def test_reads_of_a_subclass_too(engine, watch, told):
    watch()
    with Session(engine) as session:
        express = session.scalars(select(Express)).one()
        assert len(express.items) == 1
    assert [key for key, _ in told] == ["items"]


def test_columns_too(engine, watch, told):
    watch("kind")
    with Session(engine) as session:
        assert session.scalars(select(Order)).first().kind == "plain"
    assert [key for key, _ in told] == ["kind"]


def test_queries_are_what_they_were(engine, watch, told):
    plain = str(select(Order.kind).join(Order.items).where(Order.items.any()))
    watch(), watch("kind")
    assert str(select(Order.kind).join(Order.items).where(Order.items.any())) == plain
    other = aliased(Order)
    with Session(engine) as session:
        assert len(session.scalars(select(other).options(selectinload(other.items))).all()) == 2
    assert told == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_several_stop_in_any_order(engine, watch, told, order):
    watches = [watch() for _ in range(3)]
    with Session(engine) as session:
        one = session.scalars(select(Order)).first()
        for left, number in zip((3, 2, 1), order, strict=True):
            told.clear()
            _ = one.items
            assert len(told) == left
            watches[number].stop()
        told.clear()
        _ = one.items
        assert told == []
    assert type(Order.items) is InstrumentedAttribute
