"""None and exceptions as answers, for a time of their own."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress

import pytest

from upshift.cache.functions import KeptError
from upshift.errors import SettingsError


class NotFoundError(Exception):
    def __init__(self, *, what, number):
        super().__init__(f"no {what} {number}")
        self.number = number


def test_an_answer_that_is_an_exception_is_raised_again_without_a_load(cache):
    runs = []

    @cache.cached(negative_ttl="5s", cache_errors=[NotFoundError], namespace="f")
    def function(number):
        runs.append(number)
        raise NotFoundError(what="order", number=number)

    errors = []
    for _ in range(3):
        with pytest.raises(NotFoundError, match="no order 7") as caught:
            function(7)
        errors.append(caught.value)

    assert runs == [7]
    assert [each.number for each in errors] == [7, 7, 7]
    assert len(set(map(id, errors))) == 3
    counted = cache.statistics()["f"]
    assert (counted.hits, counted.misses, counted.errors, counted.fills) == (2, 1, 0, 1)


async def test_for_async_functions_as_well(cache):
    runs = []

    @cache.cached(negative_ttl="5s", cache_errors=[NotFoundError])
    async def function(number):
        runs.append(number)
        await asyncio.sleep(0)
        raise NotFoundError(what="order", number=number)

    results = await asyncio.gather(*(function(7) for _ in range(5)), return_exceptions=True)
    with pytest.raises(NotFoundError):
        await function(7)

    assert [str(each) for each in results] == ["no order 7"] * 5
    assert runs == [7]


def test_what_it_depends_on_ends_it(cache):
    orders = {}

    @cache.cached(negative_ttl="5s", cache_errors=[KeyError], tags=["orders"])
    def function(number):
        return orders[number]

    with pytest.raises(KeyError):
        function(7)
    orders[7] = "noodles"
    cache.invalidate("orders")

    assert function(7) == "noodles"


async def test_who_began_after_a_commit_does_not_share_the_error_of_a_load_from_before(cache):
    """Neither of one that is kept nor of another: "there is no such order" is wrong by then."""
    orders, may_end, began = {}, asyncio.Event(), asyncio.Event()

    @cache.cached(tags=["orders"])
    async def function(number):
        found = orders.get(number)
        began.set()
        await may_end.wait()
        if found is None:
            raise LookupError(number)
        return found

    first = asyncio.create_task(function(7))
    await began.wait()
    orders[7] = "noodles"
    cache.invalidate("orders")
    second = asyncio.create_task(function(7))
    await asyncio.sleep(0)
    may_end.set()

    with pytest.raises(LookupError):
        await first
    assert await second == "noodles"


async def test_who_shares_an_error_and_makes_a_value_of_it_depends_on_what_it_depends_on(cache):
    orders, may_end, began = {}, asyncio.Event(), asyncio.Event()

    @cache.cached(tags=["orders"])
    async def inner(number):
        began.set()
        await may_end.wait()
        return orders[number]

    @cache.cached()
    async def outer(number):
        try:
            return await inner(number)
        except KeyError:
            return "nothing"

    first = asyncio.create_task(inner(7))
    await began.wait()
    second = asyncio.create_task(outer(7))
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.gather(first, return_exceptions=True)
    assert await second == "nothing"
    orders[7] = "noodles"
    cache.invalidate("orders")

    assert await outer(7) == "noodles"


def test_other_exceptions_are_not_kept(cache):
    runs = []

    @cache.cached(negative_ttl="5s", cache_errors=[NotFoundError])
    def function():
        runs.append(1)
        raise ConnectionError

    for _ in range(2):
        with pytest.raises(ConnectionError):
            function()
    assert len(runs) == 2


def test_none_has_its_own_time(cache):
    @cache.cached(ttl=1_000, negative_ttl=10)
    def function(number):
        return None if number == 7 else number

    function(7)
    function(8)
    lasts = {key[1]: entry.expires - entry.made for key, entry in cache._memory.entries.items()}

    assert 9 <= lasts[7] <= 10
    assert 900 <= lasts[8] <= 1_000


def test_nothing_negative_is_refreshed_ahead(cache):
    @cache.cached(ttl=1_000, negative_ttl=10, refresh_ahead=0.5)
    def function():
        return None

    function()
    (entry,) = cache._memory.entries.values()

    assert entry.due == entry.expires


def test_errors_need_a_time(cache):
    with pytest.raises(SettingsError, match="kept for negative_ttl: give one"):
        cache.cached(cache_errors=[NotFoundError])


def test_a_nested_function_depends_on_what_a_kept_error_depends_on(cache):
    orders = {}

    @cache.cached(negative_ttl="5s", cache_errors=[KeyError], tags=["orders"])
    def inner(number):
        return orders[number]

    @cache.cached()
    def outer(number):
        try:
            return inner(number)
        except KeyError:
            return "nothing"

    assert [outer(7), outer(8), outer(7)] == ["nothing"] * 3
    orders[7] = "noodles"
    cache.invalidate("orders")

    assert outer(7) == "noodles"


def test_no_frame_is_held_by_what_is_kept(cache):
    class Big:
        pass

    frames = []

    @cache.cached(negative_ttl="5s", cache_errors=[NotFoundError])
    def function():
        big = Big()
        frames.append(weakref.ref(big))
        raise NotFoundError(what="order", number=7)

    for _ in range(10):
        with suppress(NotFoundError):
            function()
    gc.collect()

    assert [each() for each in frames] == [None]


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a"),
        OSError(2, "no such file", "name"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
        NotFoundError(what="a", number=1),
    ],
)
def test_exceptions_of_any_kind_come_back_as_they_were(error):
    again = KeptError(error).again()

    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert again.__traceback__ is None
