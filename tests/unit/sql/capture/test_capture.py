"""What a record is told of each statement, and what capture leaves as it was.

These tests also run on the oldest SQLAlchemy that is supported (`make contract`).
"""

from __future__ import annotations

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.pool import StaticPool

from upshift.record import MAX_STATEMENTS, Record
from upshift.sql.capture import capture as module
from upshift.sql.capture import fetching
from upshift.sql.capture.capture import Capture

ITEMS = 10


class Base(AsyncAttrs, DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "purchase"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str] = mapped_column(unique=True)
    items: Mapped[list[Item]] = relationship(back_populates="order", order_by="Item.id")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("purchase.id"))
    order: Mapped[Order] = relationship(back_populates="items")


def memory_engine():
    return create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})


def fill(connection):
    Base.metadata.create_all(connection)
    connection.execute(insert(Order), [{"id": n, "note": f"note {n}"} for n in (1, 2, 3)])
    connection.execute(insert(Item), [{"id": n, "order_id": n % 2 + 1} for n in range(1, ITEMS + 1)])


@pytest.fixture
def engine():
    engine = memory_engine()
    with engine.begin() as connection:
        fill(connection)
    yield engine
    engine.dispose()


@pytest.fixture
async def async_engine():
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    async with engine.begin() as connection:
        await connection.run_sync(fill)
    yield engine
    await engine.dispose()


@pytest.fixture
def current():
    return ContextVar("current", default=None)


@pytest.fixture
def record(current):
    record = Record("GET", "/", 0.0)
    current.set(record)
    return record


@pytest.fixture
def observed(engine, current, record):
    """The engine, captured into the record."""
    capture = Capture([engine], current)
    yield engine
    capture.close()
    assert capture.faults == 0


@pytest.fixture
async def async_observed(async_engine, current):
    """A function that runs a coroutine in a record and returns the record's statements."""
    capture = Capture([async_engine.sync_engine], current)

    async def run(work):
        record = Record("GET", "/", 0.0)
        token = current.set(record)
        try:
            async with AsyncSession(async_engine) as session:
                await work(session)
        finally:
            current.reset(token)
        return record.statements

    yield run
    capture.close()
    assert capture.faults == 0


def here(offset=0):
    """The caller's line, as a call site has it."""
    frame = sys._getframe(1)
    return (frame.f_code.co_filename, frame.f_lineno + offset, frame.f_code.co_qualname)


class TestCallSite:
    def test_core(self, observed, record):
        with observed.connect() as connection:
            connection.execute(select(Order.id)).all()
            expected = here(-1)
        assert record.statements[0].site == expected
        assert Path(record.statements[0].site.file) == Path(__file__)

    def test_orm_query(self, observed, record):
        with Session(observed) as session:
            session.scalars(select(Order)).all()
            expected = here(-1)
        assert record.statements[0].site == expected

    def test_lazy_load_is_at_the_line_that_reads_the_attribute(self, observed, record):
        with Session(observed) as session:
            order = session.get(Order, 1)
            assert order.items
            expected = here(-1)
        assert record.statements[1].site == expected

    def test_flush_is_at_the_line_that_flushes(self, observed, record):
        with Session(observed) as session:
            session.add(Order(id=9, note="new"))
            session.flush()
            expected = here(-1)
        assert record.statements[0].site == expected

    def test_a_statement_of_another_dialect_method(self, observed, record):
        with observed.connect() as connection:
            connection.execution_options(no_parameters=True).exec_driver_sql("SELECT 1")
            expected = here(-1)
        assert record.statements[0].site == expected

    async def test_awaited_execution(self, async_observed):
        lines = []

        async def work(session):
            await session.execute(select(Order))
            lines.append(here(-1))

        statements = await async_observed(work)
        assert [statement.site for statement in statements] == lines

    async def test_awaited_attribute(self, async_observed):
        lines = []

        async def work(session):
            order = await session.get(Order, 1)
            await order.awaitable_attrs.items
            lines.append(here(-1))

        statements = await async_observed(work)
        assert statements[1].site == lines[0]

    async def test_within_run_sync(self, async_observed):
        lines = []

        def walk(session):
            order = session.get(Order, 1)
            assert order.items
            lines.append(here(-1))

        statements = await async_observed(lambda session: session.run_sync(walk))
        assert statements[1].site == lines[0]


