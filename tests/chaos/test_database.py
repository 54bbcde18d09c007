"""A real PostgreSQL that is stopped, killed, cut off or slow, under an application with all of Upshift on.

Each request writes one row under an id of its own; the table has no key, so that a row written twice is seen.
Requests may fail while the database is away, and at no other time; what was acknowledged is there once, what
failed is there at most once; afterwards no connection is in use, and the server has no more than the pool.

`make chaos-sql` does each thing several times, with each driver.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import product
from typing import Literal, NamedTuple

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from upshift import Upshift
from upshift.diagnose import lifespan

from .cluster import Cluster
from .proxy import Proxy

CLIENTS = 12
POOL = 4
RECOVERY = 5.0
"""Seconds after which no request fails any more."""

STEADY, AWAY = 0.5, 0.7
"""Seconds of load before and after, and of what happens."""

DRIVERS = {
    "psycopg": {"connect_timeout": 2},
    "psycopg_async": {"connect_timeout": 2},
    "asyncpg": {"timeout": 2, "command_timeout": 5},
}


class Base(DeclarativeBase):
    pass


class Placed(Base):
    __tablename__ = "placed"
    number: Mapped[int] = mapped_column(primary_key=True)  # to the mapper; the table has no key


class Answer(NamedTuple):
    number: int
    began: float
    ended: float
    status: int


class Shop:
    """The application under load, and what its clients saw."""

    def __init__(self, driver: str, url: str) -> None:
        self.app = FastAPI()
        self.answers: list[Answer] = []
        address = url.replace("postgresql://", f"postgresql+{driver.partition('_')[0]}://")
        options = {"pool_size": POOL, "max_overflow": 2, "pool_timeout": 5, "connect_args": DRIVERS[driver]}
        if driver == "psycopg":
            self.engine = engine = create_engine(address, **options)

            @self.app.post("/orders/{number}")
            def place(number: int) -> int:
                with Session(engine) as session, session.begin():
                    session.add(Placed(number=number))
                return number
        else:
            self.engine = async_engine = create_async_engine(address, **options)

            @self.app.post("/orders/{number}")
            async def place_async(number: int) -> int:
                async with AsyncSession(async_engine) as session, session.begin():
                    session.add(Placed(number=number))
                return number

        self.up = Upshift(
            self.app,
            engine=self.engine,
            batching=True,
            compression=True,
            sql_comments=True,
            pool_sizing="auto",
            pool_max_size=10,
            pool_checks=True,
            pool_ping_idle_seconds=0.2,
            pool_warm=POOL,
        )

    async def dispose(self) -> None:
        disposed = self.engine.dispose()
        if disposed is not None:
            await disposed

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Have clients place orders, each one after the other, for the length of a block."""
        numbers = iter(range(10**9))
        ended = asyncio.Event()
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
            asyncio.TaskGroup() as group,
        ):

            async def place_orders() -> None:
                while not ended.is_set():
                    number, began = next(numbers), time.monotonic()
                    response = await client.post(f"/orders/{number}")
                    self.answers.append(Answer(number, began, time.monotonic(), response.status_code))
                    await asyncio.sleep(0.002)

            for _ in range(CLIENTS):
                group.create_task(place_orders())
            try:
                yield
            finally:
                ended.set()


class Trouble(NamedTuple):
    """What happens to the database.

    Attributes:
        begin, end: start it and stop it.
        fails: whether requests fail meanwhile; "some" where it depends on what was under way.
    """

    begin: Callable[[], object]
    end: Callable[[], object]
    fails: Literal["none", "some", "many"] = "many"


@pytest.fixture
def proxy(database_cluster: Cluster):
    proxy = Proxy(database_cluster.port)
    yield proxy
    proxy.close()


