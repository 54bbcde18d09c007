"""Pools, transactions and comments on PostgreSQL, through psycopg and asyncpg."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest
from sqlalchemy import create_engine, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from upshift.record import Record
from upshift.sql.capture.capture import Capture
from upshift.sql.capture.comments import Comments
from upshift.sql.capture.transactions import Transactions
from upshift.sql.pool.pools import Pools
from upshift.telemetry.metrics.database import DatabaseMetrics
from upshift.telemetry.metrics.registry import Metrics

ROUTE = "/items/{id}"
MINE = text("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()")


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def database(postgres_database):
    engine = create_engine(postgres_database, poolclass=NullPool)
    Base.metadata.create_all(engine)
    return postgres_database


class Room:
    """An engine observed as an application's is."""

    def __init__(self, engine):
        self.current = ContextVar("current", default=None)
        self.metrics = Metrics()
        self.database = DatabaseMetrics(
            self.metrics,
            states=lambda: self.pools.states(),  # noqa: PLW0108 - the pools come after
            route_of=lambda record: record.route,
        )
        self.pools = Pools([engine], self.current, self.database)
        self.transactions = Transactions([engine], self.pools.checkouts, self.database.transaction_ended)
        self.comments = Comments(lambda record: record.route)
        self.capture = Capture([engine], self.current, checkouts=self.pools.checkouts, comments=self.comments)

    def begin(self, request_id="r-1"):
        record = Record("GET", "/items/7", 0.0)
        record.request_id, record.route = request_id, ROUTE
        record.trace_id, record.span_id = "a" * 32, "b" * 16
        self.current.set(record)
        return record

    def value(self, name, *labels):
        self.metrics.families()
        found = {each.labels[1:]: each.values for each in self.metrics.series() if each.family == name}
        return found[labels][-1]

    def outcomes(self):
        names = ("commit", "rollback", "close", "error")
        return {name: count for name in names if (count := self.value("db_client_transactions", name))}

    def close(self):
        self.capture.close()
        self.transactions.close()
        self.pools.close()
        assert not any(each.faults for each in (self.capture, self.transactions, self.pools, self.comments))


@pytest.fixture
def room(database):
    engine = create_engine(database, pool_size=1, max_overflow=0, pool_timeout=0.2)
    room = Room(engine)
    room.engine = engine
    yield room
    room.close()
    engine.dispose()


@pytest.fixture(params=["psycopg", "asyncpg"])
async def async_room(database, request):
    engine = create_async_engine(
        database.replace("+psycopg", f"+{request.param}"), pool_size=1, max_overflow=0, pool_timeout=0.5
    )
    room = Room(engine.sync_engine)
    room.engine, room.driver = engine, request.param
    yield room
    room.close()
    await engine.dispose()


def test_a_request_that_holds_a_connection_without_a_statement_is_named(room):
    record = room.begin()
    with Session(room.engine) as session:
        session.execute(text("SELECT pg_sleep(0.2)"))
        session.connection().connection.cursor().execute("SELECT pg_sleep(0.3)")  # not Upshift's to see
    idle = room.value("db_client_connection_idle_in_use_seconds", ROUTE)
    used = room.value("db_client_connection_use_time_seconds")
    assert 0.3 <= idle <= used - 0.2
    assert record.statements[0].seconds >= 0.2


def test_transactions_end_as_the_application_ended_them(room):
    with Session(room.engine) as session:
        session.execute(insert(Item), [{"id": 1, "name": "a"}])
        session.commit()
        session.execute(select(Item)).all()
        session.rollback()
        session.execute(select(Item)).all()
    assert room.outcomes() == {"commit": 1, "rollback": 1, "close": 1}


def test_a_connection_in_autocommit_mode_has_no_transactions(room):
    with room.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT 1"))
        connection.commit()
    room.engine.connect().close()
    room.metrics.families()
    assert room.outcomes() == {}


