"""What each kind of statement cost, in fixed memory: one row per digest, folded when a request ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from upshift.record import Histogram
from upshift.sql.analysis.digest import Digests

if TYPE_CHECKING:
    from upshift.record import CallSite, Record, Statement
    from upshift.sql.analysis.digest import Digest

MAX_DIGESTS = 1_000
"""Digests kept; executions of further ones are only counted, in `StatementTable.untold`."""

MAX_ORIGINS = 16
"""Call sites and routes kept for each digest."""


class StatementStatistics:
    """What one kind of statement cost.

    Attributes:
        digest: what its executions have in common.
        seconds: the time in the driver, of each execution.
        rows: rows fetched or changed, of all executions whose driver told.
        sites: executions by call site, for the first `MAX_ORIGINS` call sites.
        routes: the routes it ran on, the first `MAX_ORIGINS` of them.
        sql: the text of the slowest execution.
        parameters: that execution's parameters, if they are kept.
    """

    __slots__ = ("digest", "parameters", "routes", "rows", "seconds", "sites", "sql")

    def __init__(self, digest: Digest, sql: str) -> None:
        self.digest = digest
        self.seconds = Histogram()
        self.rows = 0
        self.sites: dict[CallSite, int] = {}
        self.routes: set[str] = set()
        self.sql = sql
        self.parameters: Any = None

    @property
    def site(self) -> CallSite | None:
        """The call site of most executions."""
        return max(self.sites, key=self.sites.__getitem__, default=None)

    def add(self, statement: Statement, route: str) -> None:
        """Count one execution."""
        seconds = statement.seconds
        if seconds >= self.seconds.max or self.seconds.count == 0:
            self.sql = statement.sql
            self.parameters = statement.parameters
        self.seconds.add(seconds)
        self.rows += statement.rows or 0
        site = statement.site
        if site is not None and (site in self.sites or len(self.sites) < MAX_ORIGINS):
            self.sites[site] = self.sites.get(site, 0) + 1
        if len(self.routes) < MAX_ORIGINS:
            self.routes.add(route)


class StatementTable:
    """The statistics of all statements of one application.

    Attributes:
        digests: tells what a statement's executions have in common.
        untold: executions of digests beyond the first `MAX_DIGESTS`.
    """

    def __init__(self) -> None:
        self.digests = Digests()
        self._rows: dict[str, StatementStatistics] = {}
        self.untold = 0

    def fold(self, record: Record) -> None:
        """Add the statements of a closed record."""
        if not record.statements:
            return
        route = record.operation
        for statement in record.statements:
            digest = self.digests.of(statement.sql)
            row = self._rows.get(digest.id)
            if row is None:
                if len(self._rows) >= MAX_DIGESTS:
                    self.untold += 1
                    continue
                row = self._rows[digest.id] = StatementStatistics(digest, statement.sql)
            row.add(statement, route)

    def rows(self) -> tuple[StatementStatistics, ...]:
        """Return all statistics, the most expensive first."""
        return tuple(sorted(self._rows.values(), key=lambda row: row.seconds.sum, reverse=True))
