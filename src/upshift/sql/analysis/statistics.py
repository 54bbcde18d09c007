"""What each kind of statement cost, in fixed memory: one row per digest, folded when a request ends.

What ended together is folded together: executions of one text from one line on one route share all that has
to be looked up, and of some dozens each then costs a sixth of what one alone does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

from upshift.record import Histogram
from upshift.record.fork import after_fork
from upshift.sql.analysis.digest import Digests
from upshift.sql.analysis.windows import LONGEST_SECONDS, Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upshift.record import CallSite, Record, Statement
    from upshift.sql.analysis.digest import Digest
    from upshift.sql.analysis.windows import Usage, Window

    _Alike = tuple[str, CallSite | None, str, Window]

MAX_DIGESTS = 1_000
"""Digests kept; executions of further ones are only counted, in `StatementTable.untold`."""

MAX_ORIGINS = 16
"""Call sites, routes and classes of exceptions kept for each digest."""

MAX_WAITING = 1_000
"""Statements that wait for each other, until somebody asks or has them settled."""

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

    @property
    def site(self) -> CallSite | None:
        """The call site of most executions."""
        return max(tuple(self.sites), key=self.sites.__getitem__, default=None)

    def add(
        self, alike: Sequence[Statement], site: CallSite | None, route: str, slow_seconds: float, usage: Usage
    ) -> None:
        """Count executions of one text, from one line on one route, that belong to one window of time."""
        times = [statement.execute_seconds + statement.fetch_seconds for statement in alike]
        longest = max(times)
        if self.seconds.count == 0 or longest >= self.seconds.max:
            slowest = alike[times.index(longest)]
            self.sql = slowest.sql
            self.parameters = slowest.parameters
        self.seconds.add_all(times)
        usage.add_all(times)
        self.rows += sum([statement.rows or 0 for statement in alike])
        if longest >= slow_seconds:
            self.slow += sum(seconds >= slow_seconds for seconds in times)
        for statement in alike:
            if statement.error is not None:
                self.failed += 1
                _count(self.errors, statement.error)
        if site is not None:
            _count(self.sites, site, len(alike))
        _count(self.routes, route, len(alike))


class StatementTable:
    """The statistics of all statements of one application.

    Args:
        slow_seconds: what counts as a slow statement.
        longest_window: the seconds that windows may grow to, see `upshift.sql.analysis.windows`.

    Attributes:
        digests: tells what a statement's executions have in common.
        records: records that sent statements.
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
        self._untold = 0
        self._windows = Windows(self._longest_window)
        self._rows: dict[str, StatementStatistics] = {}
        self._waiting: defaultdict[_Alike, list[Statement]] = defaultdict(list)
        self._waiting_count = 0
        self._lock = RLock()  # a signal may ask in the midst of it

    def fold(self, record: Record) -> None:
        """Add the statements of a closed record, soon: it keeps those until it is asked or they are many."""
        statements = record.statements
        if not statements:  # also of a record that goes on, whose statements come in excerpts
            return
        with self._lock:
            self._untold += record.statements_dropped
            self.records += 1
            if not self._windows.has(record.started):
                self.settle()  # as windows may be merged to make room
            window = self._windows.at(record.started)
            window.records += 1
            route, waiting = record.operation, self._waiting
            sql, site = statements[0].sql, statements[0].site
            alike = waiting[sql, site, route, window]
            for statement in statements:
                if statement.sql is not sql or statement.site is not site:  # one that is repeated costs less
                    sql, site = statement.sql, statement.site
                    alike = waiting[sql, site, route, window]
                alike.append(statement)
            self._waiting_count += len(statements)
            if self._waiting_count >= MAX_WAITING:
                self.settle()

    def settle(self) -> None:
        """Count the statements that wait for others."""
        with self._lock:
            waiting, self._waiting, self._waiting_count = self._waiting, defaultdict(list), 0
            for (sql, site, route, window), alike in waiting.items():
                digest = self.digests.of(sql)
                row = self._rows.get(digest.id)
                if row is None:
                    if len(self._rows) >= MAX_DIGESTS:
                        self._untold += len(alike)
                        continue
                    row = self._rows[digest.id] = StatementStatistics(digest, sql)
                row.add(alike, site, route, self._slow_seconds, window.of(digest.id))

    def rows(self) -> tuple[StatementStatistics, ...]:
        """Return all statistics, the most expensive first."""
        self.settle()
        return tuple(sorted(self._rows.values(), key=lambda row: row.seconds.sum, reverse=True))

    @property
    def untold(self) -> int:
        """Executions of digests beyond the first `MAX_DIGESTS`, and those a full record only counted."""
        self.settle()
        return self._untold

    @property
    def windows(self) -> Windows:
        """What the statements came to in the latest windows of time."""
        self.settle()
        return self._windows


def _count(counts: dict[_Key, int], key: _Key, number: int = 1) -> None:
    """Count so many more, unless it is new and there are enough."""
    known = counts.get(key)
    if known is not None:
        counts[key] = known + number
    elif len(counts) < MAX_ORIGINS:
        counts[key] = number