class TestRows:
    @pytest.mark.parametrize(
        ("read", "rows"),
        [
            (lambda result: result.fetchall(), ITEMS),
            (lambda result: result.all(), ITEMS),
            (lambda result: result.scalars().all(), ITEMS),
            (list, ITEMS),
            (lambda result: list(result.partitions(3)), ITEMS),
            (lambda result: result.fetchmany(4), 4),
            (lambda result: result.fetchone(), 1),
            (lambda result: result.first(), 1),
            (lambda result: [result.fetchone(), result.fetchone(), result.fetchall()], ITEMS),
            (lambda result: list(result.yield_per(3)), ITEMS),
        ],
        ids=[
            "fetchall",
            "all",
            "scalars",
            "iteration",
            "partitions",
            "fetchmany",
            "fetchone",
            "first",
            "mixed",
            "yield_per",
        ],
    )
    def test_fetched_rows_are_counted_however_they_are_fetched(self, observed, record, read, rows):
        with observed.connect() as connection:
            read(connection.execute(select(Item.id)))
        assert record.statements[0].rows == rows

    @pytest.mark.parametrize("options", [{"stream_results": True}, {"yield_per": 3}])
    def test_streamed_rows_are_counted(self, observed, record, options):
        with observed.connect() as connection:
            result = connection.execution_options(**options).execute(select(Item.id))
            assert result.scalars().all() == list(range(1, ITEMS + 1))
        assert record.statements[0].rows == ITEMS

    def test_the_orm_in_portions(self, observed, record):
        with Session(observed) as session:
            assert len(list(session.scalars(select(Item).execution_options(yield_per=3)))) == ITEMS
        assert record.statements[0].rows == ITEMS

    def test_no_row_is_zero(self, observed, record):
        with observed.connect() as connection:
            assert connection.execute(select(Item.id).where(Item.id > 100)).first() is None
        assert record.statements[0].rows == 0

    def test_rows_never_fetched_are_unknown(self, observed, record):
        with observed.connect() as connection:
            connection.execute(select(Item.id)).close()
        assert record.statements[0].rows is None

    def test_changed_rows(self, observed, record):
        with observed.begin() as connection:
            connection.execute(update(Item).where(Item.id <= 4).values(order_id=3))
            connection.execute(delete(Item).where(Item.id == 1))
        assert [statement.rows for statement in record.statements] == [4, 1]

    def test_returned_rows(self, observed, record):
        with observed.begin() as connection:
            returned = connection.execute(
                update(Item).where(Item.id <= 4).values(order_id=3).returning(Item.id)
            )
            assert len(returned.all()) == 4
        assert record.statements[0].rows == 4

    def test_executemany_is_one_statement_with_its_executions(self, observed, record):
        with observed.begin() as connection:
            connection.execute(insert(Order), [{"id": n, "note": str(n)} for n in range(10, 17)])
        (statement,) = record.statements
        assert (statement.executions, statement.rows) == (7, 7)

    @pytest.mark.parametrize("captures", [1, 2])
    def test_each_batch_of_a_bulk_insert_has_the_rows_it_returned(self, engine, current, record, captures):
        """However many batches there are; with a sentinel that does not sort, each row is one."""
        captures = [Capture([engine], current) for _ in range(captures)]
        orders = [Order(note=str(number)) for number in range(3_000)]
        with Session(engine) as session:
            session.add_all(orders)
            session.flush()
            assert len({order.id for order in orders}) == 3_000
        for capture in captures:
            capture.close()
            assert capture.faults == 0
        assert {statement.rows for statement in record.statements} == {1}
        assert len(record.statements) + record.statements_dropped == 3_000 * len(captures)

    def test_rows_that_a_bulk_insert_returns_to_the_application(self, observed, record):
        with Session(observed) as session:
            orders = session.scalars(
                insert(Order).returning(Order.id), [{"note": str(number)} for number in range(5)]
            )
            assert len(orders.all()) == 5
        assert [statement.rows for statement in record.statements] == [5]

    def test_a_default_that_is_asked_for_first_keeps_its_rows_to_itself(self, observed, record):
        table = Table(
            "numbered",
            MetaData(),
            Column("id", Integer, primary_key=True, default=select(literal(7)).scalar_subquery()),
            Column("note", String),
            implicit_returning=False,
        )
        with observed.begin() as connection:
            table.create(connection)
            record.statements.clear()
            connection.execute(table.insert(), {"note": "x"})
        first, second = record.statements
        assert (first.sql[:6], second.sql[:6]) == ("SELECT", "INSERT")
        assert second.rows == 1

    async def test_async_results(self, async_observed):
        async def work(session):
            assert len((await session.scalars(select(Item))).all()) == ITEMS
            async for _ in await session.stream(select(Item.id)):
                pass

        statements = await async_observed(work)
        assert [statement.rows for statement in statements] == [ITEMS, ITEMS]


