"""Lazy against batched on a real PostgreSQL: psycopg and asyncpg, sync and async sessions.

Every walk runs lazily and batched; both must see the same, and the batched one must send few statements.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import uuid
from contextlib import closing, contextmanager, suppress

import pytest
from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Table, create_engine, event, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, with_loader_criteria
from sqlalchemy.types import DateTime, Text

from upshift.sql.loading.batching import Batching

SHOPS, ORDERS = 6, 40
MOST = 4
"""Statements that a batched walk over one relationship of all orders may take: the growing batches."""


class State(enum.Enum):
    OPEN = "open"
    SHIPPED = "shipped"


class Base(AsyncAttrs, DeclarativeBase):
    pass


order_tag = Table(
    "order_tag",
    Base.metadata,
    Column("order_id", ForeignKey("sales.order.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Shop(Base):
    __tablename__ = "shop"
    region: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    opening: Mapped[dict] = mapped_column(JSONB)
    orders: Mapped[list[Order]] = relationship(order_by="Order.placed_at.desc()", back_populates="shop")


class Order(Base):
    __tablename__ = "order"
    __table_args__ = (
        ForeignKeyConstraint(["region", "number"], ["shop.region", "shop.number"]),
        {"schema": "sales"},
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    position: Mapped[int]
    tenant: Mapped[int]
    region: Mapped[str]
    number: Mapped[int]
    replaces_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("sales.order.id"))
    placed_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True))
    state: Mapped[State]
    marks: Mapped[list[str]] = mapped_column(ARRAY(Text))
    shop: Mapped[Shop] = relationship(back_populates="orders")
    replaces: Mapped[Order | None] = relationship(remote_side=[id], back_populates="replaced_by")
    replaced_by: Mapped[list[Order]] = relationship(order_by="Order.position", back_populates="replaces")
    tags: Mapped[list[Tag]] = relationship(secondary=order_tag, order_by="Tag.id", back_populates="orders")


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    orders: Mapped[list[Order]] = relationship(
        secondary=order_tag, order_by="Order.position", back_populates="tags"
    )


def order_id(position):
    return uuid.UUID(int=position * 7919)


def fill(url):
    engine = create_engine(url)
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA sales"))
        Base.metadata.create_all(connection)
    with Session(engine) as session:
        for n in range(SHOPS):
            session.add(Shop(region="nsew"[n % 4], number=n, opening={"mon": [n, 18]}))
        session.add_all(Tag(id=n, tenant=n % 2) for n in range(1, 9))
        session.flush()
        for n in range(ORDERS):
            session.add(
                Order(
                    id=order_id(n),
                    position=n,
                    tenant=n % 2,
                    region="nsew"[n % SHOPS % 4],
                    number=n % SHOPS,
                    replaces_id=order_id(n // 3) if n else None,
                    placed_at=day + dt.timedelta(hours=n * 17 % 29),
                    state=State.OPEN if n % 3 else State.SHIPPED,
                    marks=[f"m{n}", "x'; --"],
                )
            )
            session.flush()
        session.execute(
            order_tag.insert(),
            [
                {"order_id": order_id(n), "tag_id": tag}
                for n in range(ORDERS)
                for tag in {n % 8 + 1, n * 3 % 8 + 1}
            ],
        )
        session.commit()
    engine.dispose()


@pytest.fixture
def url(postgres_database):
    fill(postgres_database)
    return postgres_database


@pytest.fixture
def engine(url):
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture(params=["asyncpg", "psycopg"])
async def async_engine(request, url):
    engine = create_async_engine(url.replace("+psycopg", f"+{request.param}"))
    yield engine
    await engine.dispose()


@contextmanager
def batched(engine):
    with closing(Batching([engine])) as batching:
        assert batching.active
        yield
    assert batching.faults == 0


@contextmanager
def counted(engine):
    sent = []

    def note(_connection, _cursor, statement, *_rest):
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def names(value):
    if isinstance(value, list):
        return [names(each) for each in value]
    match value:
        case None:
            return None
        case Order():
            return (value.position, value.placed_at, value.state, value.marks)
        case Shop():
            return (value.region, value.number, value.opening)
    return value.id


def both(engine, walk):
    """What a walk sees lazily and batched, which must be the same, and the number of statements of each."""
    with counted(engine) as lazy, Session(engine) as session:
        expected = walk(session)
    with batched(engine), counted(engine) as few, Session(engine) as session:
        assert walk(session) == expected
    return len(lazy), len(few)


ALL = select(Order).order_by(Order.position)


@pytest.mark.parametrize(
    ("entity", "key"),
    [
        (Order, "shop"),
        (Order, "replaces"),
        (Order, "replaced_by"),
        (Order, "tags"),
        (Shop, "orders"),
        (Tag, "orders"),
    ],
)
def test_each_kind_of_relationship(engine, entity, key):
    def walk(session):
        return [names(getattr(each, key)) for each in session.scalars(select(entity)).unique().all()]

    _, few = both(engine, walk)
    assert few <= MOST


def test_relationships_of_relationships(engine):
    def walk(session):
        return [
            [[names(tag.orders) for tag in order.tags] for order in shop.orders]
            for shop in session.scalars(select(Shop).order_by(Shop.number)).all()
        ]

    lazy, few = both(engine, walk)
    assert few < lazy / 2
    with batched(engine):
        for _ in range(4):  # it learns how far each of the three is read
            with counted(engine) as sent, Session(engine) as session:
                walk(session)
    assert len(sent) == 4, sent


@pytest.mark.parametrize("tenant", [0, 1])
def test_criteria_keep_one_tenant_from_another_s_rows(engine, tenant):
    def walk(session):
        mine = (
            with_loader_criteria(Tag, Tag.tenant == tenant),
            with_loader_criteria(Order, Order.tenant == tenant),
        )
        seen = []
        for order in session.scalars(ALL.options(*mine)).all():
            assert all(tag.tenant == tenant for tag in order.tags)
            assert all(other.tenant == tenant for other in order.replaced_by)
            seen.append((names(order.tags), names(order.replaced_by)))
        return seen

    lazy, few = both(engine, walk)
    assert few <= 2 * MOST < lazy


def test_a_stream_from_a_server_side_cursor(engine):
    def walk(session):
        return [names(order.tags) for order in session.scalars(ALL.execution_options(yield_per=16))]

    both(engine, walk)


def test_rows_written_within_a_savepoint_and_taken_back(engine):
    def walk(session):
        orders = session.scalars(ALL).all()
        before = names(orders[0].tags)
        nested = session.begin_nested()
        session.execute(order_tag.delete().where(order_tag.c.order_id == orders[9].id))
        within = names(orders[9].tags)
        nested.rollback()
        return before, within, names(orders[9].tags), names(orders[10].tags)

    both(engine, walk)


def test_objects_read_on_after_a_commit(engine):
    def walk(session):
        orders = session.scalars(ALL).all()
        seen = [names(orders[0].shop)]
        session.commit()
        return seen + [names(order.shop) for order in orders]

    both(engine, walk)


def test_another_transaction_s_rows_are_seen_after_a_commit(engine):
    def walk(session):
        orders = session.scalars(ALL).all()
        before = len(orders[5].tags), len(orders[6].tags)
        with engine.begin() as other:
            other.execute(order_tag.delete().where(order_tag.c.order_id == orders[6].id))
        session.commit()
        after = len(orders[6].tags)
        with engine.begin() as other:
            other.execute(order_tag.insert(), [{"order_id": order_id(6), "tag_id": tag} for tag in (3, 7)])
        return before, after

    both(engine, walk)


def test_a_statement_that_fails_fails_as_a_lazy_load_would(engine):
    def walk(session):
        orders = session.scalars(ALL).all()
        first = names(orders[0].tags)
        session.execute(text("ALTER TABLE tag RENAME TO gone"))
        with pytest.raises(DBAPIError) as raised:
            _ = orders[1].tags, orders[39].tags
        session.rollback()
        return first, type(raised.value.orig).__name__, [names(order.tags) for order in orders]

    both(engine, walk)


async def orders_of(session):
    return (await session.scalars(ALL)).all()


async def lazily(engine, key):
    async with AsyncSession(engine) as session:
        return [names(await getattr(order.awaitable_attrs, key)) for order in await orders_of(session)]


@pytest.mark.parametrize("key", ["shop", "replaces", "replaced_by", "tags"])
async def test_awaitable_attributes(async_engine, key):
    expected = await lazily(async_engine, key)
    with batched(async_engine.sync_engine), counted(async_engine.sync_engine) as sent:
        assert await lazily(async_engine, key) == expected
    assert len(sent) <= MOST


@pytest.mark.parametrize("key", ["shop", "tags"])
async def test_tasks_that_read_from_one_session_at_once(async_engine, key):
    expected = await lazily(async_engine, key)
    with batched(async_engine.sync_engine), counted(async_engine.sync_engine) as sent:
        async with AsyncSession(async_engine) as session:
            orders = await orders_of(session)
            seen = await asyncio.gather(*(getattr(order.awaitable_attrs, key) for order in orders))
    assert list(map(names, seen)) == expected
    assert len(sent) <= MOST


async def test_sessions_that_read_at_once(async_engine):
    expected = await lazily(async_engine, "tags")
    with batched(async_engine.sync_engine):
        seen = await asyncio.gather(*(lazily(async_engine, "tags") for _ in range(5)))
    assert seen == [expected] * 5


async def test_a_walk_within_run_sync(async_engine):
    expected = await lazily(async_engine, "tags")

    def walk(session):
        return [names(order.tags) for order in session.scalars(ALL).all()]

    with batched(async_engine.sync_engine), counted(async_engine.sync_engine) as sent:
        async with AsyncSession(async_engine) as session:
            assert await session.run_sync(walk) == expected
    assert len(sent) <= MOST


async def test_a_task_that_is_cancelled_in_the_middle_leaves_others_their_answers(async_engine):
    expected = await lazily(async_engine, "tags")
    with batched(async_engine.sync_engine):
        for pause in (0, 0.002, 0.005, 0.01, 0.02):
            walking = asyncio.create_task(lazily(async_engine, "tags"))
            await asyncio.sleep(pause)
            walking.cancel()
            with suppress(asyncio.CancelledError):
                await walking
            assert await lazily(async_engine, "tags") == expected
