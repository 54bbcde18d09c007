"""What runs in the background of cached functions, on a real PostgreSQL: nothing stale, whatever races."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.unit.cache.waiting import until
from upshift.cache import MISSING, Cache

READ = text("SELECT version FROM item WHERE id = :id")
WRITE = text("UPDATE item SET version = version + 1 WHERE id = :id RETURNING version")


@pytest.fixture
def engine(postgres_database):
    engine = create_engine(postgres_database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE item (id int PRIMARY KEY, version int)"))
        connection.execute(text("INSERT INTO item SELECT i, 0 FROM generate_series(1, 5) i"))
    yield engine
    engine.dispose()


@pytest.fixture
def cache(engine):
    cache = Cache()
    cache.watch([engine])
    yield cache
    cache.close()
    while cache._background._threads:  # they have connections
        time.sleep(0.001)


@pytest.fixture
async def asynchronous(postgres_server, postgres_database, engine, cache):
    name = postgres_database.rpartition("/")[2].partition("?")[0]
    asynchronous = create_async_engine(postgres_server.url(name, driver="asyncpg"))
    cache.watch([asynchronous])
    yield asynchronous
    await until(lambda: not cache._background._tasks)  # they have connections
    await asynchronous.dispose()


def make_due(cache):
    for entry in tuple(cache._memory.entries.values()):
        entry.renew_from(0.0)


def disturb(cache, version, engine, numbers):
    number = numbers.randrange(1, 6)
    match numbers.randrange(12):
        case 0:
            version.delete(number)
        case 1:
            with cache.loading(), engine.connect() as connection:
                version.set(connection.scalar(READ, {"id": number}), number)
        case 2:
            version.refresh(number)
        case _:
            make_due(cache)


def test_threads_see_nothing_stale_whatever_runs_in_the_background(engine, cache):
    """Readers, writers, refreshes ahead and after commits, deletions, and values that are set."""
    acknowledged, stale, is_over = [0] * 6, [], threading.Event()

    @cache.cached(ttl="1h", refresh_ahead=0.5, warm_after_invalidation=5, namespace="version")
    def version(number):
        with engine.connect() as connection:
            return connection.scalar(READ, {"id": number})

    def write(seed):
        numbers = random.Random(seed)
        for _ in range(80):
            number = numbers.randrange(1, 6)
            with engine.begin() as connection:
                new = connection.scalar(WRITE, {"id": number})
            acknowledged[number] = max(acknowledged[number], new)
            is_over.wait(numbers.random() / 100)

    def read(seed):
        numbers = random.Random(seed)
        while not is_over.is_set():
            number = numbers.randrange(1, 6)
            floor = acknowledged[number]
            seen = version(number)
            if seen < floor:
                stale.append((seen, floor))
            if numbers.random() < 0.05:
                disturb(cache, version, engine, numbers)

    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(Context().run, read, seed) for seed in range(3)]
        for writer in [pool.submit(Context().run, write, seed) for seed in range(2)]:
            writer.result()
        is_over.set()
        for reader in readers:
            reader.result()

    counted = cache.statistics()["version"]
    assert stale == []
    assert counted.refreshed > 0
    assert counted.hits > 10


async def test_tasks_see_nothing_stale_either(cache, asynchronous):
    acknowledged, stale, is_over = [0] * 6, [], asyncio.Event()

    @cache.cached(ttl="1h", refresh_ahead=0.5, warm_after_invalidation=5, namespace="version")
    async def version(number):
        async with asynchronous.connect() as connection:
            return await connection.scalar(READ, {"id": number})

    async def write(seed):
        numbers = random.Random(seed)
        for _ in range(60):
            number = numbers.randrange(1, 6)
            async with asynchronous.begin() as connection:
                new = await connection.scalar(WRITE, {"id": number})
            acknowledged[number] = max(acknowledged[number], new)
            await asyncio.sleep(numbers.random() / 50)

    async def read(seed):
        numbers = random.Random(seed)
        while not is_over.is_set():
            number = numbers.randrange(1, 6)
            floor = acknowledged[number]
            seen = await version(number)
            if seen < floor:
                stale.append((seen, floor))
            if numbers.random() < 0.1:
                make_due(cache)
            if numbers.random() < 0.02:
                await version.delete(number)
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read(seed)) for seed in range(4)]
    await asyncio.gather(*(write(seed) for seed in range(3)))
    is_over.set()
    await asyncio.gather(*readers)

    assert stale == []
    assert cache.statistics()["version"].refreshed > 0
    assert cache.statistics()["version"].hits > 10


async def test_a_commit_has_what_was_read_loaded_anew_in_the_background(cache, asynchronous):
    @cache.cached(warm_after_invalidation=3, namespace="version")
    async def version(number):
        async with asynchronous.connect() as connection:
            return await connection.scalar(READ, {"id": number})

    await version(1)
    await version(1)
    async with asynchronous.begin() as connection:
        await connection.execute(WRITE, {"id": 1})
    await until(lambda: cache.statistics()["version"].refreshed)

    assert await version.get(1) == 1
    async with asynchronous.begin() as connection:
        await connection.execute(WRITE, {"id": 1})
        await connection.rollback()
    assert await version.get(1) == 1


async def test_a_page_of_values_is_filled_by_one_query(cache, asynchronous):
    runs = []

    @cache.cached(namespace="version")
    async def version(number):
        runs.append(number)

    async def page(numbers):
        found = await version.get_many(numbers)
        missing = [number for number, value in zip(numbers, found, strict=True) if value is MISSING]
        with cache.loading():
            async with asynchronous.connect() as connection:
                rows = await connection.execute(
                    text("SELECT id, version FROM item WHERE id = ANY(:ids)"), {"ids": missing}
                )
                for number, value in rows:
                    assert await version.set(value, number)
        return await version.get_many(numbers)

    assert await page([1, 2]) == [0, 0]
    assert await page([1, 2, 3]) == [0, 0, 0]
    async with asynchronous.begin() as connection:
        await connection.execute(WRITE, {"id": 2})
    assert (await page([1, 2, 3]))[1] == 1
    assert runs == []


def test_while_the_database_answers_with_errors_who_asked_gets_the_last_value(engine, cache):
    @cache.cached(stale_on_error="10m", namespace="version")
    def version(number):
        with engine.connect() as connection:
            return connection.scalar(READ, {"id": number})

    @cache.cached(namespace="strict")
    def strict(number):
        with engine.connect() as connection:
            return connection.scalar(READ, {"id": number})

    assert (version(1), strict(1)) == (0, 0)
    with engine.begin() as connection:
        connection.execute(WRITE, {"id": 1})
        connection.execute(text("ALTER TABLE item RENAME TO moved"))

    assert version(1) == 0
    with pytest.raises(ProgrammingError):
        strict(1)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE moved RENAME TO item"))
    assert (version(1), strict(1)) == (1, 1)
    assert cache.statistics()["version"].stale_served_on_error == 1


def test_nothing_there_is_an_answer_until_it_is_there(engine, cache):
    runs = []

    @cache.cached(negative_ttl="1h", cache_errors=[LookupError])
    def version(number):
        runs.append(number)
        with engine.connect() as connection:
            found = connection.scalar(READ, {"id": number})
        if found is None:
            raise LookupError(number)
        return found

    for _ in range(3):
        with pytest.raises(LookupError):
            version(9)
    assert runs == [9]
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO item VALUES (9, 7)"))
    assert version(9) == 7
