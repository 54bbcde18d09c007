"""When connections are asked, and when they are replaced."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

from upshift.sql.pool import freshness as module
from upshift.sql.pool.freshness import Freshness, FreshnessCounts


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def engine():
    engine = create_engine(
        "sqlite://", poolclass=QueuePool, pool_size=3, connect_args={"check_same_thread": False}
    )
    yield engine
    engine.dispose()


@pytest.fixture
def keep(engine):
    made = []

    def keep_fresh(ping_idle_seconds=0.0, lifetime_seconds=0.0):
        freshness = Freshness(
            {"shop": engine}, ping_idle_seconds=ping_idle_seconds, lifetime_seconds=lifetime_seconds
        )
        made.append(freshness)
        return freshness

    yield keep_fresh
    for freshness in made:
        freshness.close()
        assert freshness.faults == 0


def use(engine):
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        return connection.connection.dbapi_connection


def use_together(engine, count):
    with ExitStack() as stack:
        return [stack.enter_context(engine.connect()).connection.dbapi_connection for _ in range(count)]


def test_a_busy_connection_is_never_asked(engine, keep, clock):
    freshness = keep(ping_idle_seconds=30)
    for _ in range(10):
        use(engine)
        clock.now += 29
    assert freshness.counts["shop"] == FreshnessCounts()


def test_a_connection_that_has_idled_is_asked_and_kept(engine, keep, clock):
    freshness = keep(ping_idle_seconds=30)
    first = use(engine)
    clock.now += 31
    assert use(engine) is first
    assert freshness.counts["shop"] == FreshnessCounts(pings=1)


def test_one_that_does_not_answer_is_replaced_and_the_request_knows_nothing_of_it(engine, keep, clock):
    freshness = keep(ping_idle_seconds=30)
    first = use(engine)
    first.close()
    clock.now += 31
    assert use(engine) is not first
    assert freshness.counts["shop"] == FreshnessCounts(pings=1, failed_pings=1)


def test_when_one_is_broken_all_others_are_asked_once(engine, keep, clock):
    freshness = keep(ping_idle_seconds=30)
    broken, *_ = use_together(engine, 3)
    broken.close()
    clock.now += 29
    with engine.connect(), engine.connect() as second:  # in use: they are not the one that has idled
        in_use = {each.dbapi_connection for each in (second.connection,)}
        assert freshness.counts["shop"].pings == 0
        assert in_use
    clock.now += 2
    while not freshness.counts["shop"].failed_pings:
        use(engine)
    pings = freshness.counts["shop"].pings
    clock.now += 1
    use_together(engine, 3)
    after = freshness.counts["shop"].pings
    use_together(engine, 3)
    assert freshness.counts["shop"] == FreshnessCounts(pings=after, failed_pings=1)
    assert after - pings <= 2


def test_connections_opened_together_do_not_end_together(engine, keep, clock):
    freshness = keep(lifetime_seconds=1_000)
    use_together(engine, 3)
    use_together(engine, 3)  # their lifetimes are drawn when they are taken again
    replaced = set()
    for _ in range(220):
        clock.now += 1
        before = freshness.counts["shop"].recycled
        if clock.now >= 1_790:
            use_together(engine, 3)
        if freshness.counts["shop"].recycled > before:
            replaced.add(clock.now)
    clock.now = 2_001
    use_together(engine, 3)
    assert freshness.counts["shop"].recycled >= 3


def test_a_lifetime_is_at_most_what_was_set_and_at_least_four_fifths(engine, keep, clock):
    freshness = keep(lifetime_seconds=1_000)
    first = use(engine)
    use(engine)
    clock.now += 799
    assert use(engine) is first
    clock.now += 202
    assert use(engine) is not first
    assert freshness.counts["shop"] == FreshnessCounts(recycled=1)


def test_a_connection_that_the_server_is_about_to_end_is_replaced_and_not_asked(engine, keep, clock):
    freshness = keep(ping_idle_seconds=30)
    freshness._server_idle_seconds["shop"] = 40.0
    first = use(engine)
    clock.now += 41
    assert use(engine) is not first
    assert freshness.counts["shop"] == FreshnessCounts(recycled=1)


def test_a_database_without_timeouts_tells_none(keep):
    freshness = keep()
    assert next(freshness.steps("shop")) > 0
    assert freshness._server_idle_seconds == {}


def test_a_wall_clock_that_moves_back_changes_nothing(engine, keep, clock, monkeypatch):
    freshness = keep(lifetime_seconds=1_000)
    first = use(engine)
    use(engine)
    monkeypatch.setattr("time.time", lambda: 0.0)
    clock.now += 1_001
    assert use(engine) is not first
    assert freshness.counts["shop"].recycled == 1


def test_a_disposed_engine_is_kept_fresh(engine, keep, clock):
    freshness = keep(ping_idle_seconds=30)
    use(engine)
    engine.dispose()
    use(engine)
    clock.now += 31
    use(engine)
    assert freshness.counts["shop"].pings == 1


def test_closing_puts_the_pool_back_as_it_was(engine):
    before = dict(vars(engine.pool))
    freshness = Freshness({"shop": engine}, ping_idle_seconds=1, lifetime_seconds=1)
    assert vars(engine.pool) != before
    freshness.close()
    freshness.close()
    assert vars(engine.pool) == before


def test_a_fault_is_counted_and_the_connection_used_as_it_is(engine, monkeypatch, caplog):
    freshness = Freshness({"shop": engine}, ping_idle_seconds=1, lifetime_seconds=1)
    monkeypatch.setattr(freshness, "_freshen", lambda *_: 1 / 0)
    for _ in range(2):
        use(engine)
    assert freshness.faults == 2
    assert len(caplog.records) == 1
    freshness.close()


def test_whoever_is_cancelled_while_asking_leaves_no_connection_behind(engine, monkeypatch):
    freshness = Freshness({"shop": engine}, ping_idle_seconds=1, lifetime_seconds=1)
    use(engine)

    def cancelled(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(freshness, "_freshen", cancelled)
    with pytest.raises(KeyboardInterrupt):
        use(engine)
    monkeypatch.undo()
    assert engine.pool.checkedout() == 0
    use(engine)
    freshness.close()


async def test_an_asynchronous_connection_is_asked_and_replaced(tmp_path, clock):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db")
    freshness = Freshness({"shop": engine.sync_engine}, ping_idle_seconds=30, lifetime_seconds=0)

    async def use_async():
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            return (await connection.get_raw_connection()).driver_connection

    first = await use_async()
    clock.now += 31
    assert await use_async() is first
    await first.close()
    clock.now += 31
    assert await use_async() is not first
    assert freshness.counts["shop"] == FreshnessCounts(pings=2, failed_pings=1)
    freshness.close()
    await engine.dispose()


def test_the_driver_need_not_know_its_error(engine, keep, clock, monkeypatch):
    freshness = keep(ping_idle_seconds=30)
    use(engine)

    def odd(_connection):
        raise sqlite3.InterfaceError

    monkeypatch.setattr(engine.dialect, "do_ping", odd)
    clock.now += 31
    use(engine)
    assert freshness.counts["shop"].failed_pings == 1
