"""Writers that know nothing of the cache, on a real PostgreSQL: what they commit is seen when it is told."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import date
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Date, Integer, String, create_engine, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from upshift.cache import Cache, auditor
from upshift.cache.dependencies import EVERYTHING
from upshift.cache.triggers import listener as listening
from upshift.cache.triggers.definition import PREFIX, Watched
from upshift.cache.triggers.installed import find_tables, install, remove
from upshift.cache.triggers.listener import NAME
from upshift.errors import MaintenanceError, MissingExtraError, SettingsError

DEADLINE = 20.0
"""Seconds that a notification may take on a busy machine; none of the tests waits for it in vain."""


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    price: Mapped[int] = mapped_column(default=0)


class Odd(Base):
    __tablename__ = "odd \"name's"
    key: Mapped[UUID] = mapped_column("the 'key\"", primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    name: Mapped[str] = mapped_column(String, primary_key=True)
    value: Mapped[int] = mapped_column(default=0)


class Place(Base):
    """Partitioned by the server; mapped as one."""

    __tablename__ = "place"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(default=0)


PARTITIONS = """
CREATE TABLE place (id int PRIMARY KEY, value int NOT NULL DEFAULT 0) PARTITION BY RANGE (id);
CREATE TABLE place_low PARTITION OF place FOR VALUES FROM (0) TO (100);
CREATE TABLE place_high PARTITION OF place FOR VALUES FROM (100) TO (200);
INSERT INTO place VALUES (1), (101);
"""


@pytest.fixture
def engine(postgres_database):
    engine = create_engine(postgres_database)
    with engine.begin() as connection:
        connection.exec_driver_sql(PARTITIONS)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Product(id=number) for number in range(1, 4)])
        session.add(Odd(key=UUID(int=5), day=date(2026, 1, 2), name="it's"))
        session.commit()
    with engine.connect() as connection:
        tables = [each.table for each in find_tables(connection)]
    install(engine, tables)
    yield engine
    engine.dispose()


@pytest.fixture
def cache(engine):
    cache = Cache()
    cache.watch([engine])
    assert cache.listen(engine).wait(DEADLINE)
    yield cache
    cache.close()


@pytest.fixture
def outside(engine):
    """Return a connection of somebody else's."""
    address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection


@pytest.fixture
def read(cache, engine):
    @cache.cached(namespace="read")
    def read(model, key):
        with Session(engine) as session:
            found = session.get(MODELS[model], key)
            return found and getattr(found, VALUES[model])

    return read


@pytest.fixture
def total(cache, engine):
    @cache.cached(namespace="total")
    def total():
        with Session(engine) as session:
            return sum(session.scalars(select(Product.price)))

    return total


MODELS = {"product": Product, "odd": Odd, "place": Place}
VALUES = {"product": "price", "odd": "value", "place": "value"}


def becomes(call, expected):
    """Wait until a call returns what it has to; return what it returns in the end."""
    ends = time.monotonic() + DEADLINE
    while (seen := call()) != expected and time.monotonic() < ends:
        time.sleep(0.005)
    return seen


def heard(cache, number):
    """Wait until as many notifications were heard."""
    (listener,) = cache._listeners
    return becomes(lambda: listener.heard >= number, expected=True)


