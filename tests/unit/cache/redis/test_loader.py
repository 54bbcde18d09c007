"""What a load takes from another process, in whose place it would have run."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from .conftest import wait_until


def test_a_value_depends_on_what_another_process_has_loaded_for_it(make_cache):
    here, there = make_cache(), make_cache()
    may_end, begun, loads = threading.Event(), threading.Event(), []

    @there.cached(namespace="price", tags=["prices"])
    def price_there() -> int:
        begun.set()
        may_end.wait()
        return 1

    @here.cached(namespace="price", tags=["prices"])
    def price() -> int:
        return 2

    @here.cached(namespace="menu")
    def menu() -> int:
        loads.append(1)
        return price()

    with ThreadPoolExecutor(2) as threads:
        loading = threads.submit(price_there)
        begun.wait()
        waiting = threads.submit(menu)
        wait_until(lambda: loads)
        may_end.set()
        assert loading.result() == waiting.result() == 1  # it has waited for the other's
    there.invalidate("prices")

    assert menu() == 2


async def test_an_awaited_value_depends_on_what_another_process_has_loaded_for_it(make_cache):
    here, there = make_cache(), make_cache()
    may_end, begun, loading = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @there.cached(namespace="price", tags=["prices"])
    async def price_there() -> int:
        begun.set()
        await may_end.wait()
        return 1

    @here.cached(namespace="price", tags=["prices"])
    async def price() -> int:
        return 2

    @here.cached(namespace="menu")
    async def menu() -> int:
        loading.set()
        return await price()

    loaded = asyncio.create_task(price_there())
    await begun.wait()
    waiting = asyncio.create_task(menu())
    await loading.wait()
    may_end.set()
    assert await loaded == await waiting == 1  # it has waited for the other's
    await there.aio.invalidate("prices")

    assert await menu() == 2
    here.close()
    there.close()
