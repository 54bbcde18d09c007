"""Automatic sizing, checks and warming on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import pytest
import sqlalchemy as sa
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from upshift.settings import PoolSettings
from upshift.sql.pool import sizing as module
from upshift.sql.pool.care import PoolCare
from upshift.sql.pool.freshness import Freshness
from upshift.sql.pool.pools import Pools
from upshift.sql.pool.server_limits import HEADROOM, read_limits
from upshift.sql.pool.sizing import AutomaticSizing

SLEEP = text("SELECT pg_sleep(0.01)")


class Silent:
    def connection_returned(self, checkout):
        pass

    def connection_created(self, pool, seconds):
        pass

    def connection_timed_out(self, pool):
        pass


class Sized:
    def __init__(self, engine, **settings):
        self.care = PoolCare([engine], PoolSettings(pool_sizing="auto", **settings), self.population)
        self.pools = Pools([engine], ContextVar("current", default=None), Silent(), parked=self.care.parked)
        self.care.start()

    def population(self, name):
        return self.pools.population(name)

    @property
    def tally(self):
        return next(self.care.tallies())

    def close(self):
        self.pools.close()
        self.care.close()
        assert (self.pools.faults, self.care.faults) == (0, 0)


@contextmanager
def threads(engine, count):
    ended = threading.Event()

    def work():
        while not ended.is_set():
            with engine.connect() as connection:
                connection.execute(SLEEP)

    running = [threading.Thread(target=work) for _ in range(count)]
    for each in running:
        each.start()
    try:
        yield
    finally:
        ended.set()
        for each in running:
            each.join()


def backends(database):
    engine = create_engine(database, poolclass=NullPool)
    with engine.connect() as connection:
        return connection.scalar(
            text("SELECT numbackends - 1 FROM pg_stat_database WHERE datname = current_database()")
        )


def wait_for(condition, seconds=40.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_pool_that_is_too_small_grows_while_threads_wait(postgres_database):
    engine = create_engine(postgres_database, pool_size=1, max_overflow=0)
    sized = Sized(engine, pool_min_size=1, pool_max_size=12)
    with threads(engine, 12):
        wait_for(lambda: sized.tally.target >= 8)
    assert sized.tally.raised >= 1
    sized.close()
    assert (engine.pool.size(), engine.pool._max_overflow) == (1, 0)
    assert engine.pool.checkedin() == 1
    wait_for(lambda: backends(postgres_database) == 1)
    engine.dispose()


async def test_a_pool_that_is_too_small_grows_while_tasks_wait(postgres_database):
    engine = create_async_engine(
        postgres_database.replace("+psycopg", "+asyncpg"), pool_size=1, max_overflow=0
    )
    sized = Sized(engine.sync_engine, pool_min_size=1, pool_max_size=12)
    ended = asyncio.Event()

    async def work():
        while not ended.is_set():
            async with engine.connect() as connection:
                await connection.execute(SLEEP)

    async with asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(work())
        async with asyncio.timeout(40):
            while sized.tally.target < 8:  # noqa: ASYNC110 - it is found out, not told
                await asyncio.sleep(0.02)
        ended.set()
    sized.close()
    assert (engine.pool.size(), engine.pool._max_overflow) == (1, 0)
    await engine.dispose()


def test_the_servers_last_connections_are_left_to_others(postgres_database):
    engine = create_engine(postgres_database, pool_size=2, max_overflow=0)
    others = create_engine(postgres_database, poolclass=NullPool)
    sizing = AutomaticSizing(engine, lambda: 0, least=1, most=1_000)
    limits = read_limits(engine)
    with ExitStack() as stack:
        while limits.used < limits.connections - HEADROOM - 4:
            stack.enter_context(others.connect())
            limits = read_limits(engine)
        sizing._read_limits(0.0)
        free = limits.connections - limits.used - HEADROOM
        assert sizing.climb.most == sizing.capacity.open + free // 2
        assert sizing.climb.next_limit(0.0) <= sizing.climb.most
    sizing.close()
    engine.dispose()


def test_a_database_that_does_not_tell_its_limits_gives_no_more_connections(postgres_database):
    engine = create_engine(postgres_database.replace("/test_", "/missing_"), pool_size=2, max_overflow=1)
    sizing = AutomaticSizing(engine, lambda: 0, least=1, most=10)
    sizing._read_limits(0.0)
    assert (sizing.climb.most, sizing.capacity.limit, sizing.server) == (3, 3, None)
    sizing.close()


def test_a_database_that_is_away_when_connections_are_opened_is_waited_for(postgres_database):
    engine = create_engine(postgres_database.replace("/test_", "/missing_"), pool_size=2, max_overflow=0)
    sizing = AutomaticSizing(engine, lambda: 5, least=4, most=10)  # it has to open two more at once
    steps = sizing.steps()
    assert next(steps) == module.IDLE_PAUSE
    assert next(steps) < module.IDLE_PAUSE  # then whoever asks finds out
    assert (sizing.faults, sizing.climb.decisions, sizing.capacity.open) == (0, 0, 0)
    sizing.close()


def test_the_servers_timeout_is_read_and_kept_ahead_of(postgres_database):
    admin = create_engine(postgres_database, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        name = sa.make_url(postgres_database).database
        connection.execute(text(f'ALTER DATABASE "{name}" SET idle_session_timeout = 1000'))
    engine = create_engine(postgres_database, pool_size=2)
    freshness = Freshness({"shop": engine}, ping_idle_seconds=30, lifetime_seconds=0)
    next(freshness.steps("shop"))
    with engine.connect() as connection:
        first = connection.scalar(text("SELECT pg_backend_pid()"))
    time.sleep(1.2)  # the server has ended it
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) != first
    assert freshness.counts["shop"].recycled == 1
    freshness.close()
    engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "psycopg_async"])
async def test_a_connection_that_the_server_ended_is_replaced_before_the_request_has_it(
    postgres_database, driver
):
    kill = text(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    admin = create_engine(postgres_database, poolclass=NullPool)
    url = postgres_database.replace("+psycopg", f"+{driver.removesuffix('_async')}")
    engine = create_engine(url) if driver == "psycopg" else create_async_engine(url)
    sync_engine = getattr(engine, "sync_engine", engine)
    freshness = Freshness({"shop": sync_engine}, ping_idle_seconds=1e-9, lifetime_seconds=0)

    async def ask():
        if driver == "psycopg":
            with engine.connect() as connection:
                return connection.scalar(text("SELECT 1"))
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT 1"))

    assert await ask() == 1
    with admin.connect() as connection:
        assert connection.scalar(kill) == 1
    assert await ask() == 1
    assert freshness.counts["shop"].failed_pings == 1
    freshness.close()
    disposed = engine.dispose()
    if disposed is not None:
        await disposed


async def test_connections_of_both_kinds_are_opened_at_the_start(postgres_database):
    sync_engine = create_engine(postgres_database)
    async_engine = create_async_engine(postgres_database.replace("+psycopg", "+asyncpg"))
    care = PoolCare([sync_engine, async_engine.sync_engine], PoolSettings(pool_warm=3), lambda _: 0)
    await care.warm()
    assert (sync_engine.pool.checkedin(), async_engine.pool.checkedin()) == (3, 3)
    assert await asyncio.to_thread(backends, postgres_database) == 6
    care.close()
    sync_engine.dispose()
    await async_engine.dispose()
