"""The auditor: what it finds, what it leaves alone, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from upshift.cache import Cache, auditor
from upshift.cache.auditor import cause_of
from upshift.errors import SettingsError

DEADLINE = 20.0


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int] = mapped_column(default=0)


@pytest.fixture(autouse=True)
def _always(monkeypatch):
    monkeypatch.setattr(auditor, "REST", 0.0)


@pytest.fixture
def cache():
    cache = Cache(audit=1)
    yield cache
    cache.close()


@pytest.fixture
def engine(cache, tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO product VALUES (1, 0)"))
        connection.execute(text("CREATE VIEW dear AS SELECT * FROM product WHERE price > 10"))
    cache.watch([engine])
    yield engine
    engine.dispose()


def counted(cache, namespace="f"):
    return cache.statistics()[namespace]


def until(condition):
    ends = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.002)


def audited(cache, function, *arguments, times=1):
    """Call a cached function until so many of its hits were audited."""
    seen = counted(cache).audited

    def is_audited():
        function(*arguments)
        return counted(cache).audited >= seen + times

    until(is_audited)


def is_resting(cache):
    return cache._auditor._not_before > time.monotonic()


def test_a_value_that_is_right_is_left_alone(cache, engine, caplog):
    @cache.cached(namespace="f")
    def price(number):
        with Session(engine) as session:
            return session.get(Product, number).price

    price(1)
    audited(cache, price, 1, times=3)

    assert counted(cache).stale_served == 0
    assert not caplog.records


def test_a_view_whose_tables_were_not_told_is_found_and_named(cache, engine, caplog):
    @cache.cached(namespace="f")
    def dear():
        with engine.connect() as connection:
            return connection.scalar(text("SELECT count(*) FROM dear"))

    assert dear() == 0
    with engine.begin() as connection:
        connection.execute(text("UPDATE product SET price = 50"))
    assert dear() == 0  # stale, and the reason for all this
    until(lambda: dear() == 1)

    assert counted(cache).stale_served == 1
    (record,) = caplog.records
    assert "f has served a value that is not what it would be now" in record.message
    assert "dear is a view: tell the tables behind it, Cache(views={'dear': [...]})" in record.message


def test_a_writer_past_the_watched_engines_is_named_by_its_table(cache, engine, caplog):
    other = create_engine(engine.url)

    @cache.cached(namespace="f")
    def price(number):
        with Session(engine) as session:
            return session.get(Product, number).price

    assert price(1) == 0
    for price_now in (50, 60):
        with other.begin() as connection:
            connection.execute(text(f"UPDATE product SET price = {price_now}"))
        until(lambda: price(1) == price_now)  # noqa: B023 - called at once

    assert counted(cache).stale_served == 2
    (record,) = caplog.records  # once for each function
    assert "product was written by others than the watched engines" in record.message
    other.dispose()


def test_what_is_in_no_database_is_found_too(cache, caplog):
    rates = {"TWD": 32}

    @cache.cached(namespace="f")
    def rate(currency):
        return rates[currency]

    assert rate("TWD") == 32
    rates["TWD"] = 33
    until(lambda: rate("TWD") == 33)

    assert counted(cache).stale_served == 1
    assert "tell what it depends on by tags=, or give a ttl" in caplog.records[0].message


def test_a_function_that_answers_differently_each_time_is_not_stale(cache, caplog):
    numbers = iter(range(10_000))

    @cache.cached(namespace="f")
    def number():
        return next(numbers)

    number()
    audited(cache, number, times=3)

    assert counted(cache).stale_served == 0
    assert not caplog.records


def test_a_write_that_is_known_of_is_no_stale_value(cache):
    value, goes_on = [0], threading.Event()

    @cache.cached(namespace="f", tags=["t"])
    def read():
        seen = value[0]
        if seen:
            goes_on.wait(DEADLINE)
        return seen

    assert read() == 0
    value[0] = 1
    read()  # audited, by a run that waits
    cache.invalidate("t")
    goes_on.set()

    until(lambda: counted(cache).audited >= 1)
    assert counted(cache).stale_served == 0


def test_objects_are_compared_by_their_columns(cache, engine):
    @cache.cached(namespace="f")
    def product(number) -> Product:
        with Session(engine) as session:
            return session.get(Product, number)

    product(1)
    audited(cache, product, 1, times=2)
    assert counted(cache).stale_served == 0

    with create_engine(engine.url).begin() as connection:
        connection.execute(text("UPDATE product SET price = 50"))
    until(lambda: product(1).price == 50)
    assert counted(cache).stale_served == 1


def test_nobody_waits_for_it_and_there_is_one_at_a_time(cache):
    runs, goes_on = [], threading.Event()

    @cache.cached(namespace="f")
    def slow(number):
        runs.append(number)
        if len(runs) > 2:
            goes_on.wait(DEADLINE)
        return number

    slow(1)
    slow(2)
    for _ in range(200):
        slow(1)
        slow(2)
    until(lambda: len(runs) == 3)
    assert counted(cache).hits == 400
    goes_on.set()
    until(lambda: counted(cache).audited == 1)


def test_it_rests_for_nine_times_as_long_as_it_took(cache, monkeypatch):
    monkeypatch.setattr(auditor, "REST", 1e9)

    @cache.cached(namespace="f")
    def function():
        return 7

    function()
    function()
    until(lambda: counted(cache).audited == 1)
    until(lambda: is_resting(cache))
    for _ in range(100):
        function()

    assert counted(cache).audited == 1


def test_an_audit_that_is_lost_with_its_event_loop_does_not_end_all_others(cache, monkeypatch):
    monkeypatch.setattr(auditor, "LONGEST", 0.05)

    @cache.cached(namespace="f")
    async def function():
        return 7

    async def twice():
        await function()
        await function()  # the loop is closed before what this has begun

    asyncio.run(twice())
    ends = time.monotonic() + DEADLINE
    while counted(cache).audited == 0 and time.monotonic() < ends:
        asyncio.run(_and_wait(function))

    assert counted(cache).audited > 0


async def _and_wait(function):
    await function()
    await asyncio.sleep(0.01)


def test_one_in_so_many_hits_is_looked_at():
    cache = Cache(audit=50)

    @cache.cached(namespace="f")
    def function():
        return 7

    for _ in range(50):  # the first loads
        function()
    assert counted(cache).audited == 0
    function()
    until(lambda: counted(cache).audited == 1)
    cache.close()


@pytest.mark.parametrize("options", [{"audit": False}, {"ignore": ["session"]}])
def test_functions_may_be_left_out_and_those_with_a_session_of_the_caller_s_are(cache, options):
    runs = []

    @cache.cached(namespace="f", **options)
    def function(session=None):
        runs.append(session)
        return 7

    for _ in range(20):
        function(None)

    assert (len(runs), counted(cache).audited) == (1, 0)


def test_a_function_that_fails_now_is_left(cache, caplog):
    is_broken = []

    @cache.cached(namespace="f")
    def function():
        if is_broken:
            raise LookupError
        return 7

    function()
    is_broken.append(True)
    for _ in range(10):
        assert function() == 7
    until(lambda: not is_resting(cache))

    assert counted(cache).stale_served == 0
    assert not [each for each in caplog.records if each.levelno > logging.DEBUG]


class Odd:
    def __eq__(self, other):
        raise ValueError("neither equal nor not")

    __hash__ = object.__hash__


def test_values_that_cannot_be_compared_are_not_called_stale(cache, caplog):
    @cache.cached(namespace="f")
    def function():
        return Odd()

    function()
    audited(cache, function)

    assert counted(cache).stale_served == 0
    assert not caplog.records


async def test_async_functions_are_audited_in_their_loop(cache, tmp_path, caplog):
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    cache.watch([engine])
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(text("INSERT INTO product VALUES (1, 0)"))
        await connection.execute(text("CREATE VIEW dear AS SELECT * FROM product WHERE price > 10"))

    @cache.cached(namespace="f")
    async def dear():
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT count(*) FROM dear"))

    assert await dear() == 0
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE product SET price = 50"))
    ends = time.monotonic() + DEADLINE
    while await dear() != 1:
        assert time.monotonic() < ends
        await asyncio.sleep(0.002)

    assert counted(cache).stale_served == 1
    assert "dear is a view" in caplog.records[0].message
    await engine.dispose()


def test_a_cache_without_it_calls_nothing_more():
    cache = Cache()

    @cache.cached(namespace="f")
    def function():
        return 7

    assert cache._auditor is None
    assert function.__code__.co_name == "cached"
    cache.close()


def test_it_is_told_how_often():
    with pytest.raises(SettingsError, match="audit counts hits"):
        Cache(audit=0)


@pytest.mark.parametrize(
    ("kept", "read", "views", "told"),
    [
        ({"*", "table:a"}, {"*", "row:b:5", "rows:b"}, (), "it reads b now and did not then"),
        ({"*", "table:v"}, {"*", "table:v"}, ("V",), "v is a view"),
        ({"*", "table:v", "table:w"}, {"*", "table:v", "table:w"}, ("v", "w"), "v, w are views"),
        ({"namespace:f"}, {"namespace:f"}, (), "it reads from no database"),
        ({"*", "row:a:5", "rows:a"}, {"*", "row:a:5", "rows:a"}, (), "a was written by others"),
    ],
)
def test_causes(kept, read, views, told):
    assert cause_of(frozenset(kept), frozenset(read), views).startswith(told)