WRITES = {
    "update": "UPDATE product SET price = 7 WHERE id = 1",
    "insert and delete": "DELETE FROM product WHERE id = 1; INSERT INTO product VALUES (1, 7)",
    "upsert": "INSERT INTO product VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET price = 7",
    "merge": "MERGE INTO product USING (VALUES (1)) v (n) ON id = n WHEN MATCHED THEN UPDATE SET price = 7",
    "function": "DO $$ BEGIN UPDATE product SET price = 7 WHERE id = 1; END $$",
    "cte": "WITH w AS (UPDATE product SET price = 7 WHERE id = 1 RETURNING id) SELECT * FROM w",
    "another key": "UPDATE product SET id = 4 WHERE id = 1; INSERT INTO product VALUES (1, 7)",
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_a_row_that_somebody_else_writes_is_seen_and_others_stay(cache, outside, read, total, name):
    assert [read("product", number) for number in (1, 2)] == [0, 0]
    assert total() == 0

    outside.execute(WRITES[name])

    assert becomes(lambda: read("product", 1), 7) == 7
    assert becomes(total, 7) == 7
    misses = cache.statistics()["read"].misses
    assert read("product", 2) == 0
    assert cache.statistics()["read"].misses == misses


@pytest.mark.parametrize("sql", ["TRUNCATE product", "DELETE FROM product"])
def test_all_rows_go_at_once(outside, read, total, sql):
    assert (read("product", 1), total()) == (0, 0)

    outside.execute(sql)

    assert becomes(lambda: read("product", 1), None) is None


def test_copy_tells_of_what_it_brings(outside, cache, read, total):
    assert (read("product", 77), total()) == (None, 0)

    with outside.cursor().copy("COPY product (id, price) FROM STDIN") as copy:
        copy.write_row((77, 7))

    assert becomes(lambda: read("product", 77), 7) == 7
    assert becomes(total, 7) == 7


def test_many_rows_tell_of_the_table_in_a_small_notification(outside, cache, read):
    assert (read("product", 1), read("product", 50_000)) == (0, None)

    outside.execute("INSERT INTO product SELECT n, 1 FROM generate_series(1000, 90000) n")

    assert becomes(lambda: read("product", 50_000), 1) == 1
    assert heard(cache, 1)
    (listener,) = cache._listeners
    assert listener.faults == 0


def test_keys_that_do_not_fit_into_a_notification_are_left_out(outside, engine, cache):
    outside.execute("CREATE TABLE long (key text PRIMARY KEY, value int)")
    with engine.connect() as connection:
        install(engine, [each.table for each in find_tables(connection) if each.table.name == "long"])

    @cache.cached(namespace="long")
    def values():
        with engine.connect() as connection:
            return connection.scalar(text("SELECT sum(value) FROM long"))

    assert values() is None
    outside.execute("INSERT INTO long SELECT repeat(n::text, 2000), n FROM generate_series(1, 9) n")

    assert becomes(values, 45) == 45


def test_who_reads_a_partition_is_told_of_writes_to_the_whole_table(cache, engine, outside):
    @cache.cached(namespace="low")
    def low():
        with engine.connect() as connection:
            return connection.scalar(text("SELECT sum(value) FROM place_low"))

    assert low() == 0
    outside.execute("UPDATE place SET value = 5 WHERE id = 1")

    assert becomes(low, 5) == 5


def test_a_partition_tells_of_what_it_is_a_part_of(outside, read):
    assert [read("place", key) for key in (1, 101)] == [0, 0]

    outside.execute("UPDATE place_low SET value = 7 WHERE id = 1")
    assert becomes(lambda: read("place", 1), 7) == 7
    outside.execute("UPDATE place SET value = 8 WHERE id = 101")
    assert becomes(lambda: read("place", 101), 8) == 8
    outside.execute("UPDATE place SET id = 102 WHERE id = 1")  # to another partition
    assert becomes(lambda: read("place", 1), None) is None
    assert becomes(lambda: read("place", 102), 7) == 7


def test_names_and_keys_may_have_any_characters(outside, read):
    key = (UUID(int=5), date(2026, 1, 2), "it's")
    assert read("odd", key) == 0

    outside.execute("""UPDATE "odd ""name's" SET value = 7""")

    assert becomes(lambda: read("odd", key), 7) == 7


def test_what_is_rolled_back_or_changes_nothing_tells_nothing(outside, cache, read):
    assert read("product", 1) == 0
    with outside.transaction(force_rollback=True):
        outside.execute("UPDATE product SET price = 7 WHERE id = 1")
    outside.execute("UPDATE product SET price = 7 WHERE id = 999")
    outside.execute("UPDATE product SET price = 7 WHERE id = 2")

    assert heard(cache, 1)
    (listener,) = cache._listeners
    assert (listener.heard, read("product", 1)) == (1, 0)
    assert cache.statistics()["read"].misses == 1


def test_writers_whose_connection_is_marked_are_not_told_twice(engine, outside, cache, read):
    hooked = create_engine(engine.url, connect_args={"options": "-c upshift.hooked=on"})
    cache.watch([hooked])
    assert read("product", 1) == 0

    with Session(hooked) as session:
        session.get(Product, 1).price = 7
        session.commit()
    assert read("product", 1) == 7  # at once

    outside.execute("UPDATE product SET price = 8 WHERE id = 2")
    assert heard(cache, 1)
    assert cache._listeners[0].heard == 1
    hooked.dispose()


def test_hooked_writers_are_seen_at_once_as_without_it(engine, read):
    for price in range(1, 20):
        with Session(engine) as session:
            session.get(Product, 1).price = price
            session.commit()
        assert read("product", 1) == price


def test_nothing_is_served_from_the_loss_of_the_connection_until_it_listens_again(
    engine, outside, cache, read, monkeypatch
):
    (listener,) = cache._listeners
    may_go_on = threading.Event()
    follow = listener._follow

    async def held():
        while not may_go_on.is_set():
            await listening.asyncio.sleep(0.01)
        await follow()

    assert (read("product", 1), read("product", 1)) == (0, 0)
    assert cache.statistics()["read"].hits == 1
    monkeypatch.setattr(listener, "_follow", held)
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
    outside.execute(end, (NAME,))
    assert becomes(lambda: listener.is_listening, expected=False) is False
    assert cache._tokens.stamp((EVERYTHING,)) is None
    outside.execute("UPDATE product SET price = 7 WHERE id = 1")  # nobody hears of it
    assert read("product", 1) == 7
    may_go_on.set()
    assert listener.wait(DEADLINE)

    hits = cache.statistics()["read"].hits
    assert (read("product", 1), read("product", 1)) == (7, 7)
    assert cache.statistics()["read"].hits == hits + 1
    outside.execute("UPDATE product SET price = 8 WHERE id = 1")
    assert becomes(lambda: read("product", 1), 8) == 8


def test_a_connection_that_is_open_and_silent_is_found_lost(engine, outside, cache, read, monkeypatch):
    monkeypatch.setattr(listening, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(listening, "ANSWER_SECONDS", 0.3)
    (listener,) = cache._listeners
    outside.execute("UPDATE product SET price = price")  # it is waiting with the new limits from now on
    assert heard(cache, 1)
    sql = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
    ((pid,),) = outside.execute(sql, (NAME,)).fetchall()

    os.kill(pid, signal.SIGSTOP)
    try:
        assert becomes(lambda: cache._tokens.stamp((EVERYTHING,)) is None, expected=True)
        outside.execute("UPDATE product SET price = 7 WHERE id = 1")
        assert read("product", 1) == 7
    finally:
        os.kill(pid, signal.SIGCONT)
    assert listener.wait(DEADLINE)


def test_a_database_that_is_not_there_leaves_functions_uncached(engine):
    cache = Cache()
    cache.watch([engine])
    listener = cache.listen(engine.url.set(database="nowhere"))

    @cache.cached(namespace="f")
    def price():
        with Session(engine) as session:
            return session.get(Product, 1).price

    assert (price(), price()) == (0, 0)
    assert cache.statistics()["f"].hits == 0
    assert becomes(lambda: listener.faults > 0, expected=True)
    assert not listener.is_listening
    cache.close()


def test_a_malformed_notification_is_taken_for_a_write_to_everything(outside, cache, read):
    assert (read("product", 1), read("product", 1)) == (0, 0)

    for payload in (
        "",
        "no JSON",
        "[]",
        '{"tables": 5}',
        '{"tables": ["a"], "columns": ["b"], "keys": [[1, 2]]}',
    ):
        outside.execute("SELECT pg_notify('upshift_cache', %s)", (payload,))

    assert heard(cache, 1)
    (listener,) = cache._listeners
    assert becomes(lambda: listener.faults > 0, expected=True)
    outside.execute("UPDATE product SET price = 7 WHERE id = 1")
    assert becomes(lambda: read("product", 1), 7) == 7


def test_only_postgresql_tells_of_others():
    cache = Cache()
    with pytest.raises(SettingsError, match="only PostgreSQL"):
        cache.listen("sqlite:///shop.db")
    cache.close()


def test_without_psycopg_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(listening, "find_spec", lambda _: None)
    cache = Cache()
    with pytest.raises(MissingExtraError, match=r"upshift\[postgres\]"):
        cache.listen("postgresql+psycopg://localhost/shop")
    cache.close()


def states(engine):
    with engine.connect() as connection:
        return {each.table.name: each.state for each in find_tables(connection)}


def test_what_is_installed_is_told_renewed_and_removed(engine, outside):
    assert set(states(engine).values()) == {"installed"}
    outside.execute("ALTER TABLE product DISABLE TRIGGER upshift_cache_insert")
    outside.execute("DROP TRIGGER upshift_cache_update ON place_low")
    outside.execute("CREATE TABLE fresh (x int)")
    found = states(engine)
    assert {name: found[name] for name in ("product", "place_low", "fresh", "place")} == {
        "product": "outdated", "place_low": "outdated", "fresh": "missing", "place": "installed",
    }  # fmt: skip

    with engine.connect() as connection:
        tables = [each.table for each in find_tables(connection)]
    install(engine, tables)
    assert set(states(engine).values()) == {"installed"}

    remove(engine, tables)
    assert set(states(engine).values()) == {"missing"}
    left = outside.execute("SELECT count(*) FROM pg_proc WHERE starts_with(proname, %s)", (PREFIX,))
    assert left.fetchone() == (0,)


def test_a_table_without_a_key_tells_of_itself(outside, engine, cache):
    outside.execute("CREATE TABLE fresh (x int)")
    install(engine, [Watched("public", "fresh", (), ())])

    @cache.cached(namespace="fresh")
    def count():
        with engine.connect() as connection:
            return connection.scalar(text("SELECT count(*) FROM fresh"))

    assert count() == 0
    outside.execute("INSERT INTO fresh VALUES (1)")
    assert becomes(count, 1) == 1


def test_a_table_that_is_locked_is_left_with_a_reason(engine, outside, monkeypatch):
    monkeypatch.setattr("upshift.cache.triggers.installed.LOCK_SECONDS", 0.05)
    with outside.transaction():
        outside.execute("LOCK TABLE product IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(MaintenanceError, match=r'"public"."product" were left'):
            install(engine, [Watched("public", "product", (), ("id",))])


FORKING = """
import os, sys, time
from sqlalchemy import create_engine, text
from upshift.cache import Cache, auditor

engine = create_engine(sys.argv[1])
cache = Cache()
cache.watch([engine])
listener = cache.listen(engine)
assert listener.wait(20)

@cache.cached(namespace="f")
def price():
    with engine.connect() as connection:
        return connection.scalar(text("SELECT price FROM product WHERE id = 1"))

assert price() == price() == 0
child = os.fork()
if child == 0:
    engine.dispose(close=False)
    assert listener.wait(20) and price() == 0
    print("listening", flush=True)
    ends = time.monotonic() + 20
    while price() != 7 and time.monotonic() < ends:
        time.sleep(0.01)
    print(price(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_forked_process_listens_for_itself_and_one_that_ends_says_nothing(engine, outside):
    address = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", FORKING, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "listening\n"
        outside.execute("UPDATE product SET price = 7 WHERE id = 1")
        assert process.stdout.readline() == "7\n"
        _, errors = process.communicate(timeout=DEADLINE)

    assert (process.returncode, errors) == (0, "")  # though nobody closed the cache


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_cache_in_redis_hears_of_others_and_audits(engine, outside, valkey_server, monkeypatch, kind):
    monkeypatch.setattr(auditor, "REST", 0.0)
    asynchronous = create_async_engine(engine.url)
    cache = Cache(valkey_server.url, name=f"triggers {kind}", timeout="5s", audit=1)
    cache.watch([engine, asynchronous])
    assert cache.listen(engine).wait(DEADLINE)
    rates = {"TWD": 32}

    @cache.cached(namespace="sync")
    def price_sync(number):
        with Session(engine) as session:
            return session.get(Product, number).price

    @cache.cached(namespace="async")
    async def price_async(number):
        async with AsyncSession(asynchronous) as session:
            return (await session.get(Product, number)).price

    @cache.cached(namespace="rate sync")
    def rate_sync(currency):
        return rates[currency]

    @cache.cached(namespace="rate async")
    async def rate_async(currency):
        return rates[currency]

    async def price():
        return await price_async(1) if kind == "async" else price_sync(1)

    async def rate():
        return await rate_async("TWD") if kind == "async" else rate_sync("TWD")

    async def until(call, is_meant):
        async with asyncio.timeout(DEADLINE):
            while not is_meant(await call()):  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)

    def hits(namespace):
        return cache.statistics()[namespace].hits

    await until(price, lambda _: hits(kind) > 0)  # as soon as Redis is taken to be well
    await until(rate, lambda _: hits(f"rate {kind}") > 0)
    outside.execute("UPDATE product SET price = 7 WHERE id = 1")
    await until(price, lambda seen: seen == 7)
    rates["TWD"] = 33
    await until(rate, lambda seen: seen == 33)
    assert cache.statistics()[f"rate {kind}"].stale_served >= 1
    cache.close()
    await asynchronous.dispose()
