"""Keeps the records worth keeping, in fixed memory.

Each route has a histogram of all its durations. A record is kept in the ring when it failed, when it was slow
or among the slowest of its route, or by sampling.
"""

from __future__ import annotations

import math
import random
from collections import deque
from typing import TYPE_CHECKING

from upshift.record.histogram import RELATIVE_ERROR, Histogram
from upshift.record.method import known_method
from upshift.record.model import NO_ROUTE

if TYPE_CHECKING:
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

SERVER_ERROR = 500


class _Route:
    __slots__ = ("review_at", "seconds", "slow")

    def __init__(self) -> None:
        self.seconds = Histogram()
        self.slow = float("inf")
        self.review_at = LEARNING

    def add(self, seconds: float) -> bool:
        """Count a request, and tell whether it was among the slowest."""
        self.seconds.add(seconds)
        if self.seconds.count >= self.review_at:
            self.review_at += self.review_at // REVIEW_SHARE
            # A quantile may be a little low, and of nearly equal durations that would keep most.
            self.slow = self.seconds.quantile(SLOW_QUANTILE) * (1 + RELATIVE_ERROR)
        return seconds > self.slow


class Keeper:
    """The ring of kept records, and the distribution of durations by route.

    Args:
        settings: the ring's size and the share of ordinary requests kept.
        slow_request_seconds: what counts as slow on any route.
    """

    def __init__(self, settings: RecordSettings, slow_request_seconds: float = math.inf) -> None:
        self._slow_seconds = slow_request_seconds
        self._ring: deque[Record] = deque(maxlen=settings.ring_size)
        self._sample_rate = settings.sample_rate
        self._routes: dict[tuple[str, str | None], _Route] = {}
        self._others = _Route()

    def keep(self, record: Record) -> None:
        """Count a closed record, and keep it if it is worth it."""
        route = self._routes.get((record.method, record.route)) or self._find(record)
        limit = self._slow_seconds
        slow = route.add(record.seconds) or (record.seconds >= limit and record.answer_seconds >= limit)
        failed = record.error is not None or record.status >= SERVER_ERROR
        if slow or failed or random.random() < self._sample_rate:  # noqa: S311 - sampling, not secrets
            self._ring.append(record)

    def _find(self, record: Record) -> _Route:
        operation = (known_method(record.method), record.route)
        route = self._routes.get(operation)
        if route is None:
            if len(self._routes) >= MAX_ROUTES:
                return self._others
            route = self._routes[operation] = _Route()
        return route

    def records(self) -> tuple[Record, ...]:
        """Return the kept records, the oldest first."""
        return tuple(self._ring)

    def durations(self) -> dict[str, Histogram]:
        """Return the distribution of durations, in seconds, by route (`GET /orders/{order_id}`)."""
        return {
            f"{method} {template or NO_ROUTE}": route.seconds
            for (method, template), route in self._routes.items()
        }
