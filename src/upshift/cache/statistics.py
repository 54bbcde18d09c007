"""What a cache did, by namespace."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Statistics:
    """Counts of one namespace since the start.

    Attributes:
        hits: calls that were answered from the cache.
        misses: calls that loaded their value.
        joined: calls that were answered by a load that another call had begun.
        fills: values kept.
        stale_prevented: entries found that were not served, as what they depend on had been written.
        expired: entries found whose time was up.
        bypassed: calls past the cache, of tasks that had written what the value depends on.
        refused: values not kept, by the reason.
        evictions: entries that made room for others.
        load_seconds: time spent loading.
    """

    hits: int = 0
    misses: int = 0
    joined: int = 0
    fills: int = 0
    stale_prevented: int = 0
    expired: int = 0
    bypassed: int = 0
    evictions: int = 0
    load_seconds: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def hit_ratio(self) -> float:
        """Share of the calls that loaded nothing, from 0 to 1; 0 without calls."""
        answered = self.hits + self.joined
        calls = answered + self.misses + self.bypassed
        return answered / calls if calls else 0.0

    def refuse(self, reason: str) -> None:
        """Count a value that was not kept."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
