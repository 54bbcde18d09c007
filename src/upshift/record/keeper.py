"""Keeps records in fixed memory, and tells which are worth it.

Each route has a histogram of all its durations, which tells who is among the slowest. Those are kept by
`upshift.record.closing`, and those that failed, that were slow by any standard, or that were drawn.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from upshift.record.histogram import RELATIVE_ERROR, Histogram
from upshift.record.model import NO_ROUTE

if TYPE_CHECKING:
    from collections.abc import Collection

    from upshift.record.model import Record
    from upshift.settings import RecordSettings

MAX_ROUTES = 1_000
"""Routes with a histogram of their own; further ones share one."""

SLOW_QUANTILE = 0.99
"""Records slower than this quantile of their route are kept."""

LEARNING = 100
"""Requests of a route from which on the quantile is taken seriously."""

REVIEW_SHARE = 8
"""The quantile costs more than an addition; it is looked at anew when a route has grown by one in so many."""


class RouteDurations:
    """The durations of one route's requests, and from which on one is among the slowest.

    Only one thread may add at a time.

    Attributes:
        seconds: their distribution.
        slow: a longer duration is among the slowest; infinite until enough are known.
    """

    __slots__ = ("review_at", "seconds", "slow")

    def __init__(self) -> None:
        self.seconds = Histogram()
        self.slow = math.inf
        self.review_at = LEARNING

    def add_all(self, durations: Collection[float]) -> None:
        """Add durations."""
        self.seconds.add_all(durations)
        if self.seconds.count >= self.review_at:
            self.review_at = self.seconds.count + self.seconds.count // REVIEW_SHARE
            # A quantile may be a little low, and of nearly equal durations that would keep most.
            self.slow = self.seconds.quantile(SLOW_QUANTILE) * (1 + RELATIVE_ERROR)


class Keeper:
    """The ring of kept records, and the distribution of durations by route.

    Args:
        settings: the ring's size and the share of ordinary requests kept.

    Attributes:
        sample_rate: that share.
    """

    def __init__(self, settings: RecordSettings) -> None:
        self.sample_rate = settings.sample_rate
        self._ring: deque[Record] = deque(maxlen=settings.ring_size)
        self._routes: dict[tuple[str, str | None], RouteDurations] = {}
        self._others = RouteDurations()

    def keep(self, record: Record) -> None:
        """Keep a record, in the place of the oldest."""
        self._ring.append(record)

    def durations_of(self, method: str, route: str | None) -> RouteDurations:
        """Return the durations of a route."""
        found = self._routes.get((method, route))
        if found is None:
            if len(self._routes) >= MAX_ROUTES:
                return self._others
            found = self._routes[method, route] = RouteDurations()
        return found

    def records(self) -> tuple[Record, ...]:
        """Return the kept records, the oldest first."""
        return tuple(self._ring)

    def durations(self) -> dict[str, Histogram]:
        """Return the distribution of durations, in seconds, by route (`GET /orders/{order_id}`)."""
        return {
            f"{method} {template or NO_ROUTE}": durations.seconds
            for (method, template), durations in tuple(self._routes.items())
        }
