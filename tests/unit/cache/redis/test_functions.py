"""Cached functions whose values several processes share; each of them is a cache here."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from tests.unit.cache.redis.conftest import open_at_once, wait_until
from upshift.cache import Cache
from upshift.errors import CacheKeyError, MissingExtraError, SettingsError
from upshift.testing.servers import valkey


@pytest.fixture
def one(make_cache):
    return make_cache()


@pytest.fixture
def other(make_cache):
    return make_cache()


def cached(cache, runs, result=lambda number: {"number": number}, **options):
    @cache.cached(namespace="f", **{"tags": ["t"], **options})
    def function(number: int) -> dict[str, int]:
        runs.append(number)
        return result(number)

    return function


def cached_async(cache, runs, **options):
    @cache.cached(namespace="f", **{"tags": ["t"], **options})
    async def function(number: int) -> dict[str, int]:
        runs.append(number)
        await asyncio.sleep(0)
        return {"number": number}

    return function


def key_of(client, name, what="e"):
    (key,) = client.keys(f"{{upshift:{name}}}:{what}:*")
    return key


def test_what_one_has_loaded_is_served_by_the_other(one, other):
    runs = []
    f, g = cached(one, runs), cached(other, runs)

    assert f(1) == g(1) == g(1) == {"number": 1}
    assert runs == [1]
    assert g(1) is g(1)  # from memory
    assert [other.statistics()["f"].hits, other.statistics()["f"].misses] == [4, 0]


def test_what_one_invalidates_no_other_serves(one, other):
    runs = []
    f, g = cached(one, runs), cached(other, runs)
    f(1), g(1)
    one.invalidate("t")
    g(1), f(1)

    assert runs == [1, 1]
    assert other.statistics()["f"].stale_prevented == 1


async def test_async_functions_share_likewise(make_cache):
    one, other, runs = make_cache(), make_cache(), []
    f, g = cached_async(one, runs), cached_async(other, runs)

    assert await f(1) == await g(1) == {"number": 1}
    await one.aio.invalidate("t")
    assert await g(1) == {"number": 1}
    assert runs == [1, 1]
    one.close()
    other.close()


async def test_sync_and_async_forms_give_way_within_a_loop(make_cache):
    one, other, runs = make_cache(), make_cache(), []
    f, g = cached_async(one, runs), cached_async(other, runs)

    assert await f.set({"number": 7}, 7)
    assert await g.get(7) == {"number": 7}
    assert await g.get_many([7, 8]) == [{"number": 7}, f.__wrapped__ and (await g.get(8))]
    assert await f.delete(7)
    assert await g.refresh(7) == {"number": 7}
    await f.invalidate()
    assert not await g.get(7)
    assert await one.aio.set("rate", 32.5)
    assert await other.aio.get("rate") == 32.5
    one.close()
    other.close()


def test_the_time_of_a_value_counts_from_its_load_wherever_it_is(one, other, client, name):
    runs = []
    f, g = cached(one, runs, ttl="300ms"), cached(other, runs, ttl="300ms")
    f(1), g(1)
    assert 0 < client.pttl(key_of(client, name)) <= 300
    time.sleep(0.35)
    g(1), f(1)

    assert runs == [1, 1]


def test_values_without_a_time_leave_redis_after_a_day(one, client, name):
    cached(one, [])(1)

    assert 0 < client.ttl(key_of(client, name)) <= 86_400


def test_what_no_byte_can_say_is_kept_by_each_process(one, other):
    runs = []
    f, g = (cached(each, runs, result=lambda _: object()) for each in (one, other))

    assert f(1) is f(1)
    assert g(1) is g(1)
    assert len(runs) == 2
    one.invalidate("t")
    g(1)
    assert len(runs) == 3


def test_none_is_a_value(one, other):
    runs = []
    f, g = (cached(each, runs, result=lambda _: None) for each in (one, other))

    assert (f(1), g(1), g(1)) == (None, None, None)
    assert runs == [1]


def test_kept_errors_are_kept_by_each_process(one, other):
    runs = []

    def missing(number):
        raise LookupError(number)

    options = {"result": missing, "cache_errors": [LookupError], "negative_ttl": "1h"}
    f, g = cached(one, runs, **options), cached(other, runs, **options)
    for function in (f, f, g, g):
        with pytest.raises(LookupError):
            function(1)

    assert runs == [1, 1]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x00", b"UC1", b"UC1\xff\xff\xff\xff", b"UC1\x00\x00\x00\x01\xc1", b"x" * 1_000_000,
        b"UC1\x00\x00\x00\x00", b"UC1\x00\x00\x00\x03\x93\x01\x02",
    ],
    ids=repr,
)  # fmt: skip
def test_bytes_that_are_no_entry_are_loaded_anew(one, other, client, name, data):
    runs = []
    cached(one, runs)(1)
    client.set(key_of(client, name), data)

    assert cached(other, runs)(1) == {"number": 1}
    assert runs == [1, 1]
    assert other._shared._shared.tier.malformed


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_an_entry_that_was_cut_off_or_changed_is_loaded_anew(one, make_cache, client, name, cut):
    runs = []
    cached(one, runs)(1)
    key = key_of(client, name)
    data = client.get(key)
    for broken in (data[:-cut], data[:cut] + bytes([data[cut] ^ 0xFF]) + data[cut + 1 :], data + b"x"):
        client.set(key, broken)
        assert cached(make_cache(), runs)(1) == {"number": 1}


def test_a_key_of_another_kind_is_an_error_of_redis_and_none_of_the_caller(one, other, client, name):
    runs = []
    cached(one, runs)(1)
    key = key_of(client, name)
    client.delete(key)
    client.rpush(key, b"x")

    assert cached(other, runs)(1) == {"number": 1}
    assert runs == [1, 1]


def test_what_is_written_while_it_loads_is_not_kept(one, other):
    runs = []

    def overtaken(number):
        if len(runs) == 1:
            other.invalidate("t")
        return {"number": len(runs)}

    f, g = cached(one, runs, result=overtaken), cached(other, runs, result=overtaken)

    assert f(1) == {"number": 1}
    assert g(1) == f(1) == {"number": 2}
    assert sum(one.statistics()["f"].refused.values()) == 1


def test_nested_functions_depend_on_what_the_inner_ones_do_in_every_process(one, other):
    runs = []

    def nested(cache):
        @cache.cached(namespace="inner", tags=["inner"])
        def inner() -> int:
            return 1

        return cached(cache, runs, result=lambda number: {"number": number + inner()}), inner

    (f, _), (g, inner) = nested(one), nested(other)
    f(1), inner()
    assert g(1) == {"number": 2}
    one.invalidate("inner")
    f(1), g(1)
    assert runs == [1, 1]
    inner()
    g.invalidate()
    g(1)  # with the inner value from the cache
    one.invalidate("inner")
    g(1)
    assert len(runs) == 4


def test_one_of_two_processes_loads_what_both_ask_for(one, other):
    runs, may_end = [], threading.Event()

    def slow(number):
        may_end.wait(10)
        return {"number": number}

    f, g = cached(one, runs, result=slow), cached(other, runs, result=slow)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(each, 1) for each in (f, g, f, g)]
        wait_until(lambda: runs)
        time.sleep(0.1)
        may_end.set()
        assert [each.result() for each in answers] == [{"number": 1}] * 4

    assert runs == [1]
    counted = [each.statistics()["f"] for each in (one, other)]
    assert sum(each.misses for each in counted) == 1
    assert sum(each.joined + each.hits for each in counted) == 3


def test_a_load_that_fails_lets_another_process_load(one, other, client, name):
    runs = []

    def failing(number):
        if len(runs) == 1:
            raise RuntimeError("the first one fails")
        return {"number": number}

    f, g = cached(one, runs, result=failing), cached(other, runs, result=failing)
    with pytest.raises(RuntimeError):
        f(1)
    assert g(1) == {"number": 1}
    wait_until(lambda: not client.keys(f"{{upshift:{name}}}:c:*"))


def test_the_claim_of_a_dead_process_ends_by_itself(one, other, client, name):
    runs = []
    f = cached(one, runs)
    f(1)
    key = key_of(client, name)
    client.delete(key)
    client.set(key.replace(b":e:", b":c:"), "a process that was killed", px=200)

    assert cached(other, runs)(1) == {"number": 1}
    assert runs == [1, 1]


async def test_a_cancelled_load_gives_its_claim_up(make_cache, client, name):
    cache, began = make_cache(), asyncio.Event()

    @cache.cached()
    async def function(number: int) -> int:
        began.set()
        await asyncio.sleep(60)
        return number

    task = asyncio.create_task(function(1))
    await began.wait()
    assert client.keys(f"{{upshift:{name}}}:c:*")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(wait_until, lambda: not client.keys(f"{{upshift:{name}}}:c:*"))
    cache.close()


async def test_who_waits_for_a_load_that_is_cancelled_loads(make_cache):
    cache, began, runs = make_cache(), asyncio.Event(), []

    @cache.cached()
    async def function(number: int) -> int:
        runs.append(number)
        began.set()
        if len(runs) == 1:
            await asyncio.sleep(60)
        return number

    first = asyncio.create_task(function(1))
    await began.wait()
    others = [asyncio.create_task(function(1)) for _ in range(10)]
    await asyncio.sleep(0.05)
    first.cancel()
    assert await asyncio.gather(*others) == [1] * 10
    assert len(runs) == 2
    cache.close()


def test_within_a_lease_redis_is_not_asked_and_after_it_nothing_is_stale(make_cache):
    one, other, runs = make_cache(lease="500ms"), make_cache(), []
    f, g = cached(one, runs), cached(other, runs)
    f(1)
    other.invalidate("t")
    assert f(1) == {"number": 1}
    assert runs == [1]  # as stale as was agreed
    time.sleep(0.55)
    f(1), g(1)

    assert runs == [1, 1]


def test_deleting_reaches_redis(one, other, client, name):
    runs = []
    f, g = cached(one, runs), cached(other, runs)
    f(1), f(2)
    assert f.delete(1)
    assert not f.delete(1)
    g(1)
    assert runs == [1, 2, 1]
    assert one.delete_matching("f:[!1]") == 1
    g(2)
    assert runs == [1, 2, 1, 2]
    one.clear()
    assert client.keys(f"{{upshift:{name}}}:e:*") == []
    assert one.delete_namespace("f") == 0
    g(2)
    assert runs == [1, 2, 1, 2, 2]


def test_values_by_name_are_the_same_for_all(one, other):
    assert one.set("rate:TWD", 32.5, tags=["rates"])
    assert other.get("rate:TWD") == 32.5
    assert other.set_many({"rate:TWD": 33.0, "rate:JPY": 157.2}, ttl="1h") == 2
    assert one.get_many(["rate:TWD", "rate:JPY", "rate:EUR"]) == {"rate:TWD": 33.0, "rate:JPY": 157.2}
    assert one.delete("rate:TWD")
    assert other.get("rate:TWD", "none") == "none"
    assert other.delete_matching("rate:*") == 1
    one.set("rate", 1, tags=["rates"])
    other.invalidate("rates")
    assert one.get("rate") is None


def test_what_is_computed_from_a_value_ends_with_it(one, other):
    runs = []
    f = cached(one, runs, result=lambda number: {"number": number * one.get("factor", 1)})
    one.set("factor", 2)
    assert f(1) == {"number": 2}
    other.set("factor", 3)

    assert f(1) == {"number": 3}


def test_a_key_that_means_nothing_elsewhere_is_refused(one):
    @one.cached(key=lambda each: each)
    def function(each):
        return 1

    with pytest.raises(CacheKeyError, match="means nothing in another process"):
        function(object())


def test_what_cannot_be_is_refused_where_it_is_written(valkey_server, tmp_path):
    for options, words in [
        ({"page": tmp_path / "page"}, "leave the page out"),
        ({"name": "a}b"}, "hash tag"),
        ({"unreachable": "maybe"}, "'wait' or 'refuse'"),
        ({"lease": "soon"}, "is no duration"),
    ]:
        with pytest.raises(SettingsError, match=words):
            Cache(valkey_server.url, **options)
    for where in ("memcached://localhost", "redis+sentinel://localhost", 7):
        with pytest.raises(SettingsError):
            Cache(where)


def test_without_redis_py_the_extra_is_named(monkeypatch):
    import sys

    for name in [each for each in sys.modules if each.startswith("upshift.cache.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis.connection", None)
    monkeypatch.setitem(sys.modules, "hiredis", None)

    with pytest.raises(MissingExtraError, match=r"upshift\[redis\]"):
        Cache("redis://localhost")


async def test_when_redis_is_away_calls_go_in_turns_and_nothing_of_memory_is_served(name):
    runs = []
    with valkey() as server:
        cache = Cache(server.url, name=name)
        remote = cache._shared._shared.remote
        wait_until(remote.circuit.is_usable)
        f = cached_async(cache, runs)
        await f(1)
        await f(1)
    runs.clear()
    while not remote.circuit.is_open:
        await f(1)
        await asyncio.sleep(0.01)
    runs.clear()

    assert await asyncio.gather(*[f(1) for _ in range(100)]) == [{"number": 1}] * 100
    assert len(runs) <= 2
    await f(1)
    assert len(runs) <= 3
    assert remote.circuit.openings == 1
    cache.close()


@pytest.mark.parametrize("make", [cached, cached_async])
async def test_a_redis_that_hangs_is_waited_for_once_a_call_and_three_times_in_all(name, make):
    runs = []
    with valkey() as server, Redis.from_url(server.url) as client:
        cache = Cache(server.url, name=name)
        f = make(cache, runs)

        async def call():
            return (await f(1)) if make is cached_async else f(1)

        open_at_once(cache, client)
        await call()
        await call()
        assert runs == [1]
        remote = cache._shared._shared.remote
        remote.heart.stop()
        await asyncio.sleep(0.3)
        remote.circuit._good_until = time.monotonic() + 600  # as if a heartbeat had passed just now
        os.kill(server.pid, signal.SIGSTOP)
        for failures in (1, 2, 3, 3, 3):
            assert await call() == {"number": 1}
            assert remote.circuit.failures == failures
        assert remote.circuit.is_open
        os.kill(server.pid, signal.SIGCONT)
        cache.close()
        await asyncio.sleep(0)
    assert len(runs) == 6


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_call_while_redis_is_away_leaves_nothing_behind_for_the_garbage_collector(is_async):
    class Argument:
        pass

    def load(argument):
        return 1

    async def load_async(argument):
        return 1

    cache = Cache("redis://127.0.0.1:1")
    f = cache.cached(key=lambda argument: 1)(load_async if is_async else load)
    argument = Argument()
    held = weakref.ref(argument)
    gc.disable()
    try:
        if is_async:
            await f(argument)
        else:
            f(argument)
        del argument
        assert held() is None
    finally:
        gc.enable()
        cache.close()


def test_threads_go_in_turns_as_well(name):
    runs, lock = [], threading.Lock()
    with valkey() as server:
        cache = Cache(server.url, name=name)
        wait_until(cache._shared._shared.remote.circuit.is_usable)

    @cache.cached(namespace="f")
    def function(number: int) -> int:
        with lock:
            runs.append(number)
        time.sleep(0.2)
        return number

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(function, [1] * 20)) == [1] * 20

    assert len(runs) <= 3
    cache.close()


def test_what_redis_has_is_served_again_when_it_is_back(name, tmp_path):
    runs = []
    with valkey() as server:
        cache = Cache(server.url, name=name)
        with Redis.from_url(server.url) as client:
            open_at_once(cache, client)
            f = cached(cache, runs)
            f(1), f(1)
            assert runs == [1]
            client.config_set("maxclients", 1)
            client.client_kill_filter(_type="normal", skipme=True)
            f(1)
            client.config_set("maxclients", 100)
        wait_until(cache._shared._shared.remote.circuit.is_usable)
        f(1)
        wait_until(lambda: f(1) and cache.statistics()["f"].hits > 2)
        cache.close()
