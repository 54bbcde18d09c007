"""What is told of connection pools, and what their observation leaves as it was.

These tests also run on the oldest SQLAlchemy that is supported.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import warnings
import weakref
from contextvars import ContextVar

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import (
    AssertionPool,
    AsyncAdaptedQueuePool,
    NullPool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
)

from upshift.record import Record
from upshift.record.pool import PoolState
from upshift.sql.capture.capture import Capture
from upshift.sql.pool.pools import Pools

ALL = (AssertionPool, NullPool, QueuePool, SingletonThreadPool, StaticPool)


class Observer:
    def __init__(self):
        self.returned = []
        self.created = []
        self.timeouts = []

    def connection_returned(self, checkout):
        self.returned.append(checkout)

    def connection_created(self, pool, seconds):
        self.created.append((pool, seconds))

    def connection_timed_out(self, pool):
        self.timeouts.append(pool)


@pytest.fixture
def current():
    return ContextVar("current", default=None)


@pytest.fixture
def observer():
    return Observer()


@pytest.fixture
def observe(current, observer):
    """A function that observes engines until the end of the test."""
    made = []

    def observe_engines(*engines):
        pools = Pools([getattr(each, "sync_engine", each) for each in engines], current, observer)
        made.append((pools, engines))
        return pools

    yield observe_engines
    for pools, engines in made:
        pools.close()
        assert pools.faults == 0
        for engine in engines:
            getattr(engine, "sync_engine", engine).dispose()


def engine_of(poolclass=QueuePool, name="sqlite://", **options):
    if poolclass is QueuePool:
        options.setdefault("connect_args", {"check_same_thread": False})
    return create_engine(name, poolclass=poolclass, **options)


@pytest.mark.parametrize("poolclass", ALL)
def test_each_use_of_a_connection_is_told_once(observe, observer, poolclass):
    engine = engine_of(poolclass)
    pools = observe(engine)
    for _ in range(3):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            assert len(pools.checkouts) == 1
        assert not pools.checkouts
    assert len(observer.returned) == 3
    for checkout in observer.returned:
        assert checkout.pool == "sqlite"
        assert 0 < checkout.asked <= checkout.obtained <= checkout.returned


@pytest.mark.parametrize(("poolclass", "opened"), [(NullPool, 3), (QueuePool, 1), (StaticPool, 1)])
def test_opening_a_connection_is_told_when_it_happens(observe, observer, poolclass, opened):
    engine = engine_of(poolclass)
    observe(engine)
    for _ in range(3):
        engine.connect().close()
    assert [pool for pool, _ in observer.created] == ["sqlite"] * opened
    assert all(seconds > 0 for _, seconds in observer.created)


def test_a_request_is_told_what_it_waited(observe, observer, current):
    engine = engine_of()
    observe(engine)
    record = Record("GET", "/", 0.0)
    current.set(record)
    with engine.connect(), engine.connect():
        pass
    assert record.pool_wait_seconds == pytest.approx(sum(each.wait_seconds for each in observer.returned))
    assert [each.record for each in observer.returned] == [record, record]


def test_outside_of_a_request_a_connection_has_no_record(observe, observer):
    engine = engine_of()
    observe(engine)
    engine.connect().close()
    assert observer.returned[0].record is None


def test_the_state_tells_used_idle_and_maximum(observe):
    engine = engine_of(pool_size=2, max_overflow=3)
    pools = observe(engine)
    assert pools.states() == (PoolState("sqlite", used=0, idle=0, maximum=5, pending=0),)
    with engine.connect():
        with engine.connect():
            assert pools.states() == (PoolState("sqlite", used=2, idle=0, maximum=5, pending=0),)
        assert pools.states() == (PoolState("sqlite", used=1, idle=1, maximum=5, pending=0),)


@pytest.mark.parametrize("poolclass", [NullPool, StaticPool, SingletonThreadPool, AssertionPool])
def test_a_pool_without_a_size_tells_what_is_used(observe, poolclass):
    engine = engine_of(poolclass)
    pools = observe(engine)
    with engine.connect():
        assert pools.states() == (PoolState("sqlite", used=1, idle=None, maximum=None, pending=0),)


def test_a_pool_without_a_limit_has_no_maximum(observe):
    for options in ({"pool_size": 0}, {"max_overflow": -1}):
        assert observe(engine_of(**options)).states()[0].maximum is None


def test_who_waits_is_pending_and_who_waits_too_long_is_a_timeout(observe, observer, current):
    engine = engine_of(pool_size=1, max_overflow=0, pool_timeout=0.2)
    pools = observe(engine)
    record = Record("GET", "/", 0.0)
    pending = []

    def wait():
        current.set(record)
        with pytest.raises(PoolTimeoutError):
            engine.connect()

    with engine.connect():
        waiting = threading.Thread(target=wait)
        waiting.start()
        while not (state := pools.states()[0]).pending and waiting.is_alive():
            pass
        pending.append(state.pending)
        waiting.join()
    assert pending == [1]
    assert pools.states()[0].pending == 0
    assert observer.timeouts == ["sqlite"]
    assert record.pool_wait_seconds >= 0.2
    assert len(observer.returned) == 1  # of the connection that was there


def test_a_database_that_refuses_leaves_nothing_behind(observe, observer, tmp_path):
    engine = engine_of(name=f"sqlite:///{tmp_path}/missing/x.db")
    pools = observe(engine)
    with pytest.raises(Exception, match="unable to open"):
        engine.connect()
    assert pools.states() == (PoolState("x.db", used=0, idle=0, maximum=15, pending=0),)
    assert (observer.returned, observer.created, observer.timeouts) == ([], [], [])


def test_a_connection_that_is_forgotten_is_given_back_when_it_is_collected(observe, observer):
    engine = engine_of()
    pools = observe(engine)
    connection = engine.raw_connection()
    assert len(pools.checkouts) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del connection
        gc.collect()
    assert not pools.checkouts
    assert len(observer.returned) == 1


@pytest.mark.parametrize("leave", ["detach", "invalidate"])
def test_a_connection_that_leaves_the_pool_is_not_in_use(observe, observer, leave):
    engine = engine_of()
    pools = observe(engine)
    with engine.connect() as connection:
        getattr(connection, leave)()
        assert not pools.checkouts
        connection.execute(text("SELECT 1"))
    assert not pools.checkouts


@pytest.mark.parametrize("close", [True, False])
def test_a_disposed_engine_is_observed_on(observe, observer, close):
    engine = engine_of()
    pools = observe(engine)
    held = engine.connect()
    engine.dispose(close=close)
    engine.dispose(close=close)
    with engine.connect():
        assert pools.states()[0].used == 2
    held.close()
    assert pools.states()[0].used == 0
    assert len(observer.returned) == 2


def test_an_engine_with_options_of_its_own_is_the_same_pool(observe, observer):
    engine = engine_of()
    pools = observe(engine, engine.execution_options(isolation_level="AUTOCOMMIT"))
    assert len(pools.states()) == 1
    engine.connect().close()
    assert len(observer.returned) == 1


def test_pools_have_the_name_they_were_given_or_their_databases_and_no_two_one():
    engines = [
        engine_of(),
        engine_of(),
        engine_of(name="sqlite:////srv/data/shop.db"),
        engine_of(name="sqlite:////srv/old/shop.db"),
        engine_of(pool_logging_name="reports"),
    ]
    pools = Pools(engines, ContextVar("current", default=None), Observer())
    names = [state.pool for state in pools.states()]
    pools.close()
    assert names == ["sqlite", "sqlite#2", "shop.db", "shop.db#2", "reports"]


@pytest.mark.parametrize("poolclass", ALL)
def test_closing_puts_the_pool_back_as_it_was(current, observer, poolclass):
    engine = engine_of(poolclass)
    before = dict(vars(engine.pool))
    pools = Pools([engine], current, observer)
    assert vars(engine.pool) != before
    pools.close()
    pools.close()
    assert vars(engine.pool) == before


def test_closing_also_lets_go_of_the_pools_from_before_a_dispose(current, observer):
    engine = engine_of()
    pools = Pools([engine], current, observer)
    held, old = engine.connect(), engine.pool
    engine.dispose()
    pools.close()
    assert "connect" not in vars(old)
    assert "connect" not in vars(engine.pool)
    held.close()
    assert observer.returned == []


@pytest.mark.parametrize("first", [0, 1])
def test_two_observers_of_one_pool_leave_in_any_order(current, first):
    engine = engine_of()
    before = set(vars(engine.pool))
    observers = Observer(), Observer()
    pools = [Pools([engine], current, each) for each in observers]
    engine.connect().close()
    pools[first].close()
    engine.connect().close()
    pools[1 - first].close()
    engine.connect().close()
    assert [len(each.returned) for each in observers] == ([1, 2] if first == 0 else [2, 1])
    assert vars(engine.pool).keys() == before


def test_a_closed_observation_is_let_go_of(current, observer):
    engine = engine_of()
    pools = Pools([engine], current, observer)
    pools.close()
    reference = weakref.ref(pools)
    del pools
    gc.collect()
    assert reference() is None


def test_a_fault_of_the_observer_is_logged_once_and_kept_from_the_application(current, caplog):
    engine = engine_of(NullPool)
    pools = Pools([engine], current, BrokenObserver())
    with caplog.at_level(logging.ERROR, "upshift.sql"):
        for _ in range(3):
            with engine.connect() as connection:
                assert connection.scalar(text("SELECT 1")) == 1
    assert pools.faults == 6
    assert len(caplog.records) == 1
    pools.close()


class BrokenObserver:
    def connection_returned(self, checkout):
        raise ValueError

    def connection_created(self, pool, seconds):
        raise ValueError

    def connection_timed_out(self, pool):
        raise ValueError


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_no_connection_in_use(observe):
    engine = engine_of()
    pools = observe(engine)
    with engine.connect():
        child = os.fork()
        if child == 0:
            engine.dispose(close=False)
            used = [pools.states()[0].used]
            with engine.connect():
                used.append(pools.states()[0].used)
            os._exit(0 if used == [0, 1] else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert pools.states()[0].used == 1


async def test_an_async_engine_is_observed(observe, observer, current, tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db", pool_size=1, max_overflow=0)
    assert isinstance(engine.pool, AsyncAdaptedQueuePool)
    pools = observe(engine)
    record = Record("GET", "/", 0.0)
    current.set(record)

    async def use():
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            await asyncio.sleep(0.02)

    await asyncio.gather(use(), use(), use())
    assert len(observer.returned) == 3
    assert pools.states() == (PoolState("x.db", used=0, idle=1, maximum=1, pending=0),)
    assert record.pool_wait_seconds >= 0.06  # one waits for one, the other for both
    await engine.dispose()


async def test_a_wait_that_is_cancelled_leaves_nothing_behind(observe, observer, tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db", pool_size=1, max_overflow=0)
    pools = observe(engine)
    async with engine.connect():
        waiting = asyncio.ensure_future(engine.connect().start())
        await asyncio.sleep(0)
        assert pools.states()[0].pending == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pools.states()[0].pending == 0
        assert pools.states()[0].used == 1
    assert len(observer.returned) == 1
    assert observer.timeouts == []
    await engine.dispose()


class TestIdle:
    """How long a connection was in use while no statement ran, by the statements that capture tells of."""

    @pytest.fixture
    def use(self, observe, observer, current):
        engine = engine_of()
        pools = observe(engine)
        capture = Capture([engine], current, checkouts=pools.checkouts)

        def use_engine(work, record):
            token = current.set(record)
            try:
                with engine.connect() as connection:
                    work(connection)
            finally:
                current.reset(token)
            return observer.returned[-1]

        yield use_engine
        capture.close()
        assert capture.faults == 0

    def test_the_statements_of_the_request_on_the_connection_are_the_ones_that_count(self, use):
        record = Record("GET", "/", 0.0)
        checkout = use(lambda connection: connection.execute(text("SELECT 1")).all(), record)
        assert checkout.statements == record.statements
        assert 0 < checkout.idle_seconds < checkout.use_seconds

    def test_each_of_two_connections_has_its_own(self, use):
        record = Record("GET", "/", 0.0)

        def nested(connection):
            connection.execute(text("SELECT 'outer'"))
            inner = use(lambda other: other.execute(text("SELECT 'inner'")), record)
            assert [statement.sql for statement in inner.statements] == ["SELECT 'inner'"]

        outer = use(nested, record)
        assert [statement.sql for statement in outer.statements] == ["SELECT 'outer'"]
        assert len(record.statements) == 2

    def test_a_connection_that_outlives_requests_gathers_no_statements(self, use, current):
        def serve_many(connection):
            for _ in range(3):
                current.set(Record("GET", "/", 0.0))
                connection.execute(text("SELECT 1"))

        assert use(serve_many, None).statements == []

    def test_rows_read_piecemeal_count_while_they_are_read(self, use):
        record = Record("GET", "/", 0.0)

        def read(connection):
            numbers = text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500) SELECT i FROM n"
            )
            for _ in connection.execution_options(yield_per=10).execute(numbers):
                pass

        checkout = use(read, record)
        (statement,) = checkout.statements
        assert statement.rows == 500
        assert 0 <= checkout.idle_seconds <= checkout.use_seconds - statement.seconds + 1e-9


def test_statements_are_observed_where_no_pool_is(current):
    engine = engine_of()
    capture = Capture([engine], current)
    record = Record("GET", "/", 0.0)
    current.set(record)
    with engine.connect() as connection:
        connection.execute(select(1))
    capture.close()
    assert len(record.statements) == 1
    assert capture.faults == 0
    engine.dispose()
