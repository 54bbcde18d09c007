"""Values that are loaded anew as soon as a commit has ended them."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from tests.unit.cache.waiting import until, wait_until
from upshift.cache import MISSING, Cache
from upshift.errors import SettingsError


async def test_what_was_read_is_loaded_anew_and_what_was_not_is_left(cache):
    runs = []

    @cache.cached(tags=["t"], warm_after_invalidation=10, namespace="f")
    async def function(number):
        runs.append(number)
        return len(runs)

    for number in (1, 2, 3):
        await function(number)
    await function(1)
    await function(3)
    cache.invalidate("t")
    await until(lambda: cache.statistics()["f"].refreshed == 2)

    assert sorted(runs[3:]) == [1, 3]
    assert await function.get(2) is MISSING
    assert await function.get(1) > 3


async def test_the_most_read_ones_come_first_and_no_more_than_was_asked_for(cache):
    runs = []

    @cache.cached(tags=["t"], warm_after_invalidation=2, namespace="f")
    async def function(number):
        runs.append(number)

    for number in range(6):
        await function(number)
        for _ in range(number):
            await function(number)
    runs.clear()
    cache.invalidate("t")
    await until(lambda: cache.statistics()["f"].refreshed == 2)
    await asyncio.sleep(0.01)

    assert runs == [5, 4]


async def test_what_nobody_reads_again_is_loaded_anew_once(cache):
    runs = []

    @cache.cached(tags=["t"], warm_after_invalidation=2, namespace="f")
    async def function(number):
        runs.append(number)

    await function(1)
    await function(1)
    for _ in range(5):
        cache.invalidate("t")
        await asyncio.sleep(0.005)

    assert runs == [1, 1]


def test_a_commit_does_it_for_functions_in_threads(cache):
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    cache.watch([engine])
    lock = threading.Lock()  # SQLite's one connection

    @cache.cached(warm_after_invalidation=2, namespace="f")
    def count(number):
        with lock, Session(engine) as session:
            return session.scalar(text("SELECT count(*) FROM t"))

    with lock, engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (a int)"))
    count(1)
    count(1)  # SQLite: from the second load on
    count(1)
    with lock, engine.begin() as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))
    wait_until(lambda: cache.statistics()["f"].refreshed == 1)

    assert count.get(1) == 1
    engine.dispose()


async def test_a_commit_of_another_thread_does_it_in_the_loop_that_the_function_was_called_in(cache):
    loops = []

    @cache.cached(tags=["t"], warm_after_invalidation=2, namespace="f")
    async def function():
        loops.append(asyncio.get_running_loop())

    await function()
    await function()
    await asyncio.to_thread(cache.invalidate, "t")
    await until(lambda: cache.statistics()["f"].refreshed == 1)

    assert loops == [asyncio.get_running_loop()] * 2


def test_a_loop_that_is_closed_is_forgotten(cache):
    @cache.cached(tags=["t"], warm_after_invalidation=2, namespace="f")
    async def function():
        return None

    async def twice():
        await function()
        await function()

    for _ in range(3):
        asyncio.run(twice())
        cache.invalidate("t")

    (listener,) = cache._tokens.listeners
    assert listener.__self__._waiting == {}


async def test_what_is_overtaken_while_it_loads_anew_is_not_kept(cache):
    value, may_end, runs = ["first"], asyncio.Event(), []

    @cache.cached(tags=["t"], warm_after_invalidation=2, namespace="f")
    async def function():
        runs.append(value[0])
        seen = value[0]
        if len(runs) == 2:
            await may_end.wait()
        return seen

    await function()
    await function()
    value[0] = "second"
    cache.invalidate("t")
    await until(lambda: len(runs) == 2)
    value[0] = "third"
    cache.invalidate("t")
    may_end.set()
    await asyncio.sleep(0.01)

    assert await function() == "third"


async def test_what_fails_is_counted_and_hinders_nobody(cache):
    runs = []

    @cache.cached(tags=["t"], warm_after_invalidation=2, namespace="f")
    async def function(number):
        runs.append(number)
        if len(runs) > 2 and number == 1:
            raise ConnectionError
        return number

    for number in (1, 1, 1, 2, 2):
        await function(number)
    cache.invalidate("t")
    await until(lambda: cache.statistics()["f"].refreshed == 1)

    assert cache.statistics()["f"].errors == 1
    assert await function.get(2) == 2


async def test_a_cancelled_worker_leaves_room_for_the_next(cache):
    runs = []

    @cache.cached(tags=["t"], warm_after_invalidation=2, namespace="f")
    async def function():
        runs.append(1)
        if len(runs) == 2:
            await asyncio.sleep(100)

    await function()
    await function()
    cache.invalidate("t")
    await until(lambda: len(runs) == 2)
    (task,) = cache._background._tasks
    task.cancel()
    await asyncio.wait([task])
    await function()
    await function()
    cache.invalidate("t")
    await until(lambda: cache.statistics()["f"].refreshed == 1)

    assert len(runs) == 4


def test_a_fault_of_it_does_not_look_like_a_failed_commit(cache, caplog):
    def listener(tags):
        raise RuntimeError("a fault")

    cache._tokens.listeners.append(listener)
    cache.invalidate("t")
    cache.invalidate("t")

    assert [each.message for each in caplog.records] == ["what a commit has ended could not be loaded anew"]


def test_many_threads_that_read_and_write_leave_nothing_behind(cache):
    value = [0]

    @cache.cached(tags=["t"], warm_after_invalidation=3, namespace="f")
    def function(number):
        return value[0]

    def work(seed):
        for step in range(300):
            if step % 10 == seed:
                value[0] += 1
                floor = value[0]
                cache.invalidate("t")
                assert function(step % 5) >= floor
            else:
                function(step % 5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    wait_until(lambda: not cache._background._threads)

    (listener,) = cache._tokens.listeners
    assert listener.__self__._waiting == {}
    assert cache.statistics()["f"].refreshed > 0


async def test_what_is_remembered_is_bounded_whatever_is_called():
    cache = Cache(max_entries=50)

    @cache.cached(tags=["t:{number}"], warm_after_invalidation=2, refresh_ahead=0.5, ttl="1h", namespace="f")
    async def function(number):
        return number

    for number in range(2_000):
        await function(number)
        await function.get(number)
        if number % 10 == 0:
            cache.invalidate(f"t:{number}")
    await until(lambda: not cache._background._tasks)
    (listener,) = cache._tokens.listeners

    assert len(listener.__self__._known) <= 20
    assert listener.__self__._waiting == {}
    assert cache._flights._loads == {}
    assert len(cache._memory.entries) <= 50
    gc.collect()
    assert len(listener.__self__._store.tokens.stamp.__self__._tags) <= 52
    cache.close()


def test_how_many_is_a_number_of_values(cache):
    with pytest.raises(SettingsError, match="counts values: -1"):
        cache.cached(warm_after_invalidation=-1)
    with pytest.raises(SettingsError, match="cannot use session"):
        cache.cached(warm_after_invalidation=1, ignore=["session"])
