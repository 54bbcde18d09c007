"""Hits of many at once, counted in calls for each one more, so that a slow-down fails without a clock.

A count that rises on purpose is changed here, with the reason in the changelog.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import upshift

OURS = upshift.__path__[0]

ASKING = {
    "cached_async": 2,
    "find": 1,
    "_answer_async": 2,
    "finish_async": 2,
    "_look_steps": 2,
    "ask_async": 2,
    "refuse_open": 1,
    "note_wait": 1,
    "succeeded": 1,
    "AsyncLinks.ask": 2,
    "AsyncLink.ask": 1,
    "look": 1,
    "Mget.__init__": 1,
    "packed": 1,
    "_hit": 1,
    "inherit": 1,
    "written_here": 1,
    "note_hit": 1,
    "value_of": 1,
}
"""What asks Redis, and hands out what is found. What waits in between is entered twice."""

TOKENS = {"renew_steps": 2, "holds_command": 1, "is_current": 1}

VALUE = {
    "fetch_steps": 2,
    "refuse_open": 1,
    "find_steps": 2,
    "_find_command": 1,
    "_told": 1,
    "_arguments": 1,
    "_likely": 1,
    "_entry": 1,
    "name_of_key": 1,
    "bulk": 1,
    "_read_steps": 1,
    "unpacked": 1,
    "stamp": 1,
    "_entry_found": 1,
    "seconds_left": 1,
    "shareable": 1,
    "_read": 1,
    "unpack": 1,
    "decode": 1,
    "has_mapped": 1,
    "entry_of": 1,
    "Entry.__init__": 1,
    "put": 1,
}


async def counted(work):
    """Return how often some work calls which functions of ours."""
    calls = Counter()

    def note(frame, event, argument):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(OURS) and code.co_name[0] != "<":
            is_shared = code.co_name in {"__init__", "ask"}
            calls[code.co_qualname if is_shared else code.co_name] += 1

    sys.setprofile(note)
    try:
        await work
    finally:
        sys.setprofile(None)
    return calls


async def calls_for_each(cache):
    """Return what each hit calls: those of 200 at once less those of 100."""

    @cache.cached(ttl="1h", tags=["dish:{number}", "dishes"], namespace="dish")
    async def dish(number: int) -> dict[str, object]:
        return {"id": number, "tags": ["spicy", "tofu"]}

    await asyncio.gather(*map(dish, range(200)))
    calls = await counted(asyncio.gather(*map(dish, range(200))))
    calls.subtract(await counted(asyncio.gather(*map(dish, range(100)))))
    assert cache.statistics()["dish"].hits == 300
    cache.close()
    await asyncio.sleep(0)
    return Counter({name: round(count / 100) for name, count in calls.items() if count >= 50})


async def test_of_a_value_that_memory_has(make_cache):
    assert await calls_for_each(make_cache()) == Counter(ASKING) + Counter(TOKENS)


async def test_of_a_value_that_redis_has(make_cache):
    assert await calls_for_each(make_cache(max_entries=0)) == Counter(ASKING) + Counter(VALUE)
