"""What each kind of statement cost, in fixed memory: one row per digest, folded when a request ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from upshift.record import Histogram
from upshift.record.fork import after_fork
from upshift.record.ongoing import Ongoing
from upshift.sql.analysis.digest import Digests
from upshift.sql.analysis.windows import LONGEST_SECONDS, Usage, Windows

if TYPE_CHECKING:
    from upshift.record import CallSite, Record, Statement
    from upshift.sql.analysis.digest import Digest
    from upshift.sql.analysis.windows import Window

MAX_DIGESTS = 1_000
"""Digests kept; executions of further ones are only counted, in `StatementTable.untold`."""

MAX_ORIGINS = 16
"""Call sites, routes and classes of exceptions kept for each digest."""

_Key = TypeVar("_Key", bound=object)


class StatementStatistics:
    """What one kind of statement cost.

    Attributes:
        digest: what its executions have in common.
        seconds: the time in the driver, of each execution.
        rows: rows fetched or changed, of all executions whose driver told.
        slow: executions that took as long as the threshold, or longer.
        errors: executions that failed, by the class of the exception, for the first `MAX_ORIGINS` classes.
        failed: executions that failed.
        sites: executions by call site, for the first `MAX_ORIGINS` call sites.
        routes: executions by the route they ran on, for the first `MAX_ORIGINS` routes.
        sql: the text of the slowest execution.
        parameters: that execution's parameters, if they are kept.
    """

    __slots__ = (
        "_usage",
        "_window",
        "digest",
        "errors",
        "failed",
        "parameters",
        "routes",
        "rows",
        "seconds",
        "sites",
        "slow",
        "sql",
    )

    def __init__(self, digest: Digest, sql: str) -> None:
        self.digest = digest
        self.seconds = Histogram()
        self.rows = 0
        self.slow = 0
        self.failed = 0
        self.errors: dict[str, int] = {}
        self.sites: dict[CallSite, int] = {}
        self.routes: dict[str, int] = {}
        self.sql = sql
        self.parameters: Any = None
        self._window: Window | None = None
        self._usage = Usage()

    @property
    def site(self) -> CallSite | None:
        """The call site of most executions."""
        return max(tuple(self.sites), key=self.sites.__getitem__, default=None)

    # In one piece, as it is done for every statement.
    def add(self, statement: Statement, route: str, slow_seconds: float, window: Window) -> None:
        """Count one execution, which belongs to a window of time."""
        seconds = statement.execute_seconds + statement.fetch_seconds
        times = self.seconds
        if seconds >= times.max or times.count == 0:
            self.sql = statement.sql
            self.parameters = statement.parameters
        times.add(seconds)
        self.rows += statement.rows or 0
        if seconds >= slow_seconds:
            self.slow += 1
        if statement.error is not None:
            self.failed += 1
            _count(self.errors, statement.error)
        site = statement.site
        if site in self.sites:
            self.sites[site] += 1
        elif site is not None:
            _count(self.sites, site)
        if route in self.routes:
            self.routes[route] += 1
        else:
            _count(self.routes, route)
        if window is not self._window:
            self._window, self._usage = window, window.of(self.digest.id)
        self._usage.add(seconds)


class StatementTable:
    """The statistics of all statements of one application.

    Args:
        slow_seconds: what counts as a slow statement.
        longest_window: the seconds that windows may grow to, see `upshift.sql.analysis.windows`.

    Attributes:
        digests: tells what a statement's executions have in common.
        records: records that sent statements.
        untold: executions of digests beyond the first `MAX_DIGESTS`, and those that a record, being full, did
            no more than count.
        windows: what they came to in the latest windows of time.
    """

    def __init__(self, slow_seconds: float = math.inf, longest_window: float = LONGEST_SECONDS) -> None:
        self.digests = Digests()
        self._slow_seconds = slow_seconds
        self._longest_window = longest_window
        self._begin()
        after_fork(self._begin)

    def _begin(self) -> None:
        """Begin with nothing; in a forked child, what is known is the parent's."""
        self.records = 0
        self.untold = 0
        self.windows = Windows(self._longest_window)
        self._rows: dict[str, StatementStatistics] = {}

    def fold(self, record: Record) -> None:
        """Add the statements of a closed record."""
        if not isinstance(record, Ongoing):  # whose statements come in excerpts
            self.untold += record.statements_dropped
        if not record.statements:
            return
        self.records += 1
        window = self.windows.at(record.started)
        window.records += 1
        route = record.operation
        for statement in record.statements:
            self._add(statement, route, window)

    def rows(self) -> tuple[StatementStatistics, ...]:
        """Return all statistics, the most expensive first."""
        return tuple(sorted(self._rows.values(), key=lambda row: row.seconds.sum, reverse=True))

    def _add(self, statement: Statement, route: str, window: Window) -> None:
        digest = self.digests.of(statement.sql)
        row = self._rows.get(digest.id)
        if row is None:
            if len(self._rows) >= MAX_DIGESTS:
                self.untold += 1
                return
            row = self._rows[digest.id] = StatementStatistics(digest, statement.sql)
        row.add(statement, route, self._slow_seconds, window)


def _count(counts: dict[_Key, int], key: _Key) -> None:
    """Count one more, unless it is new and there are enough."""
    known = counts.get(key)
    if known is not None:
        counts[key] = known + 1
    elif len(counts) < MAX_ORIGINS:
        counts[key] = 1
