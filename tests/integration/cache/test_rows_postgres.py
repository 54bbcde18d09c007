"""Rows on a real PostgreSQL: random statements, and writers that race readers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from sqlalchemy import create_engine, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.unit.cache.dependencies.walks import NAMES, Product, Shop, Stock, Walk, fill
from upshift.cache import Cache


@pytest.fixture
def engine(postgres_database):
    engine = create_engine(postgres_database, pool_size=8)
    fill(engine)
    with engine.begin() as connection:  # what was given is not made again
        connection.execute(text("ALTER SEQUENCE product_id_seq RESTART WITH 1000"))
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
    @cache.cached(namespace="price")
    def read(number):
        with Session(engine) as session:
            return session.scalar(select(Product.price).where(Product.id == number))

    return read


@pytest.mark.parametrize("seed", range(4))
def test_a_cached_read_answers_what_a_fresh_one_does(engine, cache, seed):
    walk = Walk(engine, cache, Random(seed))
    walk.run(10)

    assert walk.stale == []


def test_a_write_to_one_row_leaves_the_values_of_others(engine, cache, price):
    assert [price(number) for number in (1, 2, 1, 2)] == [0] * 4
    with Session(engine) as session:
        session.get(Product, 1).price = 7
        session.commit()

    assert [price(1), price(2)] == [7, 0]
    assert cache.statistics()["price"].misses == 3


def test_a_row_that_was_missed_is_found_once_its_key_is_made(engine, cache, price):
    assert price(1000) is None
    assert price(1001) is None
    with Session(engine) as session:
        session.add_all([Product(price=7), Product(price=8)])
        session.commit()

    assert [price(1000), price(1001)] == [7, 8]


def test_who_inserts_reads_the_own_row_before_it_commits(engine, price):
    assert price(1000) is None
    with Session(engine) as session:
        session.add(product := Product(price=7))
        session.flush()
        assert product.id == 1000
        assert price(1) == 0
        assert price(1000) is None  # of another session, and not from the cache
        session.commit()
    assert price(1000) == 7


def test_the_mapping_that_a_row_is_read_by_may_be_a_driver_s_text(engine, cache, price):
    with engine.begin() as connection:
        assert price(1) == 0
        connection.exec_driver_sql("UPDATE product SET price = 7 WHERE id = %s", (1,))
    assert price(1) == 7


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_a_function_of_one_statement_is_kept_from_the_first_time_on(engine, cache, level):
    isolated = engine.execution_options(isolation_level=level)

    @cache.cached(namespace="f")
    def price(number):
        with Session(isolated) as session:
            return session.scalar(select(Product.price).where(Product.id == number))

    assert (price(1), price(1)) == (0, 0)
    assert cache.statistics()["f"].hits == 1


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_later_statement_of_a_snapshot_counts_for_its_table(engine, cache, level):
    """The race: between its statements another row is committed that the snapshot does not have."""
    isolated = engine.execution_options(isolation_level=level)
    between = []

    @cache.cached(namespace="f")
    def both(number):
        with Session(isolated) as session:
            one = session.scalar(select(Product.price).where(Product.id == number))
            while between:
                between.pop()()
            return one, session.scalar(select(Shop.name).where(Shop.id == number))

    def rename(name):
        with Session(engine) as session:
            session.execute(update(Shop).where(Shop.id == 1).values(name=name))
            session.commit()

    both(1)  # learns what it reads
    both(2)
    between.append(lambda: rename("new"))
    assert both(1) == (0, "")
    assert both(1) == (0, "new")
    assert both(1) == (0, "new")
    assert cache.statistics()["f"].hits == 1


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_async_sessions_name_rows_too(postgres_server, postgres_database, engine, driver):
    name = postgres_database.rpartition("/")[2].partition("?")[0]
    asynchronous = create_async_engine(postgres_server.url(name, driver=driver))
    cache = Cache()
    cache.watch([asynchronous])

    @cache.cached(namespace="f")
    async def read(number):
        async with AsyncSession(asynchronous) as session:
            found = await session.execute(
                text("SELECT price FROM product WHERE id = :id").bindparams(id=number)
            )
            known = await session.get(Product, number)
            stock = await session.get(Stock, ("north", number))
            return found.scalar(), known and known.price, stock and stock.count

    assert [await read(number) for number in (1, 2, 1, 2)] == [(0, 0, 0)] * 4
    async with AsyncSession(asynchronous) as session:
        (await session.get(Stock, ("north", 1))).count = 5
        await session.commit()
    assert [await read(number) for number in (1, 2)] == [(0, 0, 5), (0, 0, 0)]
    async with AsyncSession(asynchronous) as session:
        await session.execute(
            text("UPDATE product SET price = price + 1 WHERE id = :id"), [{"id": 1}, {"id": 77}]
        )
        await session.commit()
    assert [await read(number) for number in (1, 2)] == [(1, 1, 5), (0, 0, 0)]
    # The text of the first load was sent before any mapping was known, and so was about the table.
    assert cache.statistics()["f"].hits >= 2
    cache.close()
    await asynchronous.dispose()


class Race:
    """Writers that count rows up, and readers that tell of a row, or a sum, that they saw to be older.

    A row is never less than what was acknowledged before it was read.
    """

    numbers = (1, 2, 3)

    def __init__(self, engine, cache):
        self.stale = []
        self._engine = engine
        self._acknowledged = dict.fromkeys(self.numbers, 0)
        self._is_over = threading.Event()
        self.row = cache.cached(namespace="row")(self._row)
        self.total = cache.cached(namespace="sum")(self._total)

    def _row(self, number):
        with Session(self._engine) as session:
            return session.scalar(select(Product.price).where(Product.id == number))

    def _total(self, _):
        with Session(self._engine) as session:
            return sum(session.scalars(select(Product.price)))

    def _write(self, seed, writes):
        random = Random(seed)
        for _ in range(writes):
            number = random.choice(self.numbers)
            with Session(self._engine) as session:
                product = session.get(Product, number, with_for_update=True)
                product.price = new = product.price + 1
                if random.random() < 0.2:
                    session.execute(update(Shop).values(name=random.choice(NAMES)))
                session.commit()
            self._acknowledged[number] = max(self._acknowledged[number], new)

    def _read(self, seed):
        random = Random(seed)
        while not self._is_over.is_set() and len(self.stale) < 10:
            number = random.choice(self.numbers)
            floor, floor_of_all = self._acknowledged[number], sum(self._acknowledged.values())
            seen, seen_of_all = self.row(number), self.total(0)
            if seen < floor or seen_of_all < floor_of_all:
                self.stale.append((number, seen, floor, seen_of_all, floor_of_all))

    def run(self, writes):
        with ThreadPoolExecutor(6) as pool:
            readers = [pool.submit(self._read, seed) for seed in range(3)]
            for writer in [pool.submit(self._write, seed, writes) for seed in range(3)]:
                writer.result()
            self._is_over.set()
            for reader in readers:
                reader.result()


@pytest.mark.parametrize("is_paged", [False, True])
def test_writers_that_race_readers_of_rows_leave_nothing_stale(engine, tmp_path, is_paged):
    cache = Cache(page=tmp_path / "page" if is_paged else None)
    cache.watch([engine])
    race = Race(engine, cache)
    race.run(writes=60)

    assert race.stale == []
    assert sum(map(race.row, race.numbers)) == race.total(0) == 180
    cache.close()


@pytest.mark.parametrize("unannounced", ["row:", "table:"])
def test_the_race_finds_writers_that_do_not_tell_of_rows_or_of_tables(
    engine, cache, monkeypatch, unannounced
):
    announce = cache._tokens.announce

    def less(tags, transaction):
        announce([tag for tag in tags if not tag.startswith(unannounced)], transaction)

    monkeypatch.setattr(cache._tokens, "announce", less)
    race = Race(engine, cache)
    race.run(writes=60)

    assert race.stale