@pytest.fixture
def table(database_cluster: Cluster):
    with psycopg.connect(database_cluster.url(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS placed")
        connection.execute("CREATE TABLE placed (number bigint)")
    return database_cluster


@pytest.fixture
async def shop(driver, table, proxy):
    shop = Shop(driver, table.url(proxy.port))
    yield shop
    shop.up.close()
    await shop.dispose()


class Lock:
    """Somebody locks the table, so that every statement runs into its timeout."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def begin(self) -> None:
        self._connection = psycopg.connect(self._cluster.url())
        self._connection.execute("LOCK TABLE placed IN ACCESS EXCLUSIVE MODE")

    def end(self) -> None:
        self._connection.close()


@pytest.fixture
def troubles(table, proxy):
    lock = Lock(table)
    return {
        "restart": Trouble(table.stop, table.start),
        "crash": Trouble(lambda: table.stop(at_once=True), table.start),
        "reset": Trouble(proxy.drop, lambda: None, fails="some"),
        "half-close": Trouble(proxy.half_close, lambda: None, fails="some"),
        "cut": Trouble(proxy.cut, proxy.mend),
        "stall": Trouble(proxy.stall, proxy.flow, fails="none"),
        "statement-timeout": Trouble(lock.begin, lock.end),
    }


ONCE = (
    ("psycopg", "restart"),
    ("asyncpg", "crash"),
    ("psycopg", "reset"),
    ("asyncpg", "half-close"),
    ("psycopg_async", "cut"),
    ("asyncpg", "stall"),
    ("psycopg", "statement-timeout"),
)
"""What `make test` has time for: each trouble once, and each driver."""

ALL = tuple(product(DRIVERS, (trouble for _, trouble in ONCE)))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "0"))


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize(("driver", "name"), ALL if ROUNDS else ONCE)
async def test_requests_fail_only_while_the_database_is_away(shop, table, troubles, name):
    trouble = troubles[name]
    if name == "statement-timeout":
        with psycopg.connect(table.url(), autocommit=True) as connection:
            connection.execute("ALTER DATABASE postgres SET statement_timeout = '300ms'")
    away: list[tuple[float, float]] = []
    async with lifespan(shop.app):
        async with shop.load():
            for _ in range(ROUNDS or 1):
                await asyncio.sleep(STEADY)
                began = time.monotonic()
                await asyncio.to_thread(trouble.begin)
                await asyncio.sleep(AWAY)
                await asyncio.to_thread(trouble.end)
                away.append((began, time.monotonic()))
                await until_it_works(shop)
                await asyncio.sleep(STEADY)
        assert_failures_are_the_databases(shop.answers, away, trouble)
        await assert_no_connection_leaked(shop, table)
    if name == "statement-timeout":
        with psycopg.connect(table.url(), autocommit=True) as connection:
            connection.execute("ALTER DATABASE postgres RESET statement_timeout")
    assert_nothing_was_written_twice(shop.answers, table)


async def until_it_works(shop: Shop) -> None:
    """Wait until an order that began after this has been placed."""
    now = time.monotonic()
    while True:
        if any(each.status == 200 and each.began > now for each in shop.answers[-100:]):
            return
        assert time.monotonic() < now + RECOVERY, (
            f"nothing works {RECOVERY} s after the database is back",
            shop.answers[-3:],
            shop.up.pools(),
        )
        await asyncio.sleep(0.01)


def assert_failures_are_the_databases(
    answers: list[Answer], away: list[tuple[float, float]], trouble: Trouble
) -> None:
    assert Counter(each.status for each in answers)[200] > 20
    failed = [each for each in answers if each.status != 200]
    assert failed or trouble.fails != "many"
    assert not failed or trouble.fails != "none"
    for each in failed:
        assert any(each.ended > began and each.began < ended for began, ended in away), (each, away)


async def assert_no_connection_leaked(shop: Shop, table: Cluster) -> None:
    (pool,) = shop.up.pools()
    assert (pool.in_use, pool.waiting) == ((), ())
    await asyncio.sleep(0.1)  # the server notices what was closed
    seen = backends(table)
    (pool,) = shop.up.pools()
    assert seen <= pool.idle + pool.parked + 1, pool  # one may be sizing's, which looks at the server
    await shop.dispose()
    deadline = time.monotonic() + RECOVERY
    while True:
        if backends(table) <= 1:
            return
        assert time.monotonic() < deadline, "connections are left at the server"
        await asyncio.sleep(0.02)


def assert_nothing_was_written_twice(answers: list[Answer], table: Cluster) -> None:
    with psycopg.connect(table.url()) as connection:
        rows = Counter(number for (number,) in connection.execute("SELECT number FROM placed"))
    assert [number for number, count in rows.items() if count > 1] == []
    acknowledged = {each.number for each in answers if each.status == 200}
    assert acknowledged <= set(rows)
    assert set(rows) <= {each.number for each in answers}


def backends(table: Cluster) -> int:
    """How many connections the server has beside the one that asks."""
    with psycopg.connect(table.url()) as connection:
        return connection.execute("""
            SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        """).fetchone()[0]
