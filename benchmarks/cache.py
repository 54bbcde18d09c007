"""A value that is in memory, beside moka-py and cashews.

    python benchmarks/cache.py

Ours is an async function with two tags, a time and statistics; a hit checks that nothing it depends on has
been written. moka-py's has a time and neither tags nor statistics, cashews' has a time and the same two tags.
All hand out the value of the same call over and over. They take turns, some hundred times for a moment each,
and who begins changes. The figures are medians, the ratios those of the fastest moment of each: whatever else
the machine does makes moments slower, and none faster.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING

import moka_py
from cashews import Cache as Cashews
from report import Case, progress, report

from upshift import Cache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Function = Callable[[int], Awaitable[int]]

MOMENTS = 200
CALLS = {"ours": 1_000, "moka-py": 1_000, "cashews": 30, "nothing": 1_000}


def functions(cache: Cache, cashews: Cashews) -> dict[str, Function]:
    """The same function, kept by each."""

    @cache.cached(ttl="1h", tags=["menu:{number}", "menus"])
    async def ours(number: int) -> int:
        return number

    @moka_py.cached(maxsize=10_000, ttl=3_600)
    async def moka(number: int) -> int:
        return number

    @cashews(ttl="1h", key="menu:{number}", tags=["menu:{number}", "menus"])
    async def of_cashews(number: int) -> int:
        return number

    async def nothing(number: int) -> int:
        return number

    return {"ours": ours, "moka-py": moka, "cashews": of_cashews, "nothing": nothing}


async def nanoseconds(function: Function, calls: int) -> float:
    """One hit's time, by many in a row."""
    started = perf_counter_ns()
    for _ in range(calls):
        await function(7)
    return (perf_counter_ns() - started) / calls


async def measure(contestants: dict[str, Function]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for function in contestants.values():
        assert await function(7) == 7
    gc.collect()
    gc.disable()
    for moment in range(MOMENTS):
        start = moment % len(names)
        for name in names[start:] + names[:start]:
            times[name].append(await nanoseconds(contestants[name], CALLS[name]))
    gc.enable()
    return times


def compared(times: dict[str, list[float]], peer: str, bar: float | None) -> Case:
    ours, its = times["ours"], times[peer]
    ratio = min(ours) / min(its)
    name = "an awaited function that is not cached" if peer == "nothing" else peer
    return Case("a hit in memory", statistics.median(ours), statistics.median(its), name, bar, "ns", ratio)


async def in_memory() -> list[Case]:
    progress(f"{MOMENTS} moments of hits in memory")
    cache, cashews = Cache(), Cashews()
    cashews.setup("mem://", size=10_000)
    times = await measure(functions(cache, cashews))
    counted = next(iter(cache.statistics().values()))
    assert (counted.misses, counted.hits) == (1, MOMENTS * CALLS["ours"])
    cache.close()
    await cashews.close()
    return [
        compared(times, "moka-py", 1.5),
        compared(times, "cashews", 1 / 50),
        compared(times, "nothing", None),
    ]


def main() -> int:
    return report("cache", asyncio.run(in_memory()), ("cashews", "moka-py"))


if __name__ == "__main__":
    sys.exit(main())
