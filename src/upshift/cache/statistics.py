"""What a cache did, by namespace."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, nan
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from upshift.record.histogram import Histogram

if TYPE_CHECKING:
    from upshift.cache.memory import Key, Memory
    from upshift.cache.tokens import Carrier


MAX_REASONS = 50
"""Reasons that are counted apart in a namespace: some name what could not be kept."""

OTHER_REASONS = "for other reasons"


@dataclass(slots=True)
class Statistics:
    """Counts of one namespace since the start.

    Attributes:
        hits: calls that were answered from the cache.
        misses: calls that found nothing there, and loaded their value.
        joined: calls that were answered by a load that another call had begun.
        fills: values kept.
        stale_prevented: entries found that were not served, as what they depend on had been written.
        expired: entries found whose time was up.
        bypassed: calls past the cache, of tasks that had written what the value depends on.
        refused: values not kept, by the reason; `MAX_REASONS` of them, and `OTHER_REASONS` for the rest.
        evictions: entries that made room for others.
        refreshed: values that were loaded anew in the background, ahead of their end or after a commit.
        errors: loads that failed.
        stale_served_on_error: calls whose load failed, and which got the last value, as they had asked.
        audited: hits for which the function was run again, to compare.
        stale_served: those that had served what was not right any more, though the tokens said so.
        not_modified: hits that clients were told to have already (304); of responses only.
        entries: values that are kept now.
        bytes: what they take, about.
        hit_seconds: what finding one of them takes, measured when asked; NaN where there is none, and where
            values are in Redis.
        loads: the durations of loads; it goes on counting.
    """

    hits: int = 0
    misses: int = 0
    joined: int = 0
    fills: int = 0
    stale_prevented: int = 0
    expired: int = 0
    bypassed: int = 0
    evictions: int = 0
    refreshed: int = 0
    errors: int = 0
    stale_served_on_error: int = 0
    audited: int = 0
    stale_served: int = 0
    not_modified: int = 0
    entries: int = 0
    bytes: int = 0
    hit_seconds: float = nan
    refused: dict[str, int] = field(default_factory=dict)
    loads: Histogram = field(default_factory=Histogram)

    @property
    def load_seconds(self) -> float:
        """Time spent loading."""
        return self.loads.sum

    @property
    def hit_ratio(self) -> float:
        """Share of the calls that loaded nothing, from 0 to 1; 0 without calls."""
        answered = self.hits + self.joined
        calls = answered + self.misses + self.bypassed
        return answered / calls if calls else 0.0

    def refuse(self, reason: str) -> None:
        """Count a value that was not kept."""
        if reason not in self.refused and len(self.refused) >= MAX_REASONS:
            reason = OTHER_REASONS
        self.refused[reason] = self.refused.get(reason, 0) + 1


def time_of_hit(memory: Memory, tokens: Carrier[Any], key: Key | None) -> float:
    """Return the seconds that finding an entry and seeing that it holds takes; NaN where it does not.

    It is measured here, since a clock in each hit would take a fifth of it.
    """
    shortest = inf
    for _ in range(3):
        began = perf_counter()
        entry = memory.entries.get(key) if key is not None else None
        if entry is None or not tokens.holds(entry.stamp) or entry.expires <= monotonic():
            return nan
        shortest = min(shortest, perf_counter() - began)
    return shortest
