"""Cached functions on a real PostgreSQL: each commit is seen by the next call, whoever races whom."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import ForeignKey, create_engine, delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)

from upshift.cache import Cache
from upshift.cache.functions.held_objects import HELD_BEFORE


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int]
    reviews: Mapped[list[Review]] = relationship()


class Review(Base):
    __tablename__ = "review"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id", ondelete="CASCADE"))


@pytest.fixture
def engine(postgres_database):
    engine = create_engine(postgres_database)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Product(id=1, price=0, reviews=[Review(), Review()]))
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture
def cache(engine):
    cache = Cache()
    cache.watch([engine])
    yield cache
    cache.close()


@pytest.fixture
def price(cache, engine):
    """Read a product's price through the cache, from a session of its own."""

    @cache.cached(namespace="price")
    def read(number):
        with Session(engine) as session:
            return session.scalar(select(Product.price).where(Product.id == number))

    assert (read(1), read(1)) == (0, 0)
    assert cache.statistics()["price"].hits == 1
    return read


def write_orm(session):
    session.get(Product, 1).price = 7


def write_bulk(session):
    session.execute(update(Product).values(price=7))


def write_text(session):
    session.execute(text("UPDATE public.product SET price = 7 WHERE id = :id"), {"id": 1})


def write_driver(session):
    session.connection().exec_driver_sql("update product set price = 7")


def write_in_cte(session):
    session.execute(text("WITH w AS (UPDATE product SET price = 7 RETURNING id) SELECT * FROM w"))


def write_unreadable(session):
    session.execute(text("DO $$ BEGIN UPDATE product SET price = 7; END $$"))


def write_cascade(session):
    session.execute(delete(Product))
    session.execute(insert(Product).values(id=1, price=7))


WRITES = [write_orm, write_bulk, write_text, write_driver, write_in_cte, write_unreadable, write_cascade]


@pytest.mark.parametrize("write", WRITES)
def test_every_kind_of_write_is_seen_by_the_next_call(engine, price, write):
    with Session(engine) as session:
        write(session)
        session.commit()

    assert price(1) == 7


@pytest.mark.parametrize("write", WRITES)
def test_a_rollback_leaves_the_value_where_it_is(engine, cache, price, write):
    with Session(engine) as session:
        write(session)
        session.rollback()

    assert price(1) == 0
    assert cache.statistics()["price"].misses == 1


def test_a_write_to_another_table_leaves_it_too(engine, cache, price):
    with Session(engine) as session:
        session.add(Review(product_id=1))
        session.commit()

    assert price(1) == 0
    assert cache.statistics()["price"].misses == 1


def test_a_connection_that_leaves_its_pool_tells_of_what_it_wrote(engine, price):
    with engine.connect() as connection:
        connection.execute(text("UPDATE product SET price = 7"))
        connection.detach()
        connection.commit()
        assert price(1) == 7

        connection.execute(text("UPDATE product SET price = 8"))
        connection.commit()
        assert price(1) == 8


def test_a_cascade_reaches_the_tables_behind_it(engine, cache):
    @cache.cached()
    def reviews():
        with Session(engine) as session:
            return len(session.scalars(select(Review)).all())

    assert reviews() == 2
    with Session(engine) as session:
        session.execute(delete(Product))
        session.commit()

    assert reviews() == 0


def test_who_has_written_reads_the_own_value_and_keeps_it_from_others(engine, cache, price):
    with Session(engine) as session:

        @cache.cached(ignore=["session"])
        def through(session):
            return session.scalar(select(Product.price).where(Product.id == 1))

        assert through(session) == 0
        session.execute(update(Product).values(price=7))
        assert through(session) == 7
        with ThreadPoolExecutor(1) as other:
            assert other.submit(price, 1).result() == 0
        session.rollback()

    assert price(1) == 0


@pytest.mark.parametrize(
    "setting",
    ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
     "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
     "SELECT set_config('default_transaction_isolation', 'repeatable read', false)"],
)  # fmt: skip
def test_a_level_that_a_statement_has_set_counts(engine, cache, setting):
    @cache.cached(ignore=["connection"])
    def through(connection):
        return connection.scalar(select(Product.price).where(Product.id == 1))

    with engine.connect() as old:
        old.execute(text(setting))
        if "TRANSACTION ISOLATION" not in setting or "SESSION" in setting:
            old.commit()
        old.execute(text("SELECT count(*) FROM review"))
        with Session(engine) as session:
            write_bulk(session)
            session.commit()
        assert through(old) == 0  # its snapshot
    with engine.connect() as connection:
        assert through(connection) == 7


