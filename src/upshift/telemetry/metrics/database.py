"""The metrics of connection pools and transactions.

Names and labels are those of OpenTelemetry's semantic conventions for database clients, in Prometheus form.
What they do not name is named in their manner: transactions, and `idle_in_use`, how long a connection was in
use while no statement ran. Its route tells which endpoints hold a connection while they do something else.

What is told here waits for others of its kind and is counted with them, as closed records are (see
`upshift.record.backlog`); only what is rare, opening a connection and a timeout, is counted at once.
"""

from __future__ import annotations

from collections import defaultdict, deque
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from upshift.record.fork import after_fork
from upshift.telemetry.metrics.http import FAST_BUCKETS, MAX_REMEMBERED, MAX_ROUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from upshift.record import Record
    from upshift.record.pool import Checkout, PoolState, TransactionOutcome
    from upshift.telemetry.metrics.registry import (
        Counter,
        Histogram,
        HistogramFamily,
        LabelBounds,
        Metrics,
    )

    _Ended = tuple[str, TransactionOutcome, float]

T = TypeVar("T")

POOL = "db_client_connection_pool_name"
MAX_POOLS = 50
"""Pools with a label of their own."""

OUTCOMES: tuple[TransactionOutcome, ...] = ("commit", "rollback", "close", "error")

SIZE = 64
"""Uses of connections, and transactions, that wait for others."""

_BUCKETS = (0.0001, *FAST_BUCKETS)


class _Pool(NamedTuple):
    """The series of one pool."""

    wait: Histogram
    use: Histogram
    transaction: Histogram
    outcomes: dict[TransactionOutcome, Counter]


