"""Write-behind on a real PostgreSQL: killed processes lose nothing that was acknowledged."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from upshift.cache import Cache

UPSERT = text(
    "INSERT INTO stock VALUES (:key, :left) ON CONFLICT (key) DO UPDATE SET amount = excluded.amount"
)

WRITER = """
import os, sys, threading
from itertools import count
from sqlalchemy import create_engine, text
from upshift.cache import Cache

url, folder, name, base = sys.argv[1:]
engine = create_engine(url)
upsert = text(
    "INSERT INTO stock VALUES (:key, :left) ON CONFLICT (key) DO UPDATE SET amount = excluded.amount"
)


def flush(values):
    with engine.begin() as connection:
        connection.execute(upsert, [{"key": key, "left": left} for key, left in values.items()])


stock = Cache().writes.behind("stock", flush, folder=folder, delay="5ms", max_batch=20)
stock.start()


def put(thread):
    for number in count(int(base)):
        key = f"{name}:{thread}:{number % 7}"
        stock.put(key, number)
        os.write(1, f"{key} {number}\\n".encode())  # in one call, so that no line is half of one


threads = [threading.Thread(target=put, args=(each,)) for each in range(4)]
for each in threads:
    each.start()
"""


@pytest.fixture
def engine(postgres_database):
    engine = create_engine(postgres_database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE stock (key text PRIMARY KEY, amount int CHECK (amount >= 0))"))
    yield engine
    engine.dispose()


def flushing(engine):
    def flush(values):
        with engine.begin() as connection:
            connection.execute(UPSERT, [{"key": key, "left": left} for key, left in values.items()])

    return flush


def amounts(engine):
    with engine.connect() as connection:
        return dict(connection.execute(text("SELECT key, amount FROM stock")).all())


def write_until_killed(url, folder, name, base, seconds):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(folder), name, str(base)], stdout=subprocess.PIPE
    )
    first = process.stdout.readline()
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    lines = [first, *process.stdout.readlines()]
    process.stdout.close()
    process.wait()
    return {key: int(number) for key, number in (line.decode().split() for line in lines)}


def test_what_was_acknowledged_is_in_the_database_though_the_process_is_killed(
    engine, postgres_database, tmp_path
):
    """Each process takes over what the one before has left, and goes on with higher numbers."""
    numbers, acknowledged = random.Random(5), {}
    for each in range(4):
        seen = write_until_killed(postgres_database, tmp_path, "a", each * 1_000_000, numbers.random() / 2)
        assert seen
        acknowledged |= seen

    with Cache().writes.behind("stock", flushing(engine), folder=tmp_path) as stock:
        assert stock.flush(30) == 0
    found = amounts(engine)
    assert {key: number for key, number in acknowledged.items() if found.get(key, -1) < number} == {}
    assert list(tmp_path.joinpath("stock").iterdir()) == []


def test_a_living_process_takes_over_from_a_dead_one(engine, postgres_database, tmp_path):
    with Cache().writes.behind("stock", flushing(engine), folder=tmp_path) as stock:
        stock.put("mine", 1)
        acknowledged = write_until_killed(postgres_database, tmp_path, "other", 0, 0.2)
        until = time.monotonic() + 30
        while any(amounts(engine).get(key, -1) < number for key, number in acknowledged.items()):
            assert time.monotonic() < until, stock.statistics()
            time.sleep(0.05)
        assert amounts(engine)["mine"] == 1


def test_a_bad_write_becomes_a_dead_letter_and_holds_up_no_other(engine, tmp_path):
    behind = Cache().writes.behind(
        "stock", flushing(engine), folder=tmp_path, attempts=2, delay="1ms", max_batch=50
    )
    with behind as stock:
        for number in range(100):
            stock.put(f"item:{number}", -1 if number == 37 else number)
        until = time.monotonic() + 30
        while not stock.statistics().given_up:
            stock.put("other", 1)  # what succeeds between shows that it is not the database
            assert time.monotonic() < until, stock.statistics()
            time.sleep(0.01)
        assert stock.flush(30) == 0
        (letter,) = stock.dead_letters()

    found = amounts(engine)
    assert (letter.key, stock.value_of(letter)) == ("item:37", -1)
    assert "check" in letter.error.lower()
    assert {key: found.get(key) for key in ("item:36", "item:37", "item:38", "item:99")} == {
        "item:36": 36, "item:37": None, "item:38": 38, "item:99": 99,
    }  # fmt: skip


def test_writes_wait_for_a_database_that_is_away(engine, tmp_path):
    engines = [create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")]

    def flush(values):
        flushing(engines[0])(values)

    with Cache().writes.behind("stock", flush, folder=tmp_path, attempts=1) as stock:
        for number in range(50):
            stock.put(f"item:{number}", number)
        assert stock.flush(0.5) == 50
        assert stock.get("item:7") == 7
        engines[0] = engine
        assert stock.flush(30) == 0
        assert stock.dead_letters() == []
    assert len(amounts(engine)) == 50


async def test_tasks_write_and_flush_by_an_async_engine(engine, postgres_server, postgres_database, tmp_path):
    name = postgres_database.rpartition("/")[2].partition("?")[0]
    asynchronous = create_async_engine(postgres_server.url(name, driver="asyncpg"))
    cache = Cache()
    cache.watch([asynchronous])

    @cache.cached()
    async def amount(key):
        async with asynchronous.connect() as connection:
            return await connection.scalar(text("SELECT amount FROM stock WHERE key = :key"), {"key": key})

    async def flush(values):
        async with asynchronous.begin() as connection:
            await connection.execute(UPSERT, [{"key": key, "left": left} for key, left in values.items()])

    async with cache.writes.behind("stock", flush, folder=tmp_path, load=amount).aio as stock:
        assert await stock.aio.get("hose") is None
        await asyncio.gather(*[stock.aio.put("hose", number) for number in range(300)])
        assert await stock.aio.get("hose") == 299
        assert await stock.aio.flush(30) == 0
        assert await amount("hose") == await stock.aio.get("hose") == 299
    assert amounts(engine) == {"hose": 299}
    await asynchronous.dispose()
    cache.close()
