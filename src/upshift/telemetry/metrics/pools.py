"""The metrics of what Upshift does for connection pools, and of connections that are not given back.

They are read when somebody collects; what is counted is counted by the parts themselves.
"""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING

from upshift.record.fork import after_fork
from upshift.telemetry.metrics.database import MAX_POOLS, POOL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.record.leak import Leak
    from upshift.record.pool_care import PoolTally
    from upshift.telemetry.metrics.registry import CounterFamily, LabelBounds, Metrics


class PoolMetrics:
    """Tells the limits, resizes, checks and leaks of pools.

    Args:
        metrics: where the families are declared.
        tallies: tells what was done for each pool.
        leaks: tells which connections were not given back.

    Example:
        >>> from upshift.record.pool_care import PoolTally
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> metrics = Metrics()
        >>> told = PoolMetrics(metrics, lambda: [PoolTally("shop", limit=8, raised=2)], leaks=tuple)
        >>> metrics.refresh()
        >>> [(each.labels, each.values[0]) for each in metrics.series() if "resizes" in each.family]
        [(('shop', 'up'), 2.0)]
    """

    def __init__(
        self,
        metrics: Metrics,
        tallies: Callable[[], Iterable[PoolTally]],
        leaks: Callable[[], Iterable[Leak]],
    ) -> None:
        self._tallies = tallies
        self._leaks = leaks
        pool: LabelBounds = {POOL: MAX_POOLS}

        def counter(name: str, text: str, labels: LabelBounds = pool) -> CounterFamily:
            return metrics.counter(f"db_client_connection_{name}", text, labels=labels, own=True)

        self._limit = metrics.gauge(
            "db_client_connection_limit",
            "Connections that automatic sizing lets be in use",
            labels=pool,
            own=True,
        )
        self._target = metrics.gauge(
            "db_client_connection_limit_target",
            "The limit that automatic sizing thinks best, while it tries others",
            labels=pool,
            own=True,
        )
        self._most = metrics.gauge(
            "db_client_connection_limit_max",
            "The most that automatic sizing may choose, by the settings and the server",
            labels=pool,
            own=True,
        )
        self._resizes = counter(
            "limit_resizes",
            "Times when automatic sizing chose another limit",
            {**pool, "direction": ("up", "down")},
        )
        self._pings = counter("pings", "Connections that were asked before they were used")
        self._failed_pings = counter("failed_pings", "Connections that did not answer and were replaced")
        self._recycled = counter("recycled", "Connections replaced for their age")
        self._leaked = counter(
            "leaks",
            "Connections held for too long, or forgotten",
            {**pool, "kind": ("held", "collected")},
        )
        self._told: dict[tuple[str, ...], int] = {}
        self._lock = Lock()
        after_fork(self._forget)
        metrics.before_collecting(self._refresh)

    def _refresh(self) -> None:
        with self._lock:  # scrapes and flushes come from several threads
            for tally in self._tallies():
                self._read(tally)
            leaked: Counter[tuple[str, str]] = Counter()
            for leak in self._leaks():
                leaked[leak.pool, leak.kind] += leak.count
            for key, count in leaked.items():
                self._follow(self._leaked, key, count)

    def _read(self, tally: PoolTally) -> None:
        pool = (tally.pool,)
        if tally.limit is not None and tally.target is not None and tally.most is not None:
            self._limit.at(pool).set(tally.limit)
            self._target.at(pool).set(tally.target)
            self._most.at(pool).set(tally.most)
        self._follow(self._resizes, (tally.pool, "up"), tally.raised)
        self._follow(self._resizes, (tally.pool, "down"), tally.lowered)
        self._follow(self._pings, pool, tally.pings)
        self._follow(self._failed_pings, pool, tally.failed_pings)
        self._follow(self._recycled, pool, tally.recycled)

    def _follow(self, family: CounterFamily, labels: tuple[str, ...], count: int) -> None:
        told = self._told.get((family.name, *labels), 0)
        if count > told:
            family.at(labels).add(count - told)
            self._told[family.name, *labels] = count

    def _forget(self) -> None:
        """In a forked child: who held the lock is the parent's."""
        self._lock = Lock()
