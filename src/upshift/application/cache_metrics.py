"""Tells metrics what a cache counts, when they are collected: a hit pays nothing for it."""

from __future__ import annotations

from collections import Counter
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from upshift.record.fork import after_fork
from upshift.telemetry.metrics.families import (
    MAX_CACHES,
    declare_cache,
    declare_cache_redis,
    declare_write_behind,
)
from upshift.telemetry.metrics.registry import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from upshift.cache import Statistics
    from upshift.cache.state import CacheState
    from upshift.cache.writes.counting import WriteStatistics
    from upshift.telemetry.metrics.registry import CounterFamily, Metrics

    Labels = tuple[str, ...]

T = TypeVar("T")

COUNTS = (
    "hits", "misses", "joined", "bypassed", "fills", "stale_prevented", "expired", "evictions", "refreshed",
    "errors", "stale_served_on_error", "audited", "stale_served", "not_modified",
)  # fmt: skip
"""What is counted under the same name by `Statistics` and by `CacheFamilies`."""


WRITE_COUNTS = ("flushed", "failures", "given_up")
"""What is counted under the same name by `WriteStatistics` and by `WriteBehindFamilies`."""


class CacheMetrics:
    """The metrics of one cache.

    Args:
        metrics: where the families are declared; those of write-behinds when there is one.
        statistics: tells what has been counted, by namespace.
        state: tells how the cache is.
        writes: tells what write-behinds have counted, by name.

    Example:
        >>> from upshift.cache import Cache
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> cache, metrics = Cache(), Metrics()
        >>> told = CacheMetrics(metrics, cache.statistics, cache.state, cache.writes.statistics)
        >>> cache.set("rate:TWD", 32.5)
        True
        >>> {each.name: each for each in metrics.families()}["upshift_cache_fills"].snapshot()[0][0]
        ('values',)
    """

    def __init__(
        self,
        metrics: Metrics,
        statistics: Callable[[], Mapping[str, Statistics]],
        state: Callable[[], CacheState],
        writes: Callable[[], Mapping[str, WriteStatistics]],
    ) -> None:
        self._statistics = statistics
        self._state = state
        self._writes = writes
        self._declare_writes = cache(partial(declare_write_behind, metrics))
        self._families = declare_cache(metrics)
        self._redis = declare_cache_redis(metrics) if state().redis is not None else None
        self._told: dict[tuple[CounterFamily, Labels], float] = {}
        self._lock = Lock()
        after_fork(self._forget)
        metrics.before_collecting(self._refresh)

    def _refresh(self) -> None:
        with self._lock:  # scrapes and flushes come from several threads
            counted, written = self._statistics(), self._writes()
            for key, count in self._counts(counted, written):
                family, labels = key
                # A series is there from the beginning, so that its first increase is one.
                family.at(labels).add(max(count - self._told.get(key, 0), 0))
                self._told[key] = count
            self._measure(counted)
            self._measure_writes(written)

    def _measure(self, counted: Mapping[str, Statistics]) -> None:
        entries: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for name, statistics in _named(counted):
            entries[name] += statistics.entries
            sizes[name] += statistics.bytes
        for name, number in entries.items():
            self._families.entries.at((name,)).set(number)
            self._families.size.at((name,)).set(sizes[name])
        redis = self._state().redis
        if self._redis is not None and redis is not None:
            self._redis.away.at(()).set(float(not redis.is_usable))

    def _measure_writes(self, written: Mapping[str, WriteStatistics]) -> None:
        waiting: dict[str, tuple[float, ...]] = {}
        for name, told in _named(written):
            entries, size, oldest = waiting.get(name, (0, 0, 0.0))
            waiting[name] = (entries + told.entries, size + told.bytes, max(oldest, told.oldest_seconds))
        for name, (entries, size, oldest) in waiting.items():
            families = self._declare_writes()
            families.entries.at((name,)).set(entries)
            families.size.at((name,)).set(size)
            families.oldest.at((name,)).set(oldest)

    def _counts(
        self, counted: Mapping[str, Statistics], written: Mapping[str, WriteStatistics]
    ) -> Iterator[tuple[tuple[CounterFamily, Labels], float]]:
        """Yield what there is to count, by family and labels; of namespaces that share a label, the sum."""
        sums: dict[tuple[CounterFamily, Labels], float] = {}

        def add(family: CounterFamily, labels: Labels, count: float) -> None:
            sums[family, labels] = sums.get((family, labels), 0) + count

        for name, statistics in _named(counted):
            for each in COUNTS:
                add(getattr(self._families, each), (name,), getattr(statistics, each))
            add(self._families.loads, (name,), statistics.loads.count)
            add(self._families.load_seconds, (name,), statistics.load_seconds)
            for reason, count in statistics.refused.items():
                add(self._families.refused, (name, reason), count)
        for name, told in _named(written):
            for each in WRITE_COUNTS:
                add(getattr(self._declare_writes(), each), (name,), getattr(told, each))
        redis = self._state().redis
        if self._redis is not None and redis is not None:
            add(self._redis.openings, (), redis.openings)
            add(self._redis.malformed, (), redis.malformed)
        yield from sums.items()

    def _forget(self) -> None:
        """In a forked child: what was counted before is the parent's, and so is who may hold the lock."""
        self._lock = Lock()
        self._told = dict(self._counts(self._statistics(), self._writes()))


def _named(counted: Mapping[str, T]) -> Iterator[tuple[str, T]]:
    """Yield statistics with the label of their name: the first ones have one of their own."""
    for number, (name, statistics) in enumerate(counted.items()):
        yield name if number < MAX_CACHES else OTHER, statistics
