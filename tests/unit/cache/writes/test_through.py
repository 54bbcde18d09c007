"""Write-through: what was written is in the cache when the writer returns, and nothing older ever."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from upshift.cache import MISSING, Cache
from upshift.errors import SettingsError

READ = text("SELECT amount FROM price WHERE id = :id")
WRITE = text("UPDATE price SET amount = :amount WHERE id = :id")


@pytest.fixture
def url(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE price (id int PRIMARY KEY, amount int)"))
        connection.execute(text("INSERT INTO price VALUES (1, 10), (2, 20)"))
    engine.dispose()
    return f"sqlite:///{tmp_path / 'shop.db'}"


@pytest.fixture
def engine(url):
    engine = create_engine(url)
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
    @cache.cached()
    def price(number):
        with engine.connect() as connection:
            return connection.scalar(READ, {"id": number})

    return price


def test_what_was_written_is_kept_when_the_writer_returns(cache, engine, price):
    @cache.writes.through(price)
    def set_price(number, amount):
        with engine.begin() as connection:
            connection.execute(WRITE, {"id": number, "amount": amount})
        return "done"

    assert price(1) == 10
    assert set_price(1, 11) == "done"
    assert (price.get(1), price.get(2)) == (11, MISSING)
    with engine.begin() as connection:
        connection.execute(WRITE, {"id": 1, "amount": 12})
    assert (price.get(1), price(1)) == (MISSING, 12)


def test_arguments_of_readers_are_told_where_names_differ(cache, engine, price):
    @cache.writes.through(price, call=lambda result, *, product: product)
    def raise_price(*, product):
        with engine.begin() as connection:
            connection.execute(text("UPDATE price SET amount = amount + 1 WHERE id = :id"), {"id": product})

    raise_price(product=2)
    assert price.get(2) == 21


def test_several_readers_are_loaded(cache, engine, price):
    @cache.cached()
    def total():
        with engine.connect() as connection:
            return connection.scalar(text("SELECT sum(amount) FROM price"))

    @cache.writes.through(price, total)
    def set_price(number, amount):
        with engine.begin() as connection:
            connection.execute(WRITE, {"id": number, "amount": amount})

    set_price(1, 15)
    assert (price.get(1), total.get()) == (15, 35)


def test_another_writer_that_comes_between_leaves_nothing_older(cache, engine, price):
    """The schedule for which the written value itself must not be kept."""

    @cache.writes.through(price)
    def set_price(number, amount):
        with engine.begin() as connection:
            connection.execute(WRITE, {"id": number, "amount": amount})
        with engine.begin() as connection:  # of another, before this one is done
            connection.execute(WRITE, {"id": number, "amount": 99})
        return amount

    set_price(1, 11)
    assert price.get(1) == 99


def test_another_writer_that_comes_while_it_loads_leaves_nothing_older(cache, engine):
    reads = []

    @cache.cached()
    def price(number):
        with engine.connect() as connection:
            found = connection.scalar(READ, {"id": number})
        if not reads:
            reads.append(found)
            with engine.begin() as connection:
                connection.execute(WRITE, {"id": number, "amount": 99})
        return found

    @cache.writes.through(price)
    def set_price(number, amount):
        with engine.begin() as connection:
            connection.execute(WRITE, {"id": number, "amount": amount})

    set_price(1, 11)
    assert reads == [11]
    assert price.get(1) is MISSING
    assert price(1) == 99


def test_a_writer_that_fails_leaves_what_was(cache, price):
    @cache.writes.through(price)
    def set_price(number):
        raise LookupError(number)

    price(1)
    with pytest.raises(LookupError):
        set_price(1)
    assert price.get(1) == 10


def test_a_write_stands_though_its_value_cannot_be_loaded(cache, engine, caplog):
    @cache.cached()
    def price(number):
        raise LookupError(number)

    @cache.writes.through(price)
    def set_price(number, amount):
        with engine.begin() as connection:
            connection.execute(WRITE, {"id": number, "amount": amount})
        return amount

    with caplog.at_level(logging.WARNING, "upshift.cache"):
        assert [set_price(1, 11), set_price(1, 12)] == [11, 12]
    assert len(caplog.records) == 1


def test_nothing_is_loaded_within_a_transaction_that_is_not_committed(cache, engine, price, caplog):
    @cache.writes.through(price)
    def set_price(number, amount, connection):
        connection.execute(WRITE, {"id": number, "amount": amount})

    with engine.begin() as connection, caplog.at_level(logging.WARNING, "upshift.cache"):
        set_price(1, 11, connection)
        assert price.get(1) is MISSING
    assert "returned before it committed" in caplog.text
    assert price(1) == 11


def test_a_session_of_the_callers_is_not_read_from(cache, engine, caplog):
    @cache.cached(ignore=["session"])
    def price(session, number):
        return session.scalar(READ, {"id": number})

    @cache.writes.through(price)
    def set_price(session, number, amount):
        session.execute(WRITE, {"id": number, "amount": amount})
        session.commit()

    with Session(engine) as session, caplog.at_level(logging.WARNING, "upshift.cache"):
        set_price(session, 1, 11)
    assert "have the reader open one" in caplog.text
    assert price.get(None, 1) is MISSING


def test_readers_are_checked_when_the_writer_is_decorated(cache, price):
    with pytest.raises(SettingsError, match="no parameter 'number'"):
        cache.writes.through(price)(lambda product: None)
    with pytest.raises(SettingsError, match="no cached function"):
        cache.writes.through(print)(lambda product: None)

    @cache.cached()
    async def later(): ...

    with pytest.raises(SettingsError, match="write it async"):
        cache.writes.through(later)(lambda product: None)


async def test_awaited_writers_load_for_readers_of_both_kinds(cache, url, price):
    asynchronous = create_async_engine(url.replace("sqlite", "sqlite+aiosqlite"))
    cache.watch([asynchronous])
    threads = []

    @cache.cached()
    async def awaited(number):
        async with asynchronous.connect() as connection:
            return await connection.scalar(READ, {"id": number})

    @cache.cached()
    def threaded(number):
        threads.append(threading.get_ident())
        return price(number)

    @cache.writes.through(awaited, threaded)
    async def set_price(number, amount):
        async with asynchronous.begin() as connection:
            await connection.execute(WRITE, {"id": number, "amount": amount})

    await set_price(1, 11)
    assert (await awaited.get(1), threaded.get(1)) == (11, 11)
    assert threads != [threading.get_ident()]
    assert asyncio.iscoroutinefunction(set_price)
    await asynchronous.dispose()


def test_one_select_is_sent_for_a_write(cache, engine, price):
    sent = []
    event.listen(engine, "before_cursor_execute", lambda *each: sent.append(each[2].split()[0]))

    @cache.writes.through(price)
    def set_price(number, amount):
        with engine.begin() as connection:
            connection.execute(WRITE, {"id": number, "amount": amount})

    set_price(1, 11)
    assert price(1) == 11
    assert sent == ["UPDATE", "SELECT"]
