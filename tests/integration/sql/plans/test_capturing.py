"""Slow statements explained beside an application, on real databases: what comes of them, what may not."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from upshift.record import Record
from upshift.sql import Capture, Digests, PlanCapture
from upshift.sql.plans import capturing
from upshift.sql.plans.capturing import Pace
from upshift.testing.servers import postgres

EAGER = Pace(between=0.0, burst=3, again=0.0, confirming=0.0, ordinary=0.0)


class Watched:
    """An engine whose slow statements are explained, and the requests that use it."""

    def __init__(self, engine: sa.Engine, **arguments: object) -> None:
        self.engine = engine
        self.current: ContextVar[Record | None] = ContextVar("current", default=None)
        self.plans = PlanCapture([engine], Digests(), **{"slow_seconds": 0.0, "pace": EAGER, **arguments})
        self.capture = Capture([engine], self.current, plans=self.plans)

    def request(self, sql: str, parameters: object = None) -> None:
        record = Record("GET", "/", time.perf_counter())
        token = self.current.set(record)
        with self.engine.connect() as connection:
            connection.exec_driver_sql(sql, parameters).all()
        self.current.reset(token)
        self.plans.take(record)

    def close(self) -> None:
        self.capture.close()
        self.plans.close()


@contextmanager
def watching(engine: sa.Engine, **arguments: object) -> Iterator[Watched]:
    watched = Watched(engine, **arguments)
    try:
        yield watched
    finally:
        watched.close()


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_slow_statement_is_explained_for_its_parameters_and_for_any(planned):
    with watching(planned) as watched:
        watched.request("SELECT * FROM event WHERE id = %(id)s", {"id": 7})
        until(watched.plans.statements)
        (plans,) = watched.plans.statements()
    assert plans.digest.text == "SELECT * FROM event WHERE id = ?"
    assert (plans.runs[0].tree.is_generic, plans.generic_runs[0].tree.is_generic) == (False, True)
    assert plans.runs[0].seconds[0] > 0


def test_how_tables_are_kept_is_looked_at_now_and_then(planned):
    now = [0.0]
    with watching(planned, clock=lambda: now[0]) as watched:
        watched.request("SELECT 1 FROM event")
        until(watched.plans.statements)
        assert {"event", "pair"} <= {table.name for table in watched.plans.tables()}
        for later, is_new in ((10.0, False), (900.0, True)):
            now[0] += later
            count = watched.plans.statements()[0].runs[0].count

            def is_explained_again(count=count):
                watched.request("SELECT 1 FROM event")  # one may be dropped while another is explained
                return watched.plans.statements()[0].runs[0].count > count

            until(is_explained_again)
            (looked_at,) = (at for at, _ in watched.plans._tables.values())
            assert (looked_at == now[0]) is is_new


def test_nothing_of_the_parameters_is_kept(planned):
    with watching(planned) as watched:
        watched.request("SELECT * FROM event WHERE kind = %(kind)s", {"kind": "s3cret"})
        until(watched.plans.statements)
        assert watched.plans._noted == {}
        assert "s3cret" not in repr(vars(watched.plans)) + repr(watched.plans.statements())


def test_it_is_executed_only_where_that_was_asked_for(planned):
    for analyze in (False, True):
        with watching(planned, analyze=analyze) as watched:
            watched.request("SELECT count(*) FROM event")
            until(watched.plans.statements)
            (plans,) = watched.plans.statements()
        assert plans.explanation.tree.is_executed is analyze


def test_the_applications_pool_lends_no_connection(planned):
    engine = sa.create_engine(planned.url, pool_size=1, max_overflow=0, pool_timeout=0.5)
    with watching(engine) as watched, engine.connect():  # the pool is empty from here on
        statement = _noted(watched)
        until(watched.plans.statements)
    assert statement.sql == "SELECT 1 FROM event"
    engine.dispose()


def _noted(watched: Watched):
    """A slow statement as `Capture` tells of it, without a connection of the pool."""
    from upshift.record import Statement

    statement = Statement("SELECT 1 FROM event", time.perf_counter())
    statement.execute_seconds = 1.0
    record = Record("GET", "/", time.perf_counter())
    record.add(statement)
    watched.plans.note(statement, None, watched.engine.dialect)
    watched.plans.take(record)
    return statement


def test_connections_are_made_as_the_application_makes_them(planned):
    engine = sa.create_engine(planned.url, poolclass=NullPool)

    @sa.event.listens_for(engine, "connect")
    def _choose_schema(connection, _record):
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = elsewhere")
        connection.commit()

    with planned.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA elsewhere")
        connection.exec_driver_sql("CREATE TABLE elsewhere.only_here (id int)")
    with watching(engine) as watched:
        watched.request("SELECT * FROM only_here")
        until(watched.plans.statements)
        (plans,) = watched.plans.statements()
    assert plans.explanation.tree.nodes[0].schema == "elsewhere"


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_statements_of_async_engines_are_explained(planned, driver):
    engine = create_async_engine(planned.url.set(drivername=f"postgresql+{driver}"))
    watched = Watched(engine.sync_engine)
    record = Record("GET", "/", time.perf_counter())
    token = watched.current.set(record)
    async with engine.connect() as connection:
        await connection.execute(sa.text("SELECT * FROM event WHERE id = :id"), {"id": 7})
    watched.current.reset(token)
    watched.plans.take(record)
    await asyncio.to_thread(until, watched.plans.statements)
    (plans,) = watched.plans.statements()
    assert (plans.explanation.tree.is_generic, plans.explanation.tree.nodes[0].index) == (False, "event_pkey")
    watched.close()
    await engine.dispose()


def test_a_file_of_sqlite_is_asked_too(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a INTEGER, b TEXT)")
    with watching(engine) as watched:
        watched.request("SELECT * FROM t WHERE a = ?", (7,))
        until(watched.plans.statements)
        (plans,) = watched.plans.statements()
    assert [(node.kind, node.relation) for node in plans.explanation.tree.nodes] == [("SCAN", "t")]
    engine.dispose()


def test_a_database_in_memory_is_left_alone(tmp_path):
    engine = sa.create_engine("sqlite://")
    with watching(engine) as watched:
        watched.request("SELECT 1")
        until(watched.plans._queue.empty)
    assert (watched.plans.statements(), watched.plans.faults) == ((), 0)
    engine.dispose()


def test_statements_come_at_a_bounded_rate(planned):
    now = [0.0]
    pace = Pace(between=10.0, burst=2, again=0.0, confirming=0.0, ordinary=0.0)
    with watching(planned, pace=pace, clock=lambda: now[0]) as watched:
        for table in ("event", "pair", "guarded"):
            watched.request(f"SELECT 1 FROM {table}")
            until(watched.plans._queue.empty)
        until(lambda: len(watched.plans.statements()) == 2)
        now[0] += 10.0
        watched.request("SELECT 1 FROM guarded")
        until(lambda: len(watched.plans.statements()) == 3)


def test_the_same_statement_comes_again_only_after_a_while(planned):
    now = [0.0]
    pace = Pace(between=0.0, again=300.0)
    with watching(planned, pace=pace, clock=lambda: now[0]) as watched:
        for later in (0.0, 10.0, 300.0):
            now[0] += later
            watched.request("SELECT 1 FROM event")
            until(lambda: watched.plans.statements() and watched.plans._queue.empty())
        until(lambda: watched.plans.statements()[0].runs[0].count == 2)


def test_an_ordinary_execution_is_explained_when_nothing_was_slow(planned):
    with watching(planned, slow_seconds=100.0) as watched:
        watched.request("SELECT 1 FROM event")  # whereupon the next will do
        watched.request("SELECT 1 FROM pair")
        until(watched.plans.statements)
        (plans,) = watched.plans.statements()
    assert plans.digest.text == "SELECT ? FROM pair"


def test_a_database_that_is_away_costs_a_count_and_no_fault(tmp_path):
    engine = sa.create_engine("postgresql+psycopg://localhost:1/nothing", poolclass=NullPool)
    with watching(engine) as watched:
        _noted(watched)
        until(lambda: watched.plans.dropped == 1)
    assert watched.plans.faults == 0


def test_a_database_that_hangs_is_given_up_and_counted(monkeypatch):
    monkeypatch.setattr(capturing, "DEADLINE_SECONDS", 0.3)
    monkeypatch.setattr(capturing, "QUEUE", 1)
    with postgres() as server:
        engine = sa.create_engine(server.url(driver="psycopg"), poolclass=NullPool)
        reached, go_on = threading.Event(), threading.Event()

        @sa.event.listens_for(engine, "connect")
        def _wait(_connection, _record):
            reached.set()
            go_on.wait(10)

        with watching(engine) as watched:
            _noted(watched)
            assert reached.wait(10)
            backends = _backends(server.pid)
            for each in backends:
                os.kill(each, signal.SIGSTOP)
            go_on.set()
            try:
                until(lambda: watched.plans.dropped == 1)
            finally:
                for each in backends:
                    os.kill(each, signal.SIGCONT)
        assert (watched.plans.faults, watched.plans.statements()) == (0, ())


def _backends(postmaster: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(postmaster).children()]


def test_what_finds_the_queue_full_is_dropped_and_counted(planned, monkeypatch):
    monkeypatch.setattr(capturing, "QUEUE", 1)
    engine = sa.create_engine(planned.url, poolclass=NullPool)
    reached, go_on = threading.Event(), threading.Event()
    with watching(engine) as watched:

        @sa.event.listens_for(engine, "connect")
        def _wait(_connection, _record):
            reached.set()
            go_on.wait(10)

        _noted(watched)
        assert reached.wait(10)
        _noted(watched)
        _noted(watched)
        assert watched.plans.dropped == 1
        go_on.set()
        until(watched.plans.statements)


def test_it_ends_with_close_and_takes_nothing_after(planned):
    with watching(planned) as watched:
        watched.request("SELECT 1 FROM event")
        until(watched.plans.statements)
    assert not [each for each in threading.enumerate() if each.name == "upshift-plans"]
    _noted(watched)
    assert watched.plans._thread is None
    watched.close()


def test_a_forked_child_has_a_thread_of_its_own(planned):
    with watching(planned) as watched:
        watched.request("SELECT 1 FROM event")
        until(watched.plans.statements)
        child = os.fork()
        if child == 0:
            watched.request("SELECT 1 FROM pair")
            deadline = time.monotonic() + 10
            while len(watched.plans.statements()) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            os._exit(0 if len(watched.plans.statements()) == 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
