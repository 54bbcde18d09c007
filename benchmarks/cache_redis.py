"""A cache in Redis, beside a bare GET of redis-py and beside cashews; and what it costs when Redis hangs.

    python benchmarks/cache_redis.py

A hit in Redis is an entry that memory has not: one MGET brings it with the tokens of the two tags, the
function's own and the fence, and it is decoded. A hit in memory asks for the tokens alone. The peer gets as
many bytes by redis-py's asyncio client with hiredis; cashews keeps the same value with the same two tags, as
it does by default. The contestants take turns in short blocks, and the ratio is the median of the blocks'.

For the hang, Valkey is stopped by SIGSTOP while eight tasks go on asking. What a call takes then is compared
with what the same calls take uncached, as a percentile of all until the circuit opens, and of all after. The
uncached calls come in between, in short blocks as well: what disturbs the machine disturbs both.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import statistics
import sys
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from cashews import Cache as Cashews
from redis.asyncio import Redis
from report import Case, progress, report

from upshift import Cache
from upshift.testing.servers import valkey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from upshift.testing.servers import ValkeyServer

    Ask = Callable[[int], Awaitable[object]]

BLOCKS = 60
CALLS = 60
AT_ONCE = 100
VALUE = {"id": 7, "name": "mapo tofu", "price": 185, "tags": ["spicy", "tofu"], "text": "x" * 300}
GET_BAR, CASHEWS_BAR, AT_ONCE_BAR = 1.35, 0.75, 0.5
UNTIL_OPEN_BAR, AFTER_BAR = 0.050, 0.001
TASKS, HUNG_BLOCKS = 8, 12


class Contestants(NamedTuple):
    """What is asked for the same values."""

    in_redis: Ask
    in_memory: Ask
    get: Ask
    cashews: Ask


async def contestants(server: ValkeyServer, caches: list[Cache], client: Redis) -> Contestants:
    far, near = caches

    def kept_by(cache: Cache) -> Callable[[int], Awaitable[dict[str, object]]]:
        @cache.cached(ttl="1h", tags=["dish:{number}", "dishes"], namespace="dish")
        async def dish(number: int) -> dict[str, object]:
            return VALUE | {"id": number}

        return dish

    from_redis, from_memory = kept_by(far), kept_by(near)
    while not (far.statistics()["dish"].fills and near.statistics()["dish"].hits):
        await from_redis(7)
        await from_memory(7)
        await asyncio.sleep(0.05)

    cashews = Cashews()
    cashews.setup(server.url)

    @cashews(ttl="1h", key="dish:{number}", tags=["dish:{number}", "dishes"])
    async def of_cashews(number: int) -> dict[str, object]:
        return VALUE | {"id": number}

    for number in range(AT_ONCE):
        for ask in (from_redis, from_memory, of_cashews):
            await ask(number)
        size = await client.strlen(f"{{upshift:near}}:e:dish:{number}|")
        await client.set(f"bare:{number}", bytes(size))
    return Contestants(from_redis, from_memory, lambda number: client.get(f"bare:{number}"), of_cashews)


async def one_by_one(ask: Ask) -> float:
    began = perf_counter()
    for _ in range(CALLS):
        await ask(7)
    return (perf_counter() - began) / CALLS * 1e6


async def at_once(ask: Ask) -> float:
    """Ask for as many values at once, each another."""
    began = perf_counter()
    await asyncio.gather(*(ask(number) for number in range(AT_ONCE)))
    return (perf_counter() - began) / AT_ONCE * 1e6


async def in_turns(
    asks: dict[str, Ask], measure: Callable[[Ask], Awaitable[float]]
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in asks}
    names = list(asks)
    gc.collect()
    for block in range(BLOCKS):
        start = block % len(names)
        for name in names[start:] + names[:start]:
            times[name].append(await measure(asks[name]))
    return times


def compared(case: str, times: dict[str, list[float]], ours: str, peer: str, bar: float | None) -> Case:
    return Case(
        case,
        round(statistics.median(times[ours]), 2),
        round(statistics.median(times[peer]), 2),
        peer,
        bar,
        "µs",
        round(statistics.median(a / b for a, b in zip(times[ours], times[peer], strict=True)), 4),
    )


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


async def when_it_hangs() -> list[Case]:
    """Stop a server of its own under a cache that is in use."""
    with valkey(listen="tcp") as server:
        cache = Cache(server.url, name="hang")
        is_stopped = False
        until_open: list[float] = []
        after: list[float] = []
        uncached: list[float] = []

        async def load() -> int:
            await asyncio.sleep(0.002)
            return 1

        kept = cache.cached(namespace="hang")(load)
        remote = cache._shared._shared.remote  # type: ignore[union-attr]

        async def keep_loading(seconds: float) -> None:
            ends = perf_counter() + seconds
            while perf_counter() < ends:
                began = perf_counter()
                await load()
                uncached.append(perf_counter() - began)

        async def keep_asking(seconds: float) -> None:
            ends = perf_counter() + seconds
            while perf_counter() < ends:
                was_open, began = remote.circuit.is_open, perf_counter()
                await kept()
                if is_stopped:
                    (after if was_open else until_open).append(perf_counter() - began)

        await asyncio.sleep(1.5)
        await asyncio.gather(*(keep_asking(0.5) for _ in range(TASKS)))
        os.kill(server.pid, signal.SIGSTOP)
        is_stopped = True
        for _ in range(HUNG_BLOCKS):
            await asyncio.gather(*(keep_asking(0.25) for _ in range(TASKS)))
            await asyncio.gather(*(keep_loading(0.25) for _ in range(TASKS)))
        os.kill(server.pid, signal.SIGCONT)
        cache.close()
        await asyncio.sleep(0)
    # A call that waits for the turn before its own takes two loads: that is not Redis's doing.
    turns = 2 * percentile(uncached, 0.99)
    progress(f"{len(until_open)} calls until the circuit opened, {len(after)} after")
    return [
        Case(
            "hung: added p99 until the circuit opens",
            round((percentile(until_open, 0.99) - turns) * 1e3, 3),
            UNTIL_OPEN_BAR * 1e3,
            "the bar",
            1.0,
            "ms",
        ),
        Case(
            "hung: added p99 after it has",
            round((percentile(after, 0.99) - turns) * 1e3, 3),
            AFTER_BAR * 1e3,
            "the bar",
            1.0,
            "ms",
        ),
    ]


async def measured() -> list[Case]:
    with valkey(listen="tcp") as server:
        caches = [Cache(server.url, max_entries=0), Cache(server.url, name="near")]
        client = Redis.from_url(server.url)
        asks = (await contestants(server, caches, client))._asdict()
        progress("one by one")
        single = await in_turns(asks, one_by_one)
        progress("at once")
        together = await in_turns(asks, at_once)
        for cache in caches:
            cache.close()
        await client.aclose()
    return [
        compared("a hit in Redis, validated", single, "in_redis", "get", GET_BAR),
        compared("a hit in memory, validated", single, "in_memory", "get", GET_BAR),
        compared("a hit in Redis, validated", single, "in_redis", "cashews", CASHEWS_BAR),
        compared(f"{AT_ONCE} hits in Redis at once", together, "in_redis", "get", AT_ONCE_BAR),
        compared(f"{AT_ONCE} hits in memory at once", together, "in_memory", "get", AT_ONCE_BAR),
        compared(f"{AT_ONCE} hits in Redis at once", together, "in_redis", "cashews", None),
        *await when_it_hangs(),
    ]


if __name__ == "__main__":
    sys.exit(report("cache_redis", asyncio.run(measured()), ("upshift", "redis", "hiredis", "cashews")))
