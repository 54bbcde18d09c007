"""Finds connections that are not given back, and which line took them.

Nobody watches: one that comes back late is noticed as it comes, one that is still out when somebody looks.
"""

from __future__ import annotations

import logging
import math
from time import perf_counter
from typing import TYPE_CHECKING

from upshift.record.leak import Leak, LeakKind
from upshift.record.pool import Checkout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from weakref import ref

    from upshift.record import CallSite, Record

logger = logging.getLogger("upshift.sql")

MAX_LINES = 200
"""Lines told apart; what further ones leak is counted under no line."""

MAX_ROUTES = 20
"""Routes remembered for each."""


class Loan(Checkout):
    """A checkout that knows who has it.

    Attributes:
        site: the application's line that took the connection.
        holder: leads to what the application holds of it; to nothing when that was forgotten.
        is_leak: whether it has been counted.
    """

    __slots__ = ("holder", "is_leak", "site")

    site: CallSite | None
    holder: ref[object] | None
    is_leak: bool


class _Line:
    """The leaks of one kind from one line, as they are counted."""

    __slots__ = ("count", "routes", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.routes: set[str] = set()


class Leaks:
    """Counts leaks by line.

    Args:
        seconds: how long a connection may be in use; 0 for as long as it likes.
        route_of: tells the route of a request, which may still be open; None where there is none.

    Attributes:
        seconds: that limit; infinite where there is none.
    """

    def __init__(self, seconds: float, route_of: Callable[[Record], str | None]) -> None:
        self.seconds = seconds or math.inf
        self._route_of = route_of
        self._lines: dict[tuple[str, LeakKind, CallSite | None], _Line] = {}

    def returned(self, loan: Loan) -> None:
        """Count one that has come back late, or by itself."""
        is_forgotten = loan.holder is not None and loan.holder() is None
        self._add(loan, "collected" if is_forgotten else "held", loan.use_seconds)

    def all(self, loans: Iterable[Loan]) -> tuple[Leak, ...]:
        """Return what has leaked, the most frequent first; `loans` are the connections in use now."""
        now = perf_counter()
        open_now: dict[tuple[str, LeakKind, CallSite | None], int] = {}
        for loan in loans:
            if loan.obtained and now - loan.obtained > self.seconds:
                key = self._add(loan, "held", now - loan.obtained)
                open_now[key] = open_now.get(key, 0) + 1
        leaks = [
            Leak(
                pool, kind, site, line.count, open_now.get((pool, kind, site), 0), line.seconds, _sorted(line)
            )
            for (pool, kind, site), line in tuple(self._lines.items())
        ]
        return tuple(sorted(leaks, key=lambda leak: -leak.count))

    def _add(self, loan: Loan, kind: LeakKind, seconds: float) -> tuple[str, LeakKind, CallSite | None]:
        key = (loan.pool, kind, loan.site)
        if key not in self._lines and len(self._lines) >= MAX_LINES:
            key = (loan.pool, kind, None)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        line.seconds = max(line.seconds, seconds)
        if not loan.is_leak:
            loan.is_leak = True
            line.count += 1
            route = self._route_of(loan.record) if loan.record is not None else None
            if route is not None and loan.record is not None and len(line.routes) < MAX_ROUTES:
                line.routes.add(f"{loan.record.method} {route}")
            if line.count == 1:
                _tell(loan, kind, seconds)
        return key


def _tell(loan: Loan, kind: LeakKind, seconds: float) -> None:
    where = loan.site or "a line that is not known"
    if kind == "held":
        logger.warning("UP404: a connection of %s is out for %.0f s, taken at %s", loan.pool, seconds, where)
    else:
        logger.warning("UP404: a connection of %s was forgotten, taken at %s", loan.pool, where)


def _sorted(line: _Line) -> tuple[str, ...]:
    return tuple(sorted(line.routes.copy()))  # requests add to it