def test_time_in_the_driver_is_told_apart_into_executing_and_fetching(observed, record, monkeypatch):
    clock = iter(range(100))
    for each in (module, fetching):
        monkeypatch.setattr(each, "perf_counter", lambda: float(next(clock)))
    with observed.connect() as connection:
        result = connection.execute(select(Item.id))
        result.fetchone()
        result.fetchmany(2)
    (statement,) = record.statements
    assert statement.started == 0.0
    assert statement.execute_seconds == 1.0
    assert statement.fetch_seconds == 2.0
    assert statement.seconds == 3.0


def test_the_text_is_the_drivers(observed, record):
    with observed.connect() as connection:
        connection.execute(text("SELECT :one"), {"one": 1})
    assert record.statements[0].sql == "SELECT ?"


def test_an_empty_text_is_a_statement_like_others(engine, current, record):
    capture = Capture([engine], current)
    with engine.connect() as connection:
        connection.exec_driver_sql("", ())
    capture.close()
    assert [statement.sql for statement in record.statements] == [""]
    assert capture.faults == 0


def test_an_error_is_named_and_raised_as_it_was(observed, record):
    with Session(observed) as session, pytest.raises(IntegrityError):
        session.execute(insert(Order).values(id=1, note="twice"))
    (statement,) = record.statements
    assert statement.error == "IntegrityError"
    assert statement.site.function.endswith("test_an_error_is_named_and_raised_as_it_was")
    assert statement.rows is None


def test_an_error_in_the_text_is_named_too(observed, record):
    with observed.connect() as connection, pytest.raises(OperationalError):
        connection.exec_driver_sql("SELECT nonsense")
    assert record.statements[0].error == "OperationalError"


def test_nothing_is_observed_outside_of_a_record(engine, current):
    capture = Capture([engine], current)
    with engine.connect() as connection:
        result = connection.execute(select(Item.id))
        assert result.cursor_strategy.__class__.__module__.startswith("sqlalchemy")
        assert len(result.all()) == ITEMS
    capture.close()


def test_an_engine_that_was_not_named_is_not_observed(observed, record):
    other = memory_engine()
    with other.connect() as connection:
        connection.execute(select(1)).all()
    other.dispose()
    assert record.statements == []


class TestParameters:
    def test_are_not_kept_by_default(self, observed, record):
        with observed.connect() as connection:
            connection.execute(select(Order.id).where(Order.note == "secret")).all()
        assert record.statements[0].parameters is None

    def test_are_kept_when_asked_for(self, engine, current, record):
        capture = Capture([engine], current, keep_parameters=True)
        with engine.begin() as connection:
            connection.execute(select(Order.id).where(Order.note == "note 1")).all()
            connection.execute(insert(Order), [{"id": 8, "note": "a"}, {"id": 9, "note": "b"}])
            connection.execution_options(no_parameters=True).exec_driver_sql("SELECT 1")
        capture.close()
        assert [statement.parameters for statement in record.statements] == [
            ("note 1",),
            [(8, "a"), (9, "b")],
            None,
        ]