class DatabaseMetrics:
    """Counts uses of connections, and transactions; it is the observer of `upshift.sql.pool.pools.Pools`.

    Args:
        metrics: where the families are declared.
        states: tells the present state of each pool.
        route_of: tells the route of a request, which may still be open; None where there is none.

    Example:
        >>> from upshift.record.pool import Checkout
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> metrics = Metrics()
        >>> database = DatabaseMetrics(metrics, states=tuple, route_of=lambda record: record.route)
        >>> checkout = Checkout("shop", None, asked=10.0)
        >>> checkout.obtained, checkout.returned = 10.5, 12.5
        >>> database.connection_returned(checkout)
        >>> database.drain()
        >>> [each.values[-1] for each in metrics.series() if "use_time" in each.family]
        [2.0]
    """

    def __init__(
        self,
        metrics: Metrics,
        states: Callable[[], Iterable[PoolState]],
        route_of: Callable[[Record], str | None],
    ) -> None:
        self._states = states
        self._route_of = route_of
        pool: LabelBounds = {POOL: MAX_POOLS}

        def histogram(name: str, text: str, labels: LabelBounds = pool) -> HistogramFamily:
            return metrics.histogram(f"db_client_{name}", text, labels=labels, buckets=_BUCKETS, own=True)

        self._wait = histogram("connection_wait_time", "Time to obtain a connection from the pool")
        self._use = histogram("connection_use_time", "Time between borrowing a connection and returning it")
        self._create = histogram("connection_create_time", "Time to open a new connection")
        self._idle = histogram(
            "connection_idle_in_use",
            "Time a request held a connection while no statement ran on it",
            {**pool, "http_route": MAX_ROUTES},
        )
        self._timeouts = metrics.counter(
            "db_client_connection_timeouts",
            "Requests for a connection that none came free for",
            labels=pool,
            own=True,
        )
        self._transactions = metrics.counter(
            "db_client_transactions",
            "Transactions that ended",
            labels={**pool, "outcome": OUTCOMES},
            own=True,
        )
        self._transaction = histogram(
            "transaction_duration", "Time from the start of transactions to their end"
        )
        # The conventions say `db.client.connection.count`; to Prometheus, `_count` is a part of a histogram.
        self._connections = metrics.gauge(
            "db_client_connections",
            "Connections by state",
            labels={**pool, "db_client_connection_state": ("used", "idle")},
            own=True,
        )
        self._max = metrics.gauge(
            "db_client_connection_max",
            "Connections that the pool may have open at most",
            labels=pool,
            own=True,
        )
        self._pending = metrics.gauge(
            "db_client_connection_pending_requests",
            "Requests for a connection that wait",
            labels=pool,
            own=True,
        )
        self._pools: dict[str, _Pool] = {}
        self._returned: deque[Checkout] = deque()
        self._ended: deque[_Ended] = deque()
        self._lock = Lock()
        self._idle_series: dict[tuple[str, str], Histogram] = {}
        after_fork(self._forget)
        metrics.before_collecting(self.drain)
        metrics.before_collecting(self._read_states)

    def connection_returned(self, checkout: Checkout) -> None:
        """Count the use of a connection, soon."""
        self._returned.append(checkout)
        if len(self._returned) >= SIZE:
            self.drain()

    def transaction_ended(self, pool: str, outcome: TransactionOutcome, seconds: float) -> None:
        """Count a transaction, soon."""
        self._ended.append((pool, outcome, seconds))
        if len(self._ended) >= SIZE:
            self.drain()

    def connection_created(self, pool: str, seconds: float) -> None:
        """Count an opened connection."""
        self._create.at((pool,)).observe(seconds)

    def connection_timed_out(self, pool: str) -> None:
        """Count a request that no connection came free for."""
        self._timeouts.at((pool,)).add()

    def drain(self) -> None:
        """Count what waits, unless it is being counted already."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._count(_taken(self._returned), _taken(self._ended))
        finally:
            self._lock.release()

    def _count(self, returned: Iterable[Checkout], ended: Iterable[_Ended]) -> None:
        transactions: defaultdict[tuple[str, TransactionOutcome], list[float]] = defaultdict(list)
        for pool, outcome, seconds in ended:
            transactions[pool, outcome].append(seconds)
        by_pool: defaultdict[str, list[Checkout]] = defaultdict(list)
        for checkout in returned:
            by_pool[checkout.pool].append(checkout)
            if checkout.record is not None and (idle := checkout.idle_seconds) is not None:
                self._idle_of(checkout.pool, checkout.record).observe(idle)
            if checkout.began:  # nobody ended the transaction, so the connection was lost
                transactions[checkout.pool, "error"].append(checkout.returned - checkout.began)
        for pool, checkouts in by_pool.items():
            series = self._pools.get(pool) or self._find(pool)
            series.wait.observe_some([each.obtained - each.asked for each in checkouts])
            series.use.observe_some([each.returned - each.obtained for each in checkouts])
        for (pool, outcome), times in transactions.items():
            series = self._pools.get(pool) or self._find(pool)
            series.transaction.observe_some(times)
            series.outcomes[outcome].add(len(times))

    def _idle_of(self, pool: str, record: Record) -> Histogram:
        key = (pool, self._route_of(record) or "")
        found = self._idle_series.get(key)
        if found is None:
            found = self._idle.at(key)
            if len(self._idle_series) < MAX_REMEMBERED:
                self._idle_series[key] = found
        return found

    def _find(self, pool: str) -> _Pool:
        self._pools[pool] = series = _Pool(
            self._wait.at((pool,)),
            self._use.at((pool,)),
            self._transaction.at((pool,)),
            {outcome: self._transactions.at((pool, outcome)) for outcome in OUTCOMES},
        )
        return series

    def _read_states(self) -> None:
        for state in self._states():
            self._connections.at((state.pool, "used")).set(state.used)
            if state.idle is not None:
                self._connections.at((state.pool, "idle")).set(state.idle)
            if state.maximum is not None:
                self._max.at((state.pool,)).set(state.maximum)
            self._pending.at((state.pool,)).set(state.pending)

    def _forget(self) -> None:
        self._lock = Lock()
        self._returned.clear()
        self._ended.clear()


def _taken(waiting: deque[T]) -> Iterator[T]:
    for _ in range(len(waiting)):
        yield waiting.popleft()
