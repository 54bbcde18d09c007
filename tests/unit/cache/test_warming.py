"""Warming: at most so many at once, whatever fails."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest
from starlette.applications import Starlette

from tests.unit.cache.waiting import until
from upshift import Upshift
from upshift.diagnose import lifespan
from upshift.errors import SettingsError


class Gauge:
    """Counts how many run at once."""

    def __init__(self):
        self.most = self.now = 0
        self._lock = threading.Lock()

    def __enter__(self):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *error):
        with self._lock:
            self.now -= 1


async def test_each_call_is_made_once_and_no_more_than_so_many_at_once(cache):
    gauge = Gauge()

    @cache.cached(namespace="f")
    async def function(number, language="en"):
        with gauge:
            await asyncio.sleep(0.001)
        return number, language

    calls = [*range(20), (20, "zh"), {"number": 21}]
    warmed = await cache.aio.warm(function, calls, concurrency=3)

    assert (warmed.calls, warmed.failed, gauge.most) == (22, 0, 3)
    assert await function.get(20, "zh") == (20, "zh")
    assert cache.statistics()["f"].fills == 22
    assert (await cache.aio.warm(function, calls)).calls == 22
    assert cache.statistics()["f"].fills == 22


def test_so_it_is_in_threads(cache):
    gauge, ended = Gauge(), threading.Event()

    @cache.cached()
    def function(number):
        with gauge:
            ended.wait(0.002)
        return number

    assert cache.warm(function, range(20), concurrency=3).calls == 20
    assert 1 <= gauge.most <= 3
    assert function.get(19) == 19


async def test_a_function_that_is_not_awaited_is_warmed_from_an_event_loop_in_threads(cache):
    threads = set()

    @cache.cached()
    def function(number):
        threads.add(threading.get_ident())

    await cache.aio.warm(function, lambda: range(5))

    assert threading.get_ident() not in threads


async def test_what_fails_is_counted_and_told_once(cache, caplog):
    @cache.cached()
    async def function(number):
        if number % 2:
            raise ConnectionError(number)

    steps = []
    warmed = await cache.aio.warm(function, range(10), progress=steps.append, concurrency=1)

    assert (warmed.calls, warmed.failed) == (10, 5)
    assert [(each.calls, each.failed) for each in steps] == [(n, n // 2) for n in range(1, 11)]
    assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 1


@pytest.mark.parametrize("fails_late", [True, False])
async def test_where_the_calls_themselves_cannot_be_had_nothing_is_raised(cache, fails_late):
    def late():
        yield 1
        raise ConnectionError

    async def at_once():
        raise ConnectionError

    @cache.cached()
    async def function(number): ...

    warmed = await cache.aio.warm(function, late if fails_late else at_once)

    assert (warmed.calls, warmed.failed) == (1 if fails_late else 0, 1)


def test_what_is_awaited_is_told_how(cache):
    @cache.cached()
    async def function(number): ...

    with pytest.raises(TypeError, match=r"await cache\.aio\.warm"):
        cache.warm(function, [1])
    with pytest.raises(SettingsError, match="no duration"):
        cache.aio.warming(function, [1], every="often")


async def test_giving_up_ends_what_runs(cache):
    began, ended = asyncio.Event(), []

    @cache.cached()
    async def function(number):
        began.set()
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(number)

    task = asyncio.create_task(cache.aio.warm(function, range(100), concurrency=2))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert sorted(ended) == [0, 1]


async def test_an_application_starts_while_it_warms_and_warms_again_at_intervals(cache):
    asked = []

    @cache.cached(namespace="f", tags=["t"])
    async def function(number):
        return number

    async def numbers():
        asked.append(1)
        if len(asked) == 2:
            raise ConnectionError
        return [1, 2]

    app = Starlette()
    up = Upshift(app, cache=cache)
    up.lifespan.add("warm", context=lambda: cache.aio.warming(function, numbers, every="5ms"))
    async with lifespan(app):
        await until(lambda: len(asked) >= 4)
        assert cache.statistics()["f"].fills == 2
        cache.invalidate("t")
        await until(lambda: cache.statistics()["f"].fills == 4)
    rounds = len(asked)
    await asyncio.sleep(0.03)

    assert len(asked) == rounds
    up.close()


async def test_or_is_warm_before_it_serves(cache):
    @cache.cached(namespace="f")
    async def function(number):
        return number

    app = Starlette()
    up = Upshift(app, cache=cache)
    up.lifespan.add("warm", start=lambda: cache.aio.warm(function, range(10)))
    async with lifespan(app):
        assert cache.statistics()["f"].fills == 10
    up.close()