class TestLoaders:
    def test_a_lazy_collection_is_named(self, observed, record):
        with Session(observed) as session:
            assert session.get(Order, 1).items
        query, load = record.statements
        assert query.lazy_load is None
        assert load.lazy_load[:2] == ("Order.items", "Item")
        assert not load.is_eager

    def test_a_lazy_reference_is_named(self, observed, record):
        with Session(observed) as session:
            assert session.get(Item, 1).order
        assert record.statements[1].lazy_load[:2] == ("Item.order", "Order")

    def test_objects_of_one_result_are_one_cohort(self, observed, record):
        with Session(observed) as session:
            for order in session.scalars(select(Order)).all():
                assert order.items is not None
        cohorts = {statement.lazy_load.cohort for statement in record.statements[1:]}
        assert len(record.statements) == 4
        assert len(cohorts) == 1

    def test_objects_loaded_one_by_one_are_cohorts_of_their_own(self, observed, record):
        with Session(observed) as session:
            for number in (1, 2, 3):
                assert session.get(Order, number).items is not None
        loads = [statement.lazy_load for statement in record.statements if statement.lazy_load]
        assert len({load.cohort for load in loads}) == 3

    def test_an_eager_loader_is_told_from_a_lazy_one(self, observed, record):
        with Session(observed) as session:
            session.scalars(select(Order).options(selectinload(Order.items))).all()
        query, load = record.statements
        assert (query.is_eager, query.lazy_load) == (False, None)
        assert (load.is_eager, load.lazy_load) == (True, None)

    def test_reading_an_expired_object_again_is_neither(self, observed, record):
        with Session(observed) as session:
            order = session.get(Order, 1)
            session.expire(order)
            assert order.note
        assert [(statement.is_eager, statement.lazy_load) for statement in record.statements] == [
            (False, None)
        ] * 2


class TestClosing:
    def test_puts_the_dialect_back_as_it_was(self, engine, current):
        before = dict(vars(engine.dialect))
        capture = Capture([engine], current)
        assert vars(engine.dialect) != before
        capture.close()
        assert vars(engine.dialect) == before

    def test_twice_does_nothing_more(self, engine, current):
        capture = Capture([engine], current)
        capture.close()
        other = Capture([engine], current)
        installed = dict(vars(engine.dialect))
        capture.close()
        assert vars(engine.dialect) == installed
        other.close()

    @pytest.mark.parametrize("is_first_in_first_out", [True, False])
    def test_two_captures_in_any_order(self, engine, current, is_first_in_first_out):
        before = dict(vars(engine.dialect))
        mine = ContextVar("mine", default=None)
        inner, outer = Capture([engine], current), Capture([engine], mine)
        first, second = (inner, outer) if is_first_in_first_out else (outer, inner)
        heard = {inner: Record("GET", "/", 0.0), outer: Record("GET", "/", 0.0)}
        current.set(heard[inner])
        mine.set(heard[outer])
        with engine.connect() as connection:
            connection.execute(select(1)).all()
            first.close()
            connection.execute(select(2)).all()
            second.close()
            connection.execute(select(3)).all()
        assert vars(engine.dialect) == before
        assert [len(heard[capture].statements) for capture in (first, second)] == [1, 2]
        assert [statement.rows for statement in heard[second].statements] == [1, 1]

    @pytest.mark.parametrize("options", [{"stream_results": True}, {"yield_per": 3}])
    def test_two_captures_count_each_streamed_row_once(self, engine, current, record, options):
        mine = ContextVar("mine", default=None)
        mine.set(other := Record("GET", "/", 0.0))
        captures = [Capture([engine], current), Capture([engine], mine)]
        with engine.connect() as connection:
            result = connection.execution_options(**options).execute(select(Item.id))
            assert len(result.yield_per(2).all()) == ITEMS
        for capture in captures:
            capture.close()
        assert [kept.statements[0].rows for kept in (record, other)] == [ITEMS, ITEMS]

    def test_leaves_what_somebody_else_has_wrapped_around_it(self, engine, current, record):
        capture = Capture([engine], current)
        ours = engine.dialect.do_execute
        seen = []

        def theirs(cursor, statement, parameters, context=None):
            seen.append(statement)
            ours(cursor, statement, parameters, context)

        engine.dialect.do_execute = theirs
        capture.close()
        with engine.connect() as connection:
            assert connection.execute(select(1)).scalar() == 1
        assert len(seen) == 1
        assert record.statements == []

    def test_in_the_middle_of_a_result_lets_it_be_read_to_its_end(self, engine, current, record):
        capture = Capture([engine], current)
        with engine.connect() as connection:
            result = connection.execute(select(Item.id))
            result.fetchone()
            capture.close()
            assert len(result.all()) == ITEMS - 1
        assert record.statements[0].rows == ITEMS

    def test_engines_that_share_a_dialect_are_wrapped_once(self, engine, current, record):
        capture = Capture([engine, engine.execution_options(isolation_level="AUTOCOMMIT")], current)
        with engine.connect() as connection:
            connection.execute(select(1)).all()
        capture.close()
        assert len(record.statements) == 1


