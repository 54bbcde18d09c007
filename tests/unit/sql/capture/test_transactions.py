"""What is told of transactions, and what their observation leaves as it was.

These tests also run on the oldest SQLAlchemy that is supported.
"""

from __future__ import annotations

import gc
import logging
import warnings
from contextvars import ContextVar

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from upshift.sql.capture.transactions import Transactions
from upshift.sql.pool.pools import Pools


class Silent:
    def connection_returned(self, checkout):
        self.last = checkout

    def connection_created(self, pool, seconds):
        pass

    def connection_timed_out(self, pool):
        pass


class Watch:
    """One engine whose transactions are observed."""

    def __init__(self, engine):
        self.engine = engine
        self.told = []
        self.pool = Silent()
        self.pools = Pools([engine], ContextVar("current", default=None), self.pool)
        self.transactions = Transactions([engine], self.pools.checkouts, lambda *told: self.told.append(told))

    @property
    def outcomes(self):
        return [outcome for _, outcome, _ in self.told]

    def close(self):
        self.transactions.close()
        self.pools.close()
        assert self.transactions.faults == self.pools.faults == 0


@pytest.fixture
def watch():
    engine = create_engine("sqlite://", poolclass=QueuePool, connect_args={"check_same_thread": False})
    watch = Watch(engine)
    yield watch
    watch.close()
    engine.dispose()


SELECT = text("SELECT 1")


def test_a_commit_is_told_with_its_pool_and_its_seconds(watch):
    with watch.engine.begin() as connection:
        connection.execute(SELECT)
    ((pool, outcome, seconds),) = watch.told
    assert (pool, outcome) == ("sqlite", "commit")
    assert 0 < seconds < watch.pool.last.use_seconds
    assert 0 < watch.pool.last.ending_seconds < seconds


def test_a_rollback_that_was_asked_for_is_a_rollback(watch):
    with watch.engine.connect() as connection:
        connection.execute(SELECT)
        connection.rollback()
    assert watch.outcomes == ["rollback"]


def test_an_exception_that_leaves_a_transaction_is_a_rollback(watch):
    def fail():
        with watch.engine.begin() as connection:
            connection.execute(SELECT)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert watch.outcomes == ["rollback"]


def test_a_connection_closed_after_reading_is_a_close(watch):
    with watch.engine.connect() as connection:
        connection.execute(SELECT)
    assert watch.outcomes == ["close"]


@pytest.mark.parametrize(
    ("end", "outcome"), [("commit", "commit"), ("rollback", "rollback"), ("close", "close")]
)
def test_a_session_tells_the_same(watch, end, outcome):
    with Session(watch.engine) as session:
        session.execute(SELECT)
        getattr(session, end)()
    assert watch.outcomes == [outcome]


def test_a_session_left_by_an_exception_outside_of_begin_is_a_close(watch):
    def fail():
        with Session(watch.engine) as session:
            session.execute(SELECT)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert watch.outcomes == ["close"]


def test_each_transaction_of_a_connection_is_told(watch):
    with watch.engine.connect() as connection:
        for end in (connection.commit, connection.rollback, connection.commit):
            connection.execute(SELECT)
            end()
    assert watch.outcomes == ["commit", "rollback", "commit"]


def test_a_savepoint_is_no_transaction_of_its_own(watch):
    with watch.engine.begin() as connection:
        with connection.begin_nested():
            connection.execute(SELECT)
        with connection.begin_nested() as nested:
            nested.rollback()
    assert watch.outcomes == ["commit"]


def test_a_reset_by_the_pool_is_no_rollback(watch):
    watch.engine.raw_connection().close()
    watch.engine.connect().close()
    assert watch.told == []


def test_a_connection_that_was_forgotten_in_its_transaction_is_a_close(watch):
    connection = watch.engine.connect()
    connection.execute(SELECT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del connection
        gc.collect()
    assert watch.outcomes == ["close"]


def test_a_commit_that_fails_is_an_error_and_its_rollback_is_not_told_again(watch):
    with watch.engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.exec_driver_sql("CREATE TABLE a (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("CREATE TABLE b (a INTEGER REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
    with watch.engine.connect() as connection:
        connection.commit()
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.commit()
        connection.exec_driver_sql("INSERT INTO b VALUES (1)")
        with pytest.raises(IntegrityError):
            connection.commit()
        connection.rollback()
    assert watch.outcomes[-1] == "error"


def test_a_connection_that_is_lost_leaves_its_transaction_begun(watch):
    with watch.engine.connect() as connection:
        connection.execute(SELECT)
        connection.invalidate()
    assert watch.told == []
    assert watch.pool.last.began > 0


def test_in_autocommit_mode_there_is_no_transaction(watch):
    with watch.engine.connect() as connection:
        # sqlite3 tells so from Python 3.12 on; here a driver that does.
        class Driver:
            autocommit = True

            def __getattr__(self, name):
                return getattr(raw, name)

        proxied = connection._dbapi_connection
        raw, proxied.dbapi_connection = proxied.dbapi_connection, Driver()
        watch.engine.dialect.do_begin(proxied)
        watch.engine.dialect.do_commit(proxied)
        proxied.dbapi_connection = raw
    assert watch.told == []


def test_a_bare_driver_connection_passes_through(watch):
    raw = watch.engine.raw_connection()
    watch.engine.dialect.do_begin(raw.dbapi_connection)
    watch.engine.dialect.do_commit(raw.dbapi_connection)
    watch.engine.dialect.do_rollback(raw.dbapi_connection)
    raw.close()
    assert watch.told == []


@pytest.mark.parametrize("first", [0, 1])
def test_two_observations_tell_the_same_and_leave_in_any_order(first):
    engine = create_engine("sqlite://", poolclass=QueuePool)
    before = dict(vars(engine.dialect))
    both = [Watch(engine), Watch(engine)]
    for end in ("rollback", "close", "commit"):
        with engine.connect() as connection:
            connection.execute(SELECT)
            getattr(connection, end)()
    both[first].close()
    with engine.connect() as connection:
        connection.execute(SELECT)
    both[1 - first].close()
    assert both[first].outcomes == ["rollback", "close", "commit"]
    assert both[1 - first].outcomes == ["rollback", "close", "commit", "close"]
    added = vars(engine.dialect).keys() - before
    assert added.isdisjoint({"do_begin", "do_commit", "do_rollback"})
    engine.dispose()


def test_a_fault_is_logged_once_and_kept_from_the_application(watch, caplog):
    def broken(*_):
        raise ValueError

    transactions = Transactions([watch.engine], watch.pools.checkouts, broken)
    with caplog.at_level(logging.ERROR, "upshift.sql"):
        for _ in range(3):
            with watch.engine.begin() as connection:
                connection.execute(SELECT)
    transactions.close()
    assert len(caplog.records) == 1


async def test_an_async_session_tells_the_same(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db")
    watch = Watch(engine.sync_engine)
    for end in ("commit", "rollback", "close"):
        async with AsyncSession(engine) as session:
            await session.execute(SELECT)
            await getattr(session, end)()
    watch.close()
    await engine.dispose()
    assert watch.outcomes == ["commit", "rollback", "close"]
