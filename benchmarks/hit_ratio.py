"""Share of calls that find their value, where memory holds a twentieth of what is asked for.

    python benchmarks/hit_ratio.py

Ours beside theine (W-TinyLFU) and least-recently-used, each given the same traces, which come from fixed
seeds. Nothing is timed. Ours and the latter come to the same figures in each run; theine's differ by some
tenths of a point, as it hashes differently. They are calls that found nothing, in a hundred, so that less is
better: ours may miss one call in a hundred more than theine's, and none more than the least recently used.
"""

from __future__ import annotations

import random
import sys
from collections import OrderedDict
from itertools import accumulate
from typing import TYPE_CHECKING

import theine
from report import Case, progress, report

from upshift import Cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEYS = 20_000
CAPACITY = KEYS // 20
CALLS = 300_000
WEIGHTS = tuple(accumulate(1 / rank for rank in range(1, KEYS + 1)))

Trace = list[int]


def zipf() -> Trace:
    """The key of rank n is asked for 1/n times as often as the first."""
    return random.Random(7).choices(range(KEYS), cum_weights=WEIGHTS, k=CALLS)


def polluted() -> Trace:
    """The same, with runs through two thousand keys that are asked for once."""
    trace = []
    for number, key in enumerate(zipf()):
        trace.append(key)
        if number % 5_000 == 0:
            trace += range(10**7 + number, 10**7 + number + 2_000)
    return trace


def shifting() -> Trace:
    """The same, where other keys are the frequent ones after each fifty thousand calls."""
    return [(key + number // 50_000 * 3_000) % KEYS for number, key in enumerate(zipf())]


def drifting() -> Trace:
    """The same, where the frequent keys change one by one."""
    return [(key + number // 50) % KEYS for number, key in enumerate(zipf())]


def missed_by_ours(trace: Sequence[int]) -> float:
    cache = Cache(max_entries=CAPACITY)

    @cache.cached(namespace="trace")
    def load(key: int) -> int:
        return key

    for key in trace:
        load(key)
    missed = cache.statistics()["trace"].misses
    cache.close()
    return 100 * missed / len(trace)


def missed_by_theine(trace: Sequence[int]) -> float:
    cache: theine.Cache[int, int] = theine.Cache(CAPACITY)
    missed = 0
    for key in trace:
        if not cache.get(key)[1]:
            missed += 1
            cache.set(key, key)
    cache.close()
    return 100 * missed / len(trace)


def missed_by_least_recently_used(trace: Sequence[int]) -> float:
    kept: OrderedDict[int, None] = OrderedDict()
    missed = 0
    for key in trace:
        if key in kept:
            kept.move_to_end(key)
            continue
        missed += 1
        kept[key] = None
        if len(kept) > CAPACITY:
            kept.popitem(last=False)
    return 100 * missed / len(trace)


def cases() -> list[Case]:
    made: list[Case] = []
    traces: dict[str, Callable[[], Trace]] = {
        "Zipf 1.0": zipf,
        "Zipf 1.0 with scans": polluted,
        "Zipf 1.0 that shifts": shifting,
        "Zipf 1.0 that drifts": drifting,
    }
    for name, make in traces.items():
        progress(name)
        trace = make()
        ours, of_theine, of_lru = (
            missed(trace) for missed in (missed_by_ours, missed_by_theine, missed_by_least_recently_used)
        )
        a_point_more = (of_theine + 1) / of_theine
        made.append(Case(name, ours, of_theine, "theine", a_point_more, "% missed"))
        made.append(Case(name, ours, of_lru, "least recently used", 1.0, "% missed"))
    return made


def main() -> int:
    return report("hit_ratio", cases(), ("theine",))


if __name__ == "__main__":
    sys.exit(main())
