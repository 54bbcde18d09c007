"""What a cache counts, by namespace."""

from __future__ import annotations

import math
import time

import pytest

from upshift.cache import Cache, Statistics


@pytest.fixture
def cache():
    cache = Cache(max_entries=10)
    yield cache
    cache.close()


def test_each_namespace_tells_what_it_holds_now(cache):
    @cache.cached(namespace="f", tags=["t:{number}"])
    def function(number):
        return "x" * 1_000

    for number in range(5):
        function(number)
    cache.set("a", 1)
    counted = cache.statistics()["f"]
    assert counted.entries == 5
    assert 5_000 < counted.bytes < 6_000
    assert cache.statistics()["values"].entries == 1
    function.delete(1)
    cache.invalidate("t:2")
    function.get(2)
    assert cache.statistics()["f"].entries == 3
    cache.clear()
    assert (cache.statistics()["f"].entries, cache.statistics()["f"].bytes) == (0, 0)


def test_replacing_and_evicting_leave_the_sums_right(cache):
    @cache.cached(namespace="f")
    def function(number):
        return number

    for number in range(50):
        function(number)
        function.set("y" * number, number)
        cache.set("a", "z" * number)
        held = {name: each for name, each in cache.statistics().items() if each.entries}
        assert sum(each.entries for each in held.values()) == len(cache._memory.entries)
        assert sum(each.bytes for each in held.values()) == cache._memory.bytes
    counted = cache.statistics()
    assert counted["f"].evictions + counted["values"].evictions == cache._memory.evictions > 0


def test_loads_are_timed_and_errors_counted(cache):
    @cache.cached(namespace="f")
    def function(number):
        time.sleep(0.01)
        if number == 2:
            raise ConnectionError

    function(1)
    function(1)
    with pytest.raises(ConnectionError):
        function(2)
    counted = cache.statistics()["f"]

    assert (counted.loads.count, counted.errors, counted.misses, counted.hits) == (2, 1, 2, 1)
    assert 0.01 <= counted.loads.quantile(0.5) < 1
    assert counted.load_seconds == counted.loads.sum
    assert counted.hit_ratio == 1 / 3


def test_what_a_hit_takes_is_told_where_there_is_one(cache):
    @cache.cached(namespace="f", tags=["t"])
    def function():
        return 1

    assert math.isnan(cache.statistics()["f"].hit_seconds)
    function()
    assert 0 < cache.statistics()["f"].hit_seconds < 0.01
    assert cache.statistics()["f"].hits == 0  # asking is no hit
    cache.invalidate("t")
    assert math.isnan(cache.statistics()["f"].hit_seconds)


def test_what_was_told_does_not_change_afterwards(cache):
    @cache.cached(namespace="f")
    def function():
        return 1

    before = cache.statistics()["f"]
    function()

    assert (before.misses, before.fills) == (0, 0)
    assert cache.statistics()["f"].misses == 1


def test_nothing_has_no_ratio():
    assert Statistics().hit_ratio == 0
