"""Values that are loaded anew before their time is up, while the old ones are served."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from tests.unit.cache.waiting import until, wait_until
from upshift.cache.dependencies import CURRENT
from upshift.cache.functions import Background, entry_of, refreshing
from upshift.cache.functions.background import MAX_TASKS, MAX_THREADS, own_context
from upshift.cache.functions.store import Dependence
from upshift.errors import SettingsError


def make_due(cache):
    for entry in cache._memory.entries.values():
        entry.renew_from(0.0)


async def test_a_hit_that_is_due_gets_the_old_value_at_once_and_has_a_new_one_loaded(cache):
    runs, may_end = [], asyncio.Event()

    @cache.cached(ttl=100, refresh_ahead=0.2, namespace="f")
    async def function(number):
        runs.append(number)
        if len(runs) > 1:
            await may_end.wait()
        return len(runs)

    assert await function(7) == 1
    make_due(cache)

    assert [await function(7) for _ in range(5)] == [1] * 5
    await until(lambda: len(runs) == 2)
    assert await function(7) == 1
    may_end.set()
    await until(lambda: cache.statistics()["f"].refreshed == 1)
    assert await function(7) == 2
    assert runs == [7, 7]
    assert cache.statistics()["f"].misses == 1


def test_threads_have_it_loaded_in_one_of_its_own_once(cache):
    runs, may_end, names = [], threading.Event(), set()

    @cache.cached(ttl=100, refresh_ahead=0.2, namespace="f")
    def function():
        runs.append(1)
        names.add(threading.current_thread().name)
        if len(runs) > 1:
            may_end.wait(10)
        return len(runs)

    assert function() == 1
    make_due(cache)
    threads = [threading.Thread(target=function) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(runs) == 2)
    may_end.set()
    wait_until(lambda: cache.statistics()["f"].refreshed == 1)

    assert function() == 2
    assert len(runs) == 2
    assert names == {threading.current_thread().name, "upshift-cache"}


async def test_who_finds_the_old_value_overtaken_waits_for_the_refresh_if_that_saw_the_commit(cache):
    value, may_end, runs = ["old"], asyncio.Event(), []

    @cache.cached(ttl=100, refresh_ahead=0.2, tags=["t"])
    async def function():
        runs.append(value[0])
        if len(runs) > 1:
            seen = value[0]
            await may_end.wait()
            return seen
        return value[0]

    await function()
    make_due(cache)
    value[0] = "new"
    cache.invalidate("t")
    call = asyncio.create_task(function())
    await until(lambda: len(runs) == 2)
    may_end.set()
    assert await call == "new"


async def test_a_refresh_that_is_overtaken_by_a_commit_is_not_kept(cache):
    value, may_end, has_read = ["old"], asyncio.Event(), asyncio.Event()

    @cache.cached(ttl=100, refresh_ahead=0.2, tags=["t"], namespace="f")
    async def function():
        seen = value[0]
        if has_read.is_set() or cache.statistics()["f"].fills == 0:
            return seen
        has_read.set()
        await may_end.wait()
        return seen

    assert await function() == "old"
    make_due(cache)
    assert await function() == "old"
    await has_read.wait()
    value[0] = "new"
    cache.invalidate("t")
    may_end.set()
    await asyncio.sleep(0.01)

    assert await function() == "new"
    assert cache.statistics()["f"].refreshed == 0


async def test_a_refresh_that_fails_leaves_the_value_until_its_time_is_up_and_is_tried_again(
    cache, monkeypatch
):
    monkeypatch.setattr(refreshing, "RETRY_SECONDS", 0.0)
    runs = []

    @cache.cached(ttl=100, refresh_ahead=0.2, namespace="f")
    async def function():
        runs.append(1)
        if len(runs) == 2:
            raise ConnectionError
        return len(runs)

    assert await function() == 1
    make_due(cache)
    assert await function() == 1
    await until(lambda: cache.statistics()["f"].errors == 1)
    assert await function() == 1
    await until(lambda: cache.statistics()["f"].refreshed == 1)
    assert await function() == 3


async def test_a_failed_refresh_never_makes_a_value_last_longer(cache, monkeypatch):
    monkeypatch.setattr(refreshing, "RETRY_SECONDS", 1_000.0)
    runs = []

    @cache.cached(ttl=100, refresh_ahead=0.2, namespace="f")
    async def function():
        runs.append(1)
        if len(runs) == 2:
            raise ConnectionError

    await function()
    make_due(cache)
    await function()
    await until(lambda: cache.statistics()["f"].errors == 1)
    (entry,) = cache._memory.entries.values()

    assert entry.renewal <= entry.expires


async def test_a_cancelled_refresh_takes_nothing_along(cache, monkeypatch):
    monkeypatch.setattr(refreshing, "RETRY_SECONDS", 0.0)
    runs = []

    @cache.cached(ttl=100, refresh_ahead=0.2, namespace="f")
    async def function():
        runs.append(1)
        if len(runs) == 2:
            await asyncio.sleep(100)
        return len(runs)

    assert await function() == 1
    make_due(cache)
    await function()
    await until(lambda: len(runs) == 2)
    (task,) = cache._background._tasks
    task.cancel()
    await asyncio.wait([task])

    assert await function() == 1
    await until(lambda: cache.statistics()["f"].refreshed == 1)
    assert await function() == 3


async def test_closing_gives_up_what_is_being_refreshed_and_keeps_nothing(cache):
    runs, ended = [], []

    @cache.cached(ttl=100, refresh_ahead=0.2, namespace="f")
    async def function():
        runs.append(1)
        if len(runs) == 2:
            try:
                await asyncio.sleep(100)
            finally:
                ended.append(1)

    await function()
    make_due(cache)
    await function()
    await until(lambda: len(runs) == 2)
    cache.close()
    await until(lambda: ended)
    await function()

    assert not cache._memory.entries


async def test_a_refresh_neither_counts_for_who_asked_nor_sees_what_it_has_written(cache):
    seen, tenant = [], ContextVar("tenant")

    @cache.cached(ttl=100, refresh_ahead=0.2, namespace="inner")
    async def inner():
        reading = CURRENT.get()
        seen.append((reading._outer is not None, tenant.get()))
        return len(seen)

    @cache.cached(namespace="outer")
    async def outer():
        return await inner()

    tenant.set("tw")
    await inner()
    make_due(cache)
    await outer()
    await until(lambda: len(seen) == 2)

    assert seen == [(False, "tw"), (False, "tw")]


async def test_a_session_of_the_caller_is_never_used_in_the_background(cache):
    runs = []

    @cache.cached(ttl=100, refresh_ahead=0.2, key=lambda session, number: number)
    async def function(session, number):
        runs.append(number)

    with Session() as session:
        await function(session, 7)
        make_due(cache)
        await function(session, 7)
        await asyncio.sleep(0.01)

    assert runs == [7]


def test_what_does_not_go_with_a_refresh_is_said_where_it_is_written(cache):
    with pytest.raises(SettingsError, match="session, which its caller may have closed"):
        cache.cached(ttl="1m", refresh_ahead=0.2, ignore=["session"])
    with pytest.raises(SettingsError, match="a share of ttl: give one"):
        cache.cached(refresh_ahead=0.2)
    for share in (-0.1, 1.0, 60):
        with pytest.raises(SettingsError, match="a share of ttl from 0 to 1"):
            cache.cached(ttl="1m", refresh_ahead=share)


@given(st.floats(0.01, 0.99), st.floats(0.001, 1e7))
def test_a_refresh_is_due_in_its_share_of_the_time_and_never_at_once(share, seconds):
    entry = entry_of(("n", 1), "value", Dependence(frozenset(), (), ""), seconds, share)
    lasts = entry.expires - entry.made

    assert entry.made < entry.renewal < entry.expires
    assert share * 0.49 <= (entry.expires - entry.renewal) / lasts <= share * 1.01


async def test_no_more_than_so_many_run_at_once():
    background, may_end, begun = Background(), asyncio.Event(), []

    async def work():
        begun.append(1)
        await may_end.wait()

    assert [background.run_async(work, own_context()) for _ in range(MAX_TASKS + 1)][-2:] == [True, False]
    await asyncio.sleep(0)
    assert len(begun) == MAX_TASKS
    may_end.set()
    await until(lambda: not background._tasks)
    assert background.run_async(work, own_context())
    await asyncio.sleep(0)


async def test_loops_that_were_closed_in_the_midst_of_it_take_no_room():
    background = Background()
    left = []

    def begin_and_leave():
        loop = asyncio.new_event_loop()

        async def begin():
            for _ in range(MAX_TASKS):
                assert background.run_async(asyncio.Event().wait, own_context())

        loop.run_until_complete(begin())
        left.extend((loop, task) for task in background._tasks)
        loop.close()

    await asyncio.to_thread(begin_and_leave)
    assert len(background._tasks) == MAX_TASKS
    ended = asyncio.Event()
    ended.set()

    assert background.run_async(ended.wait, own_context())
    assert len(background._tasks) == 1
    for _, task in left:
        task._log_destroy_pending = False  # asyncio tells of them, rightly
        task.get_coro().close()


def test_nor_in_threads():
    background, may_end = Background(), threading.Event()

    assert [background.run_sync(may_end.wait, own_context()) for _ in range(MAX_THREADS + 1)] == [
        *[True] * MAX_THREADS,
        False,
    ]
    may_end.set()
    wait_until(lambda: not background._threads)
    assert background.run_sync(may_end.wait, own_context())


def test_where_no_thread_can_be_had_the_hit_is_answered_all_the_same(cache, monkeypatch):
    @cache.cached(ttl=100, refresh_ahead=0.2)
    def function():
        return "value"

    def start(_self):
        raise RuntimeError("can't start new thread")

    function()
    make_due(cache)
    monkeypatch.setattr(threading.Thread, "start", start)

    assert function() == "value"
    assert cache._background._threads == 0


async def test_a_closed_loop_does_not_hinder_closing():
    background = Background()

    def begin_and_leave():
        loop = asyncio.new_event_loop()

        async def begin():
            background.run_async(lambda: asyncio.sleep(100), own_context())

        loop.run_until_complete(begin())
        (task,) = background._tasks
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        background._tasks.add(task)
        loop.close()

    await asyncio.to_thread(begin_and_leave)
    background.close()

    assert not background.run_sync(lambda: None, own_context())
