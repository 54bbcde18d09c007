"""Who has connections, and who did not give them back."""

from __future__ import annotations

import gc
import threading
from contextvars import ContextVar

import msgspec
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool, StaticPool

from upshift.record import CallSites, Record
from upshift.sql.pool import leaks as module
from upshift.sql.pool.leaks import MAX_LINES, Leaks
from upshift.sql.pool.live import encode_pools
from upshift.sql.pool.pools import Pools


class Silent:
    def connection_returned(self, checkout):
        pass

    def connection_created(self, pool, seconds):
        pass

    def connection_timed_out(self, pool):
        pass


@pytest.fixture
def current():
    return ContextVar("current", default=None)


@pytest.fixture
def watch(current):
    made = []

    def watch_engine(engine, seconds=60.0):
        pools = Pools(
            [engine],
            current,
            Silent(),
            call_sites=CallSites(),
            leaks=Leaks(seconds, lambda record: record.route),
        )
        made.append((pools, engine))
        return pools

    yield watch_engine
    for pools, engine in made:
        pools.close()
        assert pools.faults == 0
        engine.dispose()


@pytest.fixture
def engine():
    return create_engine("sqlite://", poolclass=QueuePool, connect_args={"check_same_thread": False})


def forget(engine):
    engine.connect()
    gc.collect()


def begin(current, route="/orders"):
    record = Record("GET", route, 0.0)
    record.route, record.request_id = route, "r-1"
    current.set(record)
    return record


def test_a_forgotten_connection_is_told_with_its_line_and_route(engine, watch, current):
    pools = watch(engine)
    begin(current)
    forget(engine)
    (leak,) = pools.leaks()
    assert (leak.kind, leak.count, leak.open, leak.routes) == ("collected", 1, 0, ("GET /orders",))
    assert leak.site.function == "forget"


def test_a_connection_held_for_long_is_counted_once_while_it_is_out_and_after(engine, watch):
    pools = watch(engine, seconds=1e-9)
    connection = engine.connect()
    for _ in range(3):
        (leak,) = pools.leaks()
        assert (leak.kind, leak.count, leak.open, leak.routes) == ("held", 1, 1, ())
    connection.close()
    (after,) = pools.leaks()
    assert (after.count, after.open) == (1, 0)
    assert after.seconds >= leak.seconds


def test_one_that_came_back_late_is_told_though_nobody_looked(engine, watch):
    pools = watch(engine, seconds=1e-9)
    with engine.connect():
        pass
    assert [(leak.kind, leak.count, leak.open) for leak in pools.leaks()] == [("held", 1, 0)]


def test_what_is_given_back_in_time_is_no_leak(engine, watch):
    pools = watch(engine)
    for leave in ("close", "invalidate", "detach"):
        connection = engine.connect()
        getattr(connection, leave)()
        connection.close()
    assert pools.leaks() == ()


def test_a_shared_connection_is_no_leak(watch):
    engine = create_engine("sqlite://", poolclass=StaticPool)
    pools = watch(engine)
    with engine.connect(), engine.connect() as second:
        second.execute(text("SELECT 1"))
    assert pools.leaks() == ()


def test_lines_are_told_apart_within_a_bound(engine, watch, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINES", 3)
    pools = watch(engine)
    for number in range(6):
        scope = {"engine": engine, "gc": gc}
        code = compile(
            "def forget():\n    engine.connect()\n    gc.collect()\nforget()", f"/app/{number}.py", "exec"
        )
        exec(code, scope)
    leaks = pools.leaks()
    assert len(leaks) <= 3 + 1
    assert sum(leak.count for leak in leaks) == 6
    assert MAX_LINES >= 100


def test_the_first_leak_of_each_line_is_logged(engine, watch, caplog):
    watch(engine)
    for _ in range(3):
        forget(engine)
    (record,) = caplog.records
    assert "UP404" in record.getMessage()
    assert "forget" in record.getMessage()


def test_the_view_tells_who_has_connections_and_who_waits(watch, current):
    engine = create_engine(
        "sqlite://",
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=10,
        connect_args={"check_same_thread": False},
    )
    pools = watch(engine)
    begin(current)
    with engine.begin() as connection:
        connection.execute(text("SELECT 1"))
        waiting = threading.Thread(target=lambda: engine.connect().close())
        waiting.start()
        while not pools.views()[0].waiting:
            pass
        (view,) = pools.views()
    waiting.join()
    (use,), (wait,) = view.in_use, view.waiting
    assert (use.route, use.request_id) == ("GET /orders", "r-1")
    assert "test_the_view_tells_who" in use.site
    assert (wait.route, wait.request_id) == ("", "")
    assert (view.size, view.overflow, view.idle, view.maximum, view.parked) == (1, 0, 0, 1, 0)
    assert view.kind == "QueuePool"


def test_the_view_as_json(engine, watch):
    pools = watch(engine)
    with engine.connect():
        told = msgspec.json.decode(encode_pools(pools.views()))
    (pool,) = told["pools"]
    assert told["version"] == 1
    assert (pool["pool"], pool["maximum"], len(pool["in_use"])) == ("sqlite", 15, 1)


def test_a_pool_without_a_size_tells_what_is_in_use(watch):
    engine = create_engine("sqlite://", poolclass=StaticPool)
    pools = watch(engine)
    with engine.connect():
        (view,) = pools.views()
    assert (view.size, view.maximum, len(view.in_use)) == (None, None, 1)


def test_the_population_is_of_one_pool(engine, watch):
    pools = watch(engine)
    with engine.connect():
        assert pools.population("sqlite") == 1
    assert pools.population("sqlite") == 0