def get(session, number):
    return session.get(Product, number).price


def select_one(session, number):
    return session.scalars(select(Product).where(Product.id == number)).one().price


@pytest.mark.parametrize("read", [get, select_one])
def test_what_a_session_had_before_is_not_kept_as_if_it_were_new(engine, cache, read):
    function = cache.cached(ignore=["session"], namespace="read")(read)

    with Session(engine) as session:
        had = session.get(Product, 1)
        with Session(engine) as other:
            write_bulk(other)
            other.commit()
        assert function(session, 1) == had.price == 0

    with Session(engine) as session:
        assert [function(session, 1) for _ in range(2)] == [7, 7]
    assert cache.statistics()["read"].refused == {HELD_BEFORE: 1}
    assert cache.statistics()["read"].hits == 1


def test_what_was_never_committed_is_not_kept(engine, cache):
    function = cache.cached(ignore=["session"])(get)

    sessions = scoped_session(sessionmaker(engine))
    changed = sessions.get(Product, 1)
    changed.price = 99
    assert function(sessions, 1) == 99
    sessions.rollback()
    sessions.remove()

    with Session(engine) as session:
        assert function(session, 1) == 0


def test_what_a_session_has_and_is_read_anew_is_kept(engine, cache):
    function = cache.cached(ignore=["session"], namespace="read")(get)

    with Session(engine) as session:
        had = [session.get(Product, 1), *session.scalars(select(Review))]
        session.commit()  # expires them
        assert (function(session, 1), function(session, 1), had[0].price) == (0, 0, 0)
        assert "get" not in vars(session.identity_map)

    assert cache.statistics()["read"].hits == 1


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_an_old_snapshot_is_never_kept(engine, cache, price, level):
    with Session(engine.execution_options(isolation_level=level)) as old:

        @cache.cached(ignore=["session"], namespace="through")
        def through(session):
            return session.scalar(select(Product.price).where(Product.id == 1))

        assert old.scalar(text("SELECT 1")) == 1
        with Session(engine) as session:
            write_bulk(session)
            session.commit()
        assert through(old) == 0  # its snapshot
        with Session(engine) as session:
            assert through(session) == 7


def test_a_committed_by_itself_statement_is_seen(engine, price):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(update(Product).values(price=7))
        assert price(1) == 7


def test_so_is_one_on_a_connection_that_only_the_driver_knows_to_commit_by_itself(engine, cache, price):
    driver = create_engine(engine.url, connect_args={"autocommit": True})
    cache.watch([driver])
    assert price(1) == 0
    with driver.connect() as connection:
        connection.execute(text("UPDATE product SET price = 7 WHERE id = 1"))
        with ThreadPoolExecutor() as pool:
            assert pool.submit(price, 1).result(10) == 7
    assert price(1) == 7
    driver.dispose()


def test_two_phases_are_seen_after_the_second(engine, price):
    # The embedded server allows prepared transactions only where it is told to.
    with engine.connect() as connection:
        if connection.scalar(text("SHOW max_prepared_transactions")) == "0":
            pytest.skip("the server allows no prepared transactions")
        transaction = connection.begin_twophase()
        connection.execute(update(Product).values(price=7))
        transaction.prepare()
        assert price(1) == 0
        transaction.commit()

    assert price(1) == 7


def test_a_load_that_is_overtaken_by_a_commit_is_not_kept(engine, cache):
    """The race that every cache-aside library loses: read, write and invalidate, fill."""
    has_read, has_committed = threading.Event(), threading.Event()
    waits = [True]

    @cache.cached(namespace="slow")
    def slow():
        with Session(engine) as session:
            value = session.scalar(select(Product.price))
        if waits.pop() if waits else False:
            has_read.set()
            has_committed.wait(10)
        return value

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slow)
        has_read.wait(10)
        with Session(engine) as session:
            write_bulk(session)
            session.commit()
        has_committed.set()
        assert first.result() == 0

    assert slow() == 7
    assert cache.statistics()["slow"].refused == {"what it depends on was written meanwhile": 1}