def test_a_connection_that_the_server_ended_is_a_transaction_in_error(room, database):
    with room.engine.connect() as connection:
        backend = connection.scalar(text("SELECT pg_backend_pid()"))
        other = create_engine(database, poolclass=NullPool)
        with other.connect() as killer:
            killer.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend})
        with pytest.raises(DBAPIError):
            connection.execute(text("SELECT 1"))
        assert connection.invalidated
    assert room.outcomes() == {"error": 1}
    assert room.pools.states()[0].used == 0
    with room.engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1


def test_who_waits_too_long_is_counted(room):
    record = room.begin()
    with room.engine.connect(), pytest.raises(PoolTimeoutError):
        room.engine.connect()
    assert room.value("db_client_connection_timeouts") == 1
    assert record.pool_wait_seconds >= 0.2


def test_the_server_sees_the_comment_and_the_parameters_arrive(room):
    room.begin()
    with room.engine.connect() as connection:
        connection.execute(insert(Item), [{"id": n, "name": f"{n} %"} for n in range(1, 30)])
        assert connection.scalar(MINE).endswith(
            f"/*request_id='r-1',route='%2Fitems%2F%7Bid%7D',traceparent='00-{'a' * 32}-{'b' * 16}-00'*/"
        )
        names = connection.scalars(select(Item.name).where(Item.name.like("1%"), Item.id > 1)).all()
        assert names == [f"{n} %" for n in range(10, 20)]
        assert connection.exec_driver_sql("SELECT '100 %%' LIKE %s", ("100 %",)).scalar() is True
        no_parameters = connection.execution_options(no_parameters=True)
        assert no_parameters.exec_driver_sql("SELECT '100 %'").scalar() == "100 %"


def test_rows_streamed_from_the_server_come_with_the_comment(room):
    room.begin()
    with room.engine.connect() as connection:
        stream = connection.execution_options(yield_per=10).execute(
            text("SELECT i FROM generate_series(1, :n) i"), {"n": 95}
        )
        assert sum(stream.scalars()) == 95 * 96 / 2


async def test_async_transactions_end_as_the_application_ended_them(async_room):
    for end in ("commit", "rollback", "close", "commit"):
        async with AsyncSession(async_room.engine) as session:
            await session.execute(select(Item))
            await getattr(session, end)()
    assert async_room.outcomes() == {"commit": 2, "rollback": 1, "close": 1}


async def test_async_autocommit_has_no_transactions(async_room):
    engine = async_room.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    async with async_room.engine.connect():
        pass
    assert async_room.outcomes() == {}


async def test_async_requests_wait_for_each_other_and_hold_what_they_do_not_use(async_room):
    waits = []

    async def request():
        record = async_room.begin()
        async with AsyncSession(async_room.engine) as session:
            await session.execute(text("SELECT pg_sleep(0.05)"))
            await asyncio.sleep(0.1)
        waits.append(record.pool_wait_seconds)

    await asyncio.gather(*(asyncio.create_task(request()) for _ in range(3)))
    assert max(waits) >= 0.3
    assert async_room.value("db_client_connection_idle_in_use_seconds", ROUTE) >= 0.3
    assert async_room.value("db_client_connection_create_time_seconds") > 0
    assert async_room.pools.states()[0][1:] == (0, 1, 1, 0)


async def test_async_statements_have_the_comment_that_their_driver_can_bear(async_room):
    for number in range(3):
        async_room.begin(f"r-{number}")
        async with async_room.engine.connect() as connection:
            sent = await connection.scalar(MINE)
        if async_room.driver == "asyncpg":
            assert sent.endswith(" /*route='%2Fitems%2F%7Bid%7D'*/")
        else:
            assert f"/*request_id='r-{number}',route=" in sent


async def test_a_client_that_goes_away_while_it_waits_leaves_nothing(async_room):
    async with async_room.engine.connect():
        waiting = asyncio.create_task(async_room.engine.connect().start())
        await asyncio.sleep(0.05)
        assert async_room.pools.states()[0].pending == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert async_room.pools.states()[0][1:] == (0, 1, 1, 0)


async def test_a_client_that_goes_away_in_a_statement_leaves_nothing(async_room):
    async def request():
        async_room.begin()
        async with async_room.engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(30)"))

    task = asyncio.create_task(request())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert async_room.pools.states()[0].used == 0
    async with async_room.engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
