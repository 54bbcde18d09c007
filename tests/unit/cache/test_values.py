"""Values by name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool

from upshift.cache import Cache
from upshift.errors import CacheKeyError, SettingsError


def test_a_value_is_kept_by_its_name_within_its_namespace(cache):
    assert cache.set("a", 1)
    assert cache.set("a", 2, namespace="other")

    assert (cache.get("a"), cache.get("a", namespace="other"), cache.get("b"), cache.get("b", 7)) == (
        1,
        2,
        None,
        7,
    )
    assert cache.statistics()["values"].hits == 1
    assert cache.statistics()["values"].misses == 2


def test_several_are_kept_and_found_together(cache):
    assert cache.set_many({"a": None, "b": 2}, tags=["t"]) == 2
    assert cache.get_many(["a", "b", "c"]) == {"a": None, "b": 2}
    cache.invalidate("t")
    assert cache.get_many(["a", "b", "c"]) == {}


def test_its_time_ends_it(cache):
    cache.set("a", 1, ttl=100)
    (entry,) = cache._memory.entries.values()
    assert 90 <= entry.expires - entry.made <= 100
    entry.expires = 0.0

    assert cache.get("a") is None
    assert cache.statistics()["values"].expired == 1


def test_its_tags_end_it(cache):
    cache.set("a", 1, tags=["t", "u"])
    cache.invalidate("u")

    assert cache.get("a") is None
    assert cache.statistics()["values"].stale_prevented == 1


def test_what_is_computed_from_it_ends_with_it(cache):
    cache.set("rate", 30, tags=["rates"])

    @cache.cached()
    def price():
        return 2 * cache.get("rate", 0)

    assert price() == 60
    cache.invalidate("rates")
    assert price() == 0


def test_what_found_nothing_is_loaded_anew_once_there_is_something(cache):
    @cache.cached()
    def price():
        return 2 * cache.get("rate", 0)

    assert price() == 0
    cache.set("rate", 30)
    assert price() == 60
    cache.set("rate", 31)
    assert price() == 62
    cache.delete("rate")
    assert price() == 0
    cache.set("rate", 30)
    assert price() == 60
    cache.delete_matching("r*")
    assert price() == 0


def test_it_is_dropped_by_its_name(cache):
    cache.set("a", 1)

    assert (cache.delete("a"), cache.delete("a"), cache.get("a")) == (True, False, None)


def test_by_a_pattern_whatever_has_such_a_name_is_dropped(cache):
    @cache.cached(namespace="orders")
    def order(number):
        return number

    order(1)
    cache.set_many({"orders:7": 1, "orders:8": 2, "order": 3, "[x]": 4})

    assert cache.delete_matching("orders:[17]") == 2
    assert cache.get_many(["orders:7", "orders:8", "order"]) == {"orders:8": 2, "order": 3}
    assert cache.delete_matching("*") == 3


def test_by_its_namespace_all_of_that_is_dropped(cache):
    cache.set_many({"a": 1, "b": 2}, namespace="n")
    cache.set("a", 3)

    assert cache.delete_namespace("n") == 2
    assert (cache.get_many(["a", "b"], namespace="n"), cache.get("a")) == ({}, 3)


def test_no_name_is_no_text(cache):
    with pytest.raises(CacheKeyError, match="is a text, and 7 is none"):
        cache.set(7, 1)
    with pytest.raises(CacheKeyError, match="has 1001 characters, and may have 1000"):
        cache.get("x" * 1001)
    with pytest.raises(SettingsError, match="no duration"):
        cache.set("a", 1, ttl="soon")


def test_within_a_transaction_that_has_written_nothing_is_kept(cache):
    engine = create_engine("sqlite://", poolclass=StaticPool)
    cache.watch([engine])
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (a int)"))
        connection.execute(text("INSERT INTO t VALUES (1)"))
        assert not cache.set("a", 1)
    assert cache.set("a", 1)
    engine.dispose()


async def test_all_of_it_may_be_awaited(cache):
    assert await cache.aio.set("a", 1, ttl="1m", tags=["t"])
    assert await cache.aio.set_many({"b": 2}) == 1
    assert await cache.aio.get("a") == 1
    assert await cache.aio.get_many(["a", "b"]) == {"a": 1, "b": 2}
    await cache.aio.invalidate("t")
    assert await cache.aio.get("a", 7) == 7
    assert await cache.aio.delete("b")
    await cache.aio.set_many({"a:1": 1, "a:2": 2}, namespace="n")
    assert await cache.aio.delete_matching("n:a:1") == 1
    assert await cache.aio.delete_namespace("n") == 1
    await cache.aio.set("a", 1)
    await cache.aio.clear()
    assert cache.get("a") is None


def test_namespaces_without_end_are_counted_together():
    cache = Cache()
    for number in range(1_200):
        cache.set("a", 1, namespace=f"n{number}")
        cache.get("a", namespace=f"n{number}")

    assert len(cache.statistics()) <= 1_001
    assert sum(each.hits for each in cache.statistics().values()) == 1_200


def test_after_closing_nothing_is_kept():
    cache = Cache()
    cache.close()
    cache.set("a", 1)

    assert cache.get("a") is None


names = st.sampled_from(["a", "b", "a:1"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), names, st.sampled_from([(), ("t",), ("t", "u")])),
        st.tuples(st.just("delete"), names),
        st.tuples(st.just("invalidate"), st.sampled_from(["t", "u"])),
        st.tuples(st.just("matching"), st.sampled_from(["a*", "*:1", "?"])),
        st.tuples(st.just("namespace")),
        st.tuples(st.just("clear")),
    ),
    max_size=30,
)


@settings(max_examples=200)
@given(steps)
def test_it_does_what_a_dictionary_with_tags_would(what):
    cache, model = Cache(), {}
    for number, step in enumerate(what):
        match step:
            case "set", name, tags:
                assert cache.set(name, number, tags=tags)
                model[name] = (number, tags)
            case "delete", name:
                assert cache.delete(name) == (model.pop(name, None) is not None)
            case "invalidate", tag:
                cache.invalidate(tag)
                # What holds no more is dropped by the next look below.
                model = {name: kept for name, kept in model.items() if tag not in kept[1]}
            case "matching", pattern:
                is_meant = {
                    "a*": lambda name: name.startswith("a"),
                    "*:1": lambda name: name.endswith(":1"),
                    "?": lambda name: len(name) == 1,
                }[pattern]
                assert cache.delete_matching(pattern) == sum(map(is_meant, model))
                model = {name: kept for name, kept in model.items() if not is_meant(name)}
            case ("namespace",):
                cache.delete_namespace("values")
                model = {}
            case ("clear",):
                cache.clear()
                model = {}
        assert cache.get_many(["a", "b", "a:1"]) == {name: kept[0] for name, kept in model.items()}
        counted = cache.statistics().get("values")
        assert counted is None or counted.entries == len(model)