def test_nested_functions_depend_on_what_the_inner_ones_read(engine, cache, price):
    @cache.cached()
    def doubled():
        return 2 * price(1)

    assert (doubled(), doubled()) == (0, 0)
    with Session(engine) as session:
        write_bulk(session)
        session.commit()

    assert doubled() == 14


def test_readers_and_writers_in_threads_see_nothing_stale(engine, cache):
    acknowledged, stale, reads = [0], [], [0]
    is_over = threading.Event()

    @cache.cached(namespace="version")
    def version(number):
        with Session(engine) as session:
            return session.scalar(select(Product.price).where(Product.id == number))

    def write():
        for _ in range(150):
            with Session(engine) as session:
                product = session.get(Product, 1, with_for_update=True)
                product.price += 1
                new = product.price
                session.commit()
            acknowledged[0] = max(acknowledged[0], new)

    def read():
        while not is_over.is_set():
            floor = acknowledged[0]
            seen = version(1)
            reads[0] += 1
            if seen < floor:
                stale.append((seen, floor))

    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for writer in [pool.submit(write) for _ in range(2)]:
            writer.result()
        is_over.set()
        for reader in readers:
            reader.result()

    assert stale == []
    assert version(1) == 300
    assert cache.statistics()["version"].hits > 100


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_async_sessions_are_served_alike(postgres_server, postgres_database, engine, driver):
    name = postgres_database.rpartition("/")[2].partition("?")[0]
    asynchronous = create_async_engine(postgres_server.url(name, driver=driver))
    cache = Cache()
    cache.watch([asynchronous])
    runs = []

    @cache.cached(ttl="1h", namespace="price")
    async def price(number):
        runs.append(number)
        async with AsyncSession(asynchronous) as session:
            return await session.scalar(select(Product.price).where(Product.id == number))

    assert await asyncio.gather(*(price(1) for _ in range(50))) == [0] * 50
    assert runs == [1]
    async with AsyncSession(asynchronous) as session:
        (await session.get(Product, 1)).price = 7
        await session.commit()
    assert await price(1) == 7
    assert cache.statistics()["price"].joined == 49
    cache.close()
    await asynchronous.dispose()


def test_what_is_read_from_a_replica_is_never_kept_nor_what_is_computed_from_it(engine, postgres_database):
    replica = create_engine(postgres_database)  # as far as the cache is told
    cache = Cache()
    cache.watch([engine])
    cache.watch([replica], may_lag=True)

    @cache.cached(namespace="inner")
    def inner():
        with Session(replica) as session:
            return session.scalar(select(Product.price))

    @cache.cached(namespace="outer")
    def outer():
        return inner() + 1

    assert (outer(), outer()) == (1, 1)
    assert [cache.statistics()[name].fills for name in ("inner", "outer")] == [0, 0]
    cache.close()
    replica.dispose()


WORKER = """
import sys
from sqlalchemy import create_engine, text
from upshift.cache import Cache

engine = create_engine(sys.argv[1])
cache = Cache(page=sys.argv[2])
cache.watch([engine])

@cache.cached()
def price():
    with engine.connect() as connection:
        return connection.scalar(text("SELECT price FROM product WHERE id = 1"))

for line in sys.stdin:
    if line.startswith("write"):
        with engine.begin() as connection:
            connection.execute(text("UPDATE product SET price = price + 1"))
    print(price(), cache.statistics()["__main__.price"].hits, flush=True)
"""


def test_workers_that_share_a_page_see_each_others_writes(engine, postgres_database, tmp_path):
    command = [sys.executable, "-c", WORKER, postgres_database, str(tmp_path / "page")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:

        def ask(worker, what):
            worker.stdin.write(what + "\n")
            worker.stdin.flush()
            return tuple(map(int, worker.stdout.readline().split()))

        assert ask(one, "read") == (0, 0)
        assert ask(one, "read") == (0, 1)
        for number in range(1, 21):
            assert ask(other, "write")[0] == number
            assert ask(one, "read")[0] == number
        assert ask(one, "read")[1] == 2
        for worker in (one, other):
            worker.stdin.close()
