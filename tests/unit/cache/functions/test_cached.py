"""Cached functions: one load for all who ask, and what becomes of the others when it fails."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import greenlet
import pytest
from sqlalchemy import create_engine, text

from upshift.cache import Cache
from upshift.errors import CacheKeyError, SettingsError


class Loads:
    """A function that counts its runs, and waits for `may_end` in each."""

    def __init__(self):
        self.runs = 0
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self, number):
        self.runs += 1
        self.began.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return number


async def test_calls_that_come_while_a_value_loads_share_the_load(cache):
    loads = Loads()

    @cache.cached(namespace="f")
    async def function(number):
        return await loads(number)

    calls = [asyncio.create_task(function(7)) for _ in range(10_000)]
    await loads.began.wait()
    loads.may_end.set()

    assert await asyncio.gather(*calls) == [7] * 10_000
    assert loads.runs == 1
    assert cache.statistics()["f"].joined == 9_999


async def test_they_share_its_failure_and_the_next_call_loads_again(cache):
    loads = Loads()
    loads.error = LookupError("nothing there")

    @cache.cached()
    async def function(number):
        return await loads(number)

    calls = [asyncio.create_task(function(7)) for _ in range(5)]
    await loads.began.wait()
    loads.may_end.set()
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert [str(each) for each in results] == ["nothing there"] * 5
    assert loads.runs == 1
    loads.error = None
    assert await function(7) == 7


async def test_who_gives_up_takes_nobody_along(cache):
    loads = Loads()

    @cache.cached()
    async def function(number):
        return await loads(number)

    first = asyncio.create_task(function(7))
    await loads.began.wait()
    others = [asyncio.create_task(function(7)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    loads.may_end.set()

    assert await asyncio.gather(*others) == [7] * 3
    assert loads.runs == 2
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_waiting_call_that_gives_up_leaves_the_load_alone(cache):
    loads = Loads()

    @cache.cached()
    async def function(number):
        return await loads(number)

    first = asyncio.create_task(function(7))
    await loads.began.wait()
    second = asyncio.create_task(function(7))
    await asyncio.sleep(0)
    second.cancel()
    loads.may_end.set()

    assert await first == 7


async def test_a_value_that_was_overtaken_is_not_given_to_who_came_after_that(cache):
    loads = Loads()
    value = ["old"]

    @cache.cached(tags=["t"])
    async def function():
        seen = value[0]
        await loads(0)
        return seen

    first = asyncio.create_task(function())
    await loads.began.wait()
    value[0] = "new"
    cache.invalidate("t")
    second = asyncio.create_task(function())
    await asyncio.sleep(0)
    loads.may_end.set()

    assert await first == "old"  # it began before
    assert await second == "new"


def test_threads_share_a_load_too(cache):
    runs = []

    @cache.cached(namespace="f")
    def function(number):
        runs.append(number)
        time.sleep(0.2)
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(function, [7] * 8)) == [7] * 8
    assert runs == [7]


def test_a_function_that_asks_for_its_own_value_does_not_wait_for_itself(cache):
    depth = []

    @cache.cached()
    def function(number):
        depth.append(number)
        return function(number) if len(depth) < 3 else number

    assert function(7) == 7


async def test_nor_does_an_async_one(cache):
    depth = []

    @cache.cached()
    async def function(number):
        depth.append(number)
        return await function(number) if len(depth) < 3 else number

    async with asyncio.timeout(5):
        assert await function(7) == 7


def test_a_load_in_a_greenlet_does_not_hold_up_its_own_thread(cache):
    """Two tasks whose sync code runs in greenlets of one thread: none may wait for the other."""
    runs, waits = [], greenlet.getcurrent()

    @cache.cached()
    def function(number):
        runs.append(number)
        waits.switch()
        return number

    one = greenlet.greenlet(function)
    one.switch(7)
    other = greenlet.greenlet(function)
    other.switch(7)

    assert (one.switch(), other.switch(), runs) == (7, 7, [7, 7])


def test_event_loops_do_not_wait_for_each_other(cache):
    @cache.cached(namespace="f")
    async def function(number):
        await asyncio.sleep(0.05)
        return number

    def run():
        return asyncio.run(function(7))

    with ThreadPoolExecutor(4) as pool:
        assert [each.result() for each in [pool.submit(run) for _ in range(4)]] == [7] * 4


def test_a_value_is_served_until_its_time_is_up(cache):
    runs = []

    @cache.cached(ttl="40ms", namespace="f")
    def function():
        runs.append(1)

    function()
    function()
    assert len(runs) == 1
    time.sleep(0.05)
    function()
    assert len(runs) == 2
    assert cache.statistics()["f"].expired == 1


def test_times_end_apart(cache):
    @cache.cached(ttl=100)
    def function(number):
        return number

    for number in range(200):
        function(number)
    ends = [each.expires for each in cache._memory.entries.values()]

    assert 5 < max(ends) - min(ends) < 11


def test_names_with_arguments_are_invalidated_apart(cache):
    runs = []

    @cache.cached(tags=["restaurant:{restaurant}", "menus"])
    def menu(restaurant, language="en"):
        runs.append(restaurant)

    menu(1)
    menu(2)
    cache.invalidate("restaurant:1")
    menu(1, "en")
    menu(restaurant=2)
    assert runs == [1, 2, 1]
    cache.invalidate("menus")
    menu(1)
    menu(2)
    assert runs == [1, 2, 1, 1, 2]


def test_a_name_is_never_a_table(cache):
    @cache.cached(tags=["table:product"])
    def function():
        return object()

    first = function()
    cache._tokens.announce(["table:product"], "a")

    assert function() is first


def test_none_is_a_value(cache):
    runs = []

    @cache.cached()
    def function():
        runs.append(1)

    assert (function(), function()) == (None, None)
    assert len(runs) == 1


def test_nested_calls_depend_on_the_names_of_the_inner_ones(cache):
    value = [1]

    @cache.cached(tags=["inner"])
    def inner():
        return value[0]

    @cache.cached()
    def outer():
        return inner() + 10

    assert outer() == 11
    value[0] = 2
    cache.invalidate("inner")
    assert outer() == 12
    value[0] = 3
    assert outer() == 12
    inner()
    value[0] = 4
    cache.invalidate("inner")
    assert inner() == 4
    assert outer() == 14


def test_a_key_of_ones_own_says_what_matters(cache):
    class Shop:
        def __init__(self, number):
            self.number = number

        @cache.cached(key=lambda self, page: (self.number, page))
        def menu(self, page):
            return object()

    assert Shop(1).menu(1) is Shop(1).menu(1)
    assert Shop(1).menu(1) is not Shop(2).menu(1)


def test_what_cannot_be_cached_is_said_where_it_is_written(cache):
    with pytest.raises(CacheKeyError, match="is a method"):

        class Shop:
            @cache.cached()
            def menu(self): ...

    with pytest.raises(SettingsError, match="is no duration"):
        cache.cached(ttl="soon")

    with pytest.raises(SettingsError, match=r"write @cache.cached\(\)"):

        @cache.cached
        def menu(): ...


@pytest.mark.parametrize("tag", ["menu:{nummer}", "menu:{}", "menu:{0}", "{nummer.id}", "menu:{", "menu:}"])
def test_a_tag_that_names_no_parameter_is_told_where_it_is_written(cache, tag):
    with pytest.raises(SettingsError, match=r"it has no parameter|braces without a name"):

        @cache.cached(tags=["menus", tag])
        def function(number): ...


def test_tags_name_parts_of_arguments_and_arguments_that_were_left_out(cache):
    @cache.cached(tags=["{number.real}:{language}", "{{it}}"])
    def function(number, language="en"):
        return object()

    first = function(7)
    cache.invalidate("7:zh")
    assert function(7) is first
    cache.invalidate("7:en")
    second = function(7)
    assert second is not first
    cache.invalidate("{it}")
    assert function(7) is not second


def test_a_generator_cannot_be_cached(cache):
    with pytest.raises(SettingsError, match="can be read once: return a list"):

        @cache.cached()
        def function():
            yield 1

    with pytest.raises(SettingsError, match="can be read once"):

        @cache.cached()
        async def other():
            yield 1


def test_two_functions_do_not_share_a_namespace_and_so_their_values(cache):
    @cache.cached(namespace="n")
    def one(number):
        return number

    with pytest.raises(SettingsError, match=r"the namespace 'n' is that of .*one"):

        @cache.cached(namespace="n")
        def other(number):
            return -number


def test_a_cached_function_looks_like_the_function(cache):
    @cache.cached()
    async def function(number: int) -> int:
        """Return it."""
        return number

    assert inspect.iscoroutinefunction(function)
    assert (function.__name__, function.__doc__) == ("function", "Return it.")
    assert list(inspect.signature(function).parameters) == ["number"]


def test_closing_lets_go_of_every_value(cache):
    class Value:
        pass

    @cache.cached()
    def function():
        return Value()

    value = weakref.ref(function())
    cache.close()
    gc.collect()

    assert value() is None


def test_evictions_are_counted_where_they_happen():
    cache = Cache(max_entries=10)

    @cache.cached(namespace="f")
    def function(number):
        return number

    for number in range(30):
        function(number)

    assert cache.statistics()["f"].evictions == 20


def test_two_caches_share_nothing():
    one, other = Cache(), Cache()
    runs = []

    def function():
        runs.append(1)

    cached_by_one, cached_by_other = one.cached()(function), other.cached()(function)
    cached_by_one()
    cached_by_other()
    one.clear()
    cached_by_one()
    cached_by_other()

    assert len(runs) == 3


def test_a_waiting_thread_loads_again_when_the_loading_one_is_interrupted(cache):
    began, may_end, runs = threading.Event(), threading.Event(), []

    @cache.cached()
    def function():
        runs.append(1)
        if len(runs) == 1:
            began.set()
            may_end.wait(10)
            raise KeyboardInterrupt
        return "loaded"

    def first():
        with pytest.raises(KeyboardInterrupt):
            function()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        began.wait(10)
        two = pool.submit(function)
        time.sleep(0.05)
        may_end.set()
        one.result()
        assert two.result() == "loaded"


@pytest.mark.parametrize("make", [lambda: iter([1, 2]), lambda: (each for each in [1, 2])])
def test_what_can_be_read_only_once_is_not_kept(cache, make):
    @cache.cached(namespace="f")
    def function():
        return make()

    assert [list(function()) for _ in range(3)] == [[1, 2]] * 3
    assert cache.statistics()["f"].refused == {"it can be read only once": 3}


async def test_neither_is_what_can_be_awaited_once(cache):
    async def seven():
        return 7

    @cache.cached(namespace="f")
    def function():
        return seven()

    assert [await function(), await function()] == [7, 7]


def test_what_may_not_have_been_committed_is_not_kept(cache, tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}", isolation_level="READ UNCOMMITTED")
    cache.watch([engine])

    @cache.cached(namespace="f")
    def function():
        with engine.connect() as connection:
            return connection.scalar(text("SELECT 7"))

    assert [function(), function()] == [7, 7]
    assert cache.statistics()["f"].refused == {"it may have read what was not committed": 2}
    engine.dispose()
