"""What a record is told of statements on PostgreSQL, through psycopg and asyncpg."""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar

import pytest
from sqlalchemy import ForeignKey, create_engine, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.pool import NullPool

from upshift.record import Record
from upshift.sql.capture.capture import Capture

ITEMS = 10


class Base(AsyncAttrs, DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "purchase"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str] = mapped_column(unique=True)
    items: Mapped[list[Item]] = relationship(order_by="Item.id")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("purchase.id"))


@pytest.fixture
def database(postgres_database):
    engine = create_engine(postgres_database, poolclass=NullPool)
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        connection.execute(insert(Order), [{"id": n, "note": f"note {n}"} for n in (1, 2, 3)])
        connection.execute(insert(Item), [{"id": n, "order_id": n % 2 + 1} for n in range(1, ITEMS + 1)])
    return postgres_database


@pytest.fixture
def current():
    return ContextVar("current", default=None)


@pytest.fixture
def observed(database, current):
    """A function that runs work on a session in a record and returns the record's statements."""
    engine = create_engine(database, poolclass=NullPool)
    capture = Capture([engine], current)

    def run(work):
        record = Record("GET", "/", 0.0)
        token = current.set(record)
        try:
            with Session(engine) as session:
                work(session)
        finally:
            current.reset(token)
        return record.statements

    yield run
    capture.close()
    assert capture.faults == 0


@pytest.fixture(params=["psycopg", "asyncpg"])
async def async_observed(database, current, request):
    """The same for work on an async session, with each driver."""
    engine = create_async_engine(database.replace("+psycopg", f"+{request.param}"), poolclass=NullPool)
    capture = Capture([engine.sync_engine], current)

    async def run(work):
        record = Record("GET", "/", 0.0)
        token = current.set(record)
        try:
            async with AsyncSession(engine) as session:
                await work(session)
        finally:
            current.reset(token)
        return record.statements

    yield run
    capture.close()
    await engine.dispose()
    assert capture.faults == 0


def here(offset=0):
    """The caller's line, as a call site has it."""
    frame = sys._getframe(1)
    return (frame.f_code.co_filename, frame.f_lineno + offset, frame.f_code.co_qualname)


def test_a_sync_session_is_told_line_by_line(observed):
    lines = []

    def work(session):
        order = session.scalars(select(Order).where(Order.id == 1)).one()
        lines.append(here(-1))
        assert len(order.items) == ITEMS / 2
        lines.append(here(-1))

    query, load = observed(work)
    assert [query.site, load.site] == lines
    assert [query.rows, load.rows] == [1, ITEMS / 2]
    assert (query.lazy_load, load.lazy_load[:2]) == (None, ("Order.items", "Item"))


def test_a_server_side_cursor_counts_its_rows(observed):
    def work(session):
        rows = session.execute(select(Item.id).execution_options(yield_per=3))
        assert len(list(rows)) == ITEMS

    (statement,) = observed(work)
    assert statement.rows == ITEMS


def test_inserting_many_through_the_orm_is_one_statement(observed):
    def work(session):
        session.execute(text("SELECT setval('purchase_id_seq', 100)")).all()
        session.add_all([Order(note=f"new {number}") for number in range(5)])
        session.flush()

    _, statement = observed(work)
    assert statement.sql.startswith("INSERT INTO purchase")


async def test_awaited_statements_have_their_line_and_rows(async_observed):
    lines = []

    async def work(session):
        await session.execute(select(Order))
        lines.append(here(-1))
        assert len((await session.scalars(select(Item))).all()) == ITEMS
        lines.append(here(-1))

    statements = await async_observed(work)
    assert [statement.site for statement in statements] == lines
    assert [statement.rows for statement in statements] == [3, ITEMS]


async def test_an_awaited_attribute_is_a_lazy_load_at_its_line(async_observed):
    lines = []

    async def work(session):
        for order in (await session.scalars(select(Order))).all():
            await order.awaitable_attrs.items
            lines.append(here(-1))

    _, *loads = await async_observed(work)
    assert [load.site for load in loads] == lines
    assert {load.lazy_load[:2] for load in loads} == {("Order.items", "Item")}
    assert len({load.lazy_load.cohort for load in loads}) == 1


async def test_lazy_loads_within_run_sync_are_at_the_line_that_reads(async_observed):
    lines = []

    def walk(session):
        order = session.get(Order, 1)
        assert order.items
        lines.append(here(-1))

    _, load = await async_observed(lambda session: session.run_sync(walk))
    assert (load.site, load.lazy_load[:2]) == (lines[0], ("Order.items", "Item"))


async def test_an_eager_loader_is_no_lazy_load(async_observed):
    async def work(session):
        (await session.scalars(select(Order).options(selectinload(Order.items)))).all()

    query, load = await async_observed(work)
    assert (query.is_eager, load.is_eager, load.lazy_load) == (False, True, None)


async def test_streamed_rows_are_counted(async_observed):
    async def work(session):
        rows = [row async for row in await session.stream(select(Item.id).execution_options(yield_per=3))]
        assert len(rows) == ITEMS

    (statement,) = await async_observed(work)
    assert statement.rows == ITEMS


async def test_changed_and_returned_rows_are_counted(async_observed):
    async def work(session):
        await session.execute(update(Item).where(Item.id <= 4).values(order_id=3))
        await session.execute(update(Item).where(Item.id <= 3).values(order_id=3).returning(Item.id))

    statements = await async_observed(work)
    assert [statement.rows for statement in statements] == [4, 3]


async def test_waiting_for_the_server_is_time_of_executing(async_observed):
    async def work(session):
        (await session.execute(text("SELECT pg_sleep(0.05)"))).all()

    (statement,) = await async_observed(work)
    assert statement.execute_seconds >= 0.05
    assert 0 < statement.fetch_seconds < statement.execute_seconds


async def test_a_servers_refusal_is_recorded_and_raised(async_observed):
    async def work(session):
        with pytest.raises(IntegrityError):
            await session.execute(insert(Order).values(id=1, note="twice"))
        await session.rollback()

    statements = await async_observed(work)
    assert statements[0].error is not None
    assert statements[0].site.function.endswith("work")


async def test_a_cancelled_statement_is_recorded_as_such(async_observed):
    records = []

    async def work(session):
        task = asyncio.ensure_future(session.execute(text("SELECT pg_sleep(60)")))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        records.append("cancelled")

    statements = await async_observed(work)
    assert records == ["cancelled"]
    assert all(statement.error == "CancelledError" for statement in statements)


async def test_what_the_dialect_asks_on_its_first_connection_belongs_to_no_request(async_observed):
    async def work(session):
        (await session.execute(select(Order.id))).all()

    (statement,) = await async_observed(work)
    assert "purchase" in statement.sql


async def test_requests_side_by_side_have_their_own_statements(async_observed):
    async def request(number):
        async def work(session):
            for _ in range(number):
                (await session.scalars(select(Item).limit(number))).all()

        return await async_observed(work)

    served = await asyncio.gather(*(request(number) for number in range(1, 6)))
    assert [[statement.rows for statement in statements] for statements in served] == [
        [number] * number for number in range(1, 6)
    ]