class TestFaults:
    def test_of_observation_do_not_touch_the_statement(self, engine, current, record, caplog):
        class Broken:
            def find_known(self, _frame):
                raise RuntimeError("a fault of ours")

            find_at = find_known

        capture = Capture([engine], current, Broken())
        with engine.connect() as connection, caplog.at_level(logging.ERROR, "upshift.sql"):
            for _ in range(3):
                assert len(connection.execute(select(Item.id)).all()) == ITEMS
        capture.close()
        assert capture.faults == 3
        assert len(caplog.records) == 1  # logged once, counted from then on

    def test_of_observation_do_not_hide_the_drivers_error(self, engine, current, record, monkeypatch):
        monkeypatch.setattr(module.Origins, "of", None)
        capture = Capture([engine], current)
        with engine.connect() as connection, pytest.raises(OperationalError):
            connection.exec_driver_sql("SELECT nonsense")
        capture.close()
        assert capture.faults == 1


def test_the_statements_a_dialect_sends_on_connecting_are_its_own(current, record):
    engine = memory_engine()
    capture = Capture([engine], current)
    event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA foreign_keys=ON"))
    with engine.connect() as connection:
        connection.execute(select(1)).all()
    capture.close()
    engine.dispose()
    assert [statement.rows for statement in record.statements] == [1]


def test_each_thread_writes_into_its_own_record(tmp_path, current):
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
    with engine.begin() as connection:
        fill(connection)
    capture = Capture([engine], current)

    def serve(number):
        record = Record("GET", f"/{number}", 0.0)
        token = current.set(record)
        with engine.connect() as connection:
            for _ in range(number):
                connection.execute(select(Item.id).limit(number)).all()
        current.reset(token)
        return record

    with ThreadPoolExecutor(4) as pool:
        records = list(pool.map(serve, range(1, 9)))
    capture.close()
    engine.dispose()
    assert capture.faults == 0
    for number, record in enumerate(records, 1):
        assert [statement.rows for statement in record.statements] == [number] * number


def test_a_full_record_counts_further_statements(observed, record):
    with observed.connect() as connection:
        for _ in range(MAX_STATEMENTS + 5):
            connection.execute(select(1)).all()
    assert len(record.statements) == MAX_STATEMENTS
    assert record.statements_dropped == 5


def test_the_result_stays_what_it_was(observed, engine):
    query = select(Order.id, Order.note, func.count().over().label("total")).order_by(Order.id)
    with observed.connect() as connection:
        result = connection.execute(query)
        assert list(result.keys()) == ["id", "note", "total"]
        assert result.mappings().first() == {"id": 1, "note": "note 1", "total": 3}
        assert result.closed
