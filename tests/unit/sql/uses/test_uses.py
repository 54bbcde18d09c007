"""The table of what is loaded and read, from sampled requests."""

from __future__ import annotations

from contextvars import ContextVar

import pytest
from sqlalchemy import ForeignKey, Text, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.orm.attributes import InstrumentedAttribute
from sqlalchemy.pool import StaticPool

from upshift.record import Record
from upshift.sql.capture.capture import Capture
from upshift.sql.uses import uses as table
from upshift.sql.uses.uses import AttributeUses


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str] = mapped_column(Text, default="n" * 50)
    items: Mapped[list[Item]] = relationship()


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Order(items=[Item()]) for _ in range(3))
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def current():
    return ContextVar("current", default=None)


@pytest.fixture
def request_of(engine, current):
    """Serve requests with the uses watched at a rate; gives a function that runs one."""
    opened = []

    def make(rate=1.0):
        uses = AttributeUses(current, rate)
        capture = Capture([engine], current, uses=uses)
        opened.extend((capture, uses))

        def request(*reads, fold=True, started=0.0):
            record = Record("GET", "/orders", started)
            current.set(record)
            with Session(engine) as session:
                for order in session.scalars(select(Order).options(selectinload(Order.items))):
                    for name in reads:
                        getattr(order, name)
            record.is_closed = True
            if fold:
                uses.fold(record)
            return record

        return uses, request

    yield make
    for each in opened:
        each.close()
    assert type(Order.items) is type(Order.note) is InstrumentedAttribute


def told(uses):
    return {each.attribute: (each.samples, each.used) for each in uses.rows()}


def test_what_is_loaded_and_read(request_of):
    uses, request = request_of()
    request("id")
    request("id", "items")
    assert told(uses) == {"Order.items": (2, 1), "Order.note": (2, 0)}
    (note,) = (each for each in uses.rows() if each.kind == "column")
    assert (note.width, note.objects, note.root, note.routes) == (50, 6, "Order", {"GET (no route)"})


def test_objects_of_which_nothing_is_read_teach_nothing(request_of):
    uses, request = request_of()
    request()
    assert told(uses) == {}


def test_only_the_share_that_is_sampled_is_watched(request_of):
    uses, request = request_of(rate=0.25)
    for number in range(1_000):
        request("id", started=number * 0.012_345_7 + 12_345.678)
    samples, _ = told(uses)["Order.items"]
    assert 150 < samples < 350


def test_none_at_a_rate_of_nothing(request_of):
    uses, request = request_of(rate=0.0)
    request("id")
    assert told(uses) == {}


def test_nothing_is_watched_between_requests(request_of):
    _, request = request_of()
    request("id")
    assert type(Order.items) is InstrumentedAttribute


def test_two_of_them_watch_the_same_classes(request_of):
    (first, request), (second, other) = request_of(), request_of()
    records = request("id", "items", fold=False), other("id", fold=False)
    for uses in (first, second):
        for record in records:
            uses.fold(record)
        assert told(uses)["Order.items"] == (2, 1)
    assert type(Order.items) is InstrumentedAttribute


def test_the_table_and_the_open_samples_are_bounded(request_of, monkeypatch):
    monkeypatch.setattr(table, "MAX_LOADS", 1)
    monkeypatch.setattr(table, "MAX_OPEN", 2)
    uses, request = request_of()
    for _ in range(5):
        request("id", fold=False)
    assert len(uses._open) <= 2
    uses.close()
    assert len(uses.rows()) <= 1


def test_a_fault_of_ours_leaves_the_request_alone(request_of, monkeypatch, caplog):
    uses, request = request_of()
    monkeypatch.setattr(table, "eager_loads", lambda _: 1 / 0)
    request("id")
    request("id")
    assert uses.faults == 2
    assert len(caplog.records) == 1
