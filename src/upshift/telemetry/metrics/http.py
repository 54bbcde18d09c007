"""The metrics of HTTP requests and of their statements, made of closed records.

Names and labels are those of OpenTelemetry's semantic conventions for HTTP servers and database clients, in
Prometheus form. What they do not name, statements and rows, is named in their manner.

A request adds to series that are found by one look into a table, so its price does not depend on labels.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import TYPE_CHECKING

from upshift.record import METHODS, CountedSeries, Kind, known_method
from upshift.record.ongoing import Excerpt
from upshift.telemetry.metrics.registry import DURATION_BUCKETS, SIZE_BUCKETS
from upshift.telemetry.operation import operation_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.record import Record, Statement
    from upshift.telemetry.metrics.registry import Histogram, LabelBounds, Metrics

MAX_ROUTES = 500
"""Routes with a label of their own."""

MAX_ERRORS = 50
"""Exceptions with a label of their own."""

MAX_DIGESTS = 500
"""Kinds of statement with a label of their own."""

MAX_REMEMBERED = 10_000
"""Combinations of labels whose series are remembered; others are looked up each time."""

STATEMENT_BUCKETS = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
FAST_BUCKETS = (0.0005, 0.001, 0.0025, *DURATION_BUCKETS)

_OPERATIONS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "CALL")


class HttpMetrics:
    """Counts requests, and the statements that they sent.

    Args:
        metrics: where the families are declared.
        digest_of: tells the kind of a statement by its text, shortly and without its values.
        opened: tells the requests that are open.
        route_of: tells the route of one, where that is known by now.
        slow_request_seconds: what counts as a slow request.
        is_traced: tells whether a request's trace can be found, and so be named as an example; where it is
            not given, those that the caller sampled.
        slow_statement_seconds: what counts as a slow statement.

    Example:
        >>> from upshift.record import Kind
        >>> from upshift.telemetry.metrics.registry import Metrics
        >>> metrics = Metrics()
        >>> http = HttpMetrics(metrics, digest_of=str, opened=tuple)
        >>> series = http.counted(Kind("GET", "/orders/{order_id}", 200, None))
        >>> series.seconds.observe_all([0.012])
        >>> duration = "http_server_request_duration_seconds"
        >>> [each.labels for each in metrics.series() if each.family == duration]
        [('GET', '/orders/{order_id}', '200', '')]
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it reads, and what counts as slow
        self,
        metrics: Metrics,
        digest_of: Callable[[str], str],
        opened: Callable[[], Iterable[Record]],
        route_of: Callable[[Record], str | None] = attrgetter("route"),
        slow_request_seconds: float = math.inf,
        is_traced: Callable[[Record], bool] | None = None,
        *,
        slow_statement_seconds: float = math.inf,
    ) -> None:
        self._digest_of = digest_of
        self._slow_statement_seconds = slow_statement_seconds
        self._slow_seconds = slow_request_seconds
        self._is_traced = is_traced or attrgetter("is_sampled")
        statuses = tuple(map(str, range(100, 600)))
        route: LabelBounds = {"http_route": MAX_ROUTES}
        labels: LabelBounds = {
            "http_request_method": sorted(METHODS),
            **route,
            "http_response_status_code": statuses,
            "error_type": MAX_ERRORS,
        }
        self._seconds = metrics.histogram(
            "http_server_request_duration",
            "Duration of HTTP requests, to the last byte sent",
            labels=labels,
            own=True,
        )
        self._request_bytes = metrics.histogram(
            "http_server_request_body_size",
            "Bytes that the application read of request bodies",
            unit="bytes",
            labels=labels,
            buckets=SIZE_BUCKETS,
            own=True,
        )
        self._response_bytes = metrics.histogram(
            "http_server_response_body_size",
            "Bytes of response bodies, as they were sent",
            unit="bytes",
            labels=labels,
            buckets=SIZE_BUCKETS,
            own=True,
        )
        self._first_byte = metrics.histogram(
            "http_server_time_to_first_byte",
            "Time to the start of streamed responses",
            labels=route,
            own=True,
        )
        self._slow = metrics.counter(
            "http_server_slow_requests",
            "Requests that took longer than the threshold in force",
            labels=route,
            own=True,
        )
        self._statements = metrics.histogram(
            "http_server_request_statements",
            "Statements that a request sent to databases",
            unit="statements",
            labels=route,
            buckets=STATEMENT_BUCKETS,
            own=True,
        )
        statement_labels: LabelBounds = {
            "db_operation_name": _OPERATIONS,
            "db_query_digest": MAX_DIGESTS,
            "http_route": MAX_ROUTES,
            "error_type": MAX_ERRORS,
        }
        self._operation_seconds = metrics.histogram(
            "db_client_operation_duration",
            "Time in the database's driver for each statement, fetching included",
            labels=statement_labels,
            buckets=FAST_BUCKETS,
            own=True,
        )
        self._slow_operations = metrics.counter(
            "db_client_slow_operations",
            "Statements that took longer than the threshold in force",
            labels={"db_query_digest": MAX_DIGESTS, "http_route": MAX_ROUTES},
            own=True,
        )
        self._rows = metrics.counter(
            "db_client_rows", "Rows fetched or changed", unit="rows", labels=route, own=True
        )
        self._active = metrics.gauge(
            "http_server_active_requests",
            "Requests that are open",
            labels={"http_request_method": sorted(METHODS), **route},
            own=True,
        )
        self._opened = opened
        self._route_of = route_of
        metrics.before_collecting(self._refresh)
        self._operations: dict[tuple[str, str | None, str | None], Histogram] = {}

    def counted(self, kind: Kind) -> CountedSeries:
        """Return the series in which requests of a kind are counted."""
        labels = _labels(kind)
        return CountedSeries(
            self._seconds.at(labels),
            self._request_bytes.at(labels),
            self._response_bytes.at(labels),
            self._statements.at((kind.route or "",)),
        )

    def _refresh(self) -> None:
        active: dict[tuple[str, ...], int] = dict.fromkeys(
            (labels for labels, _ in self._active.snapshot()), 0
        )
        for record in self._opened():
            kind = (known_method(record.method), self._route_of(record) or "")
            active[kind] = active.get(kind, 0) + 1
        for labels, count in active.items():
            self._active.at(labels).set(count)

    def add(self, record: Record) -> None:
        """Count what but few requests have: an example of its duration, slowness, a stream, statements."""
        route = record.route or ""
        if self._is_traced(record):
            kind = Kind(known_method(record.method), record.route, record.status, record.error)
            self._seconds.at(_labels(kind)).exemplify(record.seconds, record.trace_id)
        if record.seconds >= self._slow_seconds and record.answer_seconds >= self._slow_seconds:
            self._slow.at((route,)).add()
        if record.is_streamed:
            self._first_byte.at((route,)).observe(record.first_byte_seconds)
        if record.statements:
            self._add_statements(record.statements, record.route)

    def add_excerpt(self, record: Record) -> None:
        """Count the statements of what goes on, such as a WebSocket connection, and nothing else of it."""
        if isinstance(record, Excerpt):
            self._add_statements(record.statements, record.route)

    def _add_statements(self, statements: list[Statement], route: str | None) -> None:
        slow = self._slow_statement_seconds
        times: list[float] = []
        sql = error = seconds = None
        for statement in statements:
            # What is repeated, as in a loop of the application's, is looked up once.
            if seconds is None or statement.sql is not sql or statement.error is not error:
                if seconds is not None:
                    seconds.observe_some(times)
                times = []
                sql, error = statement.sql, statement.error
                seconds = self._operation(sql, route, error)
            took = statement.execute_seconds + statement.fetch_seconds
            times.append(took)
            if took >= slow:
                self._slow_operations.at((self._digest_of(statement.sql), route or "")).add()
        if seconds is not None:
            seconds.observe_some(times)
        rows = sum([statement.rows or 0 for statement in statements])
        if rows:
            self._rows.at((route or "",)).add(rows)

    def _operation(self, sql: str, route: str | None, error: str | None) -> Histogram:
        digest = self._digest_of(sql)
        key = (digest, route, error)
        seconds = self._operations.get(key)
        if seconds is None:
            seconds = self._operation_seconds.at((operation_of(sql), digest, route or "", error or ""))
            if len(self._operations) < MAX_REMEMBERED:
                self._operations[key] = seconds
        return seconds


def _labels(kind: Kind) -> tuple[str, str, str, str]:
    # A route that did not match has no label, and so one series for all the paths there may be. A client that
    # has gone is no error.
    error = (kind.error or str(kind.status)) if kind.is_failed else ""
    return (kind.method, kind.route or "", str(kind.status), error)
