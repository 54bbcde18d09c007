"""The last value in place of an error, where that is asked for, and nowhere else."""

from __future__ import annotations

import asyncio

import pytest


@pytest.fixture
def source():
    """What functions below read, and whether that fails."""

    class Source:
        value = "first"
        error: Exception | None = None

        def read(self):
            if self.error is not None:
                raise self.error
            return self.value

    return Source()


def test_a_value_that_holds_no_more_is_served_while_the_function_fails(cache, source):
    @cache.cached(tags=["t"], stale_on_error="10m", namespace="f")
    def function():
        return source.read()

    function()
    source.error = ConnectionError("away")
    cache.invalidate("t")

    assert [function() for _ in range(3)] == ["first"] * 3
    source.error, source.value = None, "second"
    assert function() == "second"
    counted = cache.statistics()["f"]
    assert (counted.stale_served_on_error, counted.errors, counted.hits) == (3, 3, 0)


def test_so_is_one_whose_time_is_up(cache, source):
    @cache.cached(ttl=100, stale_on_error="10m", namespace="f")
    def function():
        return source.read()

    function()
    source.error = ConnectionError("away")
    for entry in cache._memory.entries.values():
        entry.due = entry.expires = 0.0

    assert function() == "first"


async def test_async_functions_and_those_who_wait_for_them_are_served_alike(cache, source):
    may_end = asyncio.Event()

    @cache.cached(tags=["t"], stale_on_error="10m", namespace="f")
    async def function():
        await may_end.wait()
        return source.read()

    may_end.set()
    await function()
    may_end.clear()
    source.error = ConnectionError("away")
    cache.invalidate("t")
    calls = [asyncio.create_task(function()) for _ in range(5)]
    await asyncio.sleep(0)
    may_end.set()

    assert await asyncio.gather(*calls) == ["first"] * 5
    assert cache.statistics()["f"].errors == 1


def test_who_has_not_asked_gets_the_error(cache, source):
    @cache.cached(tags=["t"])
    def function():
        return source.read()

    function()
    source.error = ConnectionError("away")
    cache.invalidate("t")

    with pytest.raises(ConnectionError):
        function()


def test_nor_gets_who_has_not_asked_what_another_has_kept_meanwhile(cache, source):
    @cache.cached(tags=["t"])
    def function():
        function.set("kept meanwhile")
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        function()


def test_a_value_that_is_too_old_is_not_served(cache, source):
    @cache.cached(tags=["t"], stale_on_error="10m")
    def function():
        return source.read()

    function()
    for entry in cache._memory.entries.values():
        entry.made -= 601
    source.error = ConnectionError("away")
    cache.invalidate("t")

    with pytest.raises(ConnectionError):
        function()


def test_what_was_never_loaded_cannot_be_served(cache, source):
    @cache.cached(stale_on_error="10m")
    def function():
        return source.read()

    source.error = ConnectionError("away")
    with pytest.raises(ConnectionError):
        function()


def test_what_is_computed_from_it_is_not_kept_however_far_away(cache, source):
    @cache.cached(tags=["t"], stale_on_error="10m")
    def inner():
        return source.read()

    @cache.cached(namespace="middle")
    def middle():
        return inner()

    @cache.cached(namespace="outer")
    def outer():
        return middle()

    outer()
    source.error = ConnectionError("away")
    cache.invalidate("t")
    assert outer() == "first"
    source.error, source.value = None, "second"

    assert outer() == "second"
    reason = "it was computed from a value that was served stale"
    assert [cache.statistics()[name].refused for name in ("middle", "outer")] == [{reason: 1}] * 2


def test_an_error_that_is_an_answer_is_no_failure(cache, source):
    @cache.cached(tags=["t"], stale_on_error="10m", negative_ttl="1m", cache_errors=[LookupError])
    def function():
        return source.read()

    function()
    source.error = LookupError("gone")
    cache.invalidate("t")

    for _ in range(2):
        with pytest.raises(LookupError, match="gone"):
            function()


async def test_a_cancelled_call_is_no_failure(cache):
    began = asyncio.Event()

    @cache.cached(tags=["t"], stale_on_error="10m")
    async def function():
        if began.is_set():
            raise asyncio.CancelledError
        began.set()
        return "first"

    await function()
    cache.invalidate("t")

    with pytest.raises(asyncio.CancelledError):
        await function()
