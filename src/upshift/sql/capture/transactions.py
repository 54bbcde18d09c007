"""Observes transactions: how long each took, and how it ended.

The dialect's calls are wrapped on the dialect *instance*, as statements are in `upshift.sql.capture.capture`.

SQLAlchemy rolls back in three cases that are not alike. The application asks for it, or an exception leaves a
`begin()` block: a rollback. A connection is closed while its transaction is open, as after each request that
has only read: a close. The pool resets a connection that somebody has left as it was: no transaction's end,
or that of one whose connection was lost sight of. They are told apart by who calls, which `tests/contract`
pins for each SQLAlchemy version.
"""

from __future__ import annotations

import logging
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any

from upshift.record import CallSites
from upshift.record.pool import Transaction
from upshift.sql.origin import origin
from upshift.sql.wrapping import unwrap, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import FrameType

    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import PoolProxiedConnection

    from upshift.record.pool import Checkout, TransactionOutcome

    _Call = Callable[[PoolProxiedConnection], None]

logger = logging.getLogger("upshift.sql")

_CALLERS: dict[str, TransactionOutcome] = {"_do_close": "close", "_do_rollback": "rollback"}
_CALLER = 5
"""Frames from `_kind_of_rollback` up to one of these methods of `Transaction`."""

_OWNERS = 5
"""Wrappers of one dialect by several owners: each puts the method one frame further up."""


class Transactions:
    """Tells of the transactions of engines, on the connections that `upshift.sql.pool.pools` observes.

    Savepoints are no transactions of their own. A connection in autocommit mode has none, where its driver
    tells that it is (psycopg and asyncpg do). Two-phase transactions are not told of.

    Args:
        engines: the (sync) engines to observe.
        checkouts: the connections in use, see `upshift.sql.pool.pools.Pools.checkouts`.
        ended: is told the pool, the outcome and the seconds of each transaction, on the application's way.
        call_sites: tells the application's frames from libraries'.

    `close()` puts the dialects back as they were.

    Attributes:
        faults: times when something could not be observed.
    """

    def __init__(
        self,
        engines: Iterable[Engine],
        checkouts: Mapping[Any, Checkout],
        ended: Callable[[str, TransactionOutcome, float], None],
        call_sites: CallSites | None = None,
    ) -> None:
        self.is_closed = False
        self.faults = 0
        self._checkouts = checkouts
        self._ended = ended
        self._call_sites = call_sites or CallSites()
        self._dialects = tuple(dict.fromkeys(engine.dialect for engine in engines))
        for dialect in self._dialects:
            wrap(dialect, "do_begin", self._beginning(dialect.do_begin), self)
            wrap(dialect, "do_commit", self._ending(dialect.do_commit, "commit"), self)
            wrap(dialect, "do_rollback", self._ending(dialect.do_rollback, None), self)

    def close(self) -> None:
        """Take the wrappers out again. Calling it twice does nothing more."""
        self.is_closed = True
        for dialect in self._dialects:
            for name in ("do_begin", "do_commit", "do_rollback"):
                unwrap(dialect, name)

    def _beginning(self, begin: _Call) -> _Call:
        checkouts = self._checkouts

        def observed_begin(connection: PoolProxiedConnection) -> None:
            checkout = checkouts.get(getattr(connection, "_connection_record", None))
            if checkout is not None and getattr(connection.dbapi_connection, "autocommit", False) is not True:
                checkout.began = perf_counter()
                checkout.first = len(checkout.statements)
            begin(connection)

        return observed_begin

    def _ending(self, end: _Call, outcome: TransactionOutcome | None) -> _Call:
        checkouts = self._checkouts

        def observed_end(connection: PoolProxiedConnection) -> None:
            checkout = checkouts.get(getattr(connection, "_connection_record", None))
            if checkout is None or not checkout.began or self.is_closed:
                end(connection)
                return
            started = perf_counter()
            came_to: TransactionOutcome = "error"
            try:
                end(connection)
                came_to = outcome or _kind_of_rollback()
            finally:
                now = perf_counter()
                began, checkout.began = checkout.began, 0.0
                checkout.ending_seconds += now - started
                try:
                    after = len(checkout.statements)
                    if after > checkout.first:  # so there are no more than statements, which have a bound
                        # SQLAlchemy's frames lie between here and whoever committed.
                        site = origin(self._call_sites, sys._getframe(1)) if came_to == "commit" else None
                        checkout.transactions.append(
                            Transaction(began, now, now - started, came_to, site, checkout.first, after)
                        )
                    self._ended(checkout.pool, came_to, now - began)
                except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
                    self._note(fault)

        return observed_end

    def _note(self, fault: Exception) -> None:
        self.faults += 1
        if self.faults == 1:
            logger.error("upshift could not observe a transaction; it goes on without", exc_info=fault)


def _kind_of_rollback() -> TransactionOutcome:
    """Tell a rollback from a close, by the method of SQLAlchemy's that is behind the dialect's call."""
    try:
        frame: FrameType | None = sys._getframe(_CALLER)
        for _ in range(_OWNERS):
            if frame is not None and (outcome := _CALLERS.get(frame.f_code.co_name)):
                return outcome
            frame = frame and frame.f_back
    except ValueError:  # the stack is not that deep, so it is no transaction of SQLAlchemy's
        pass
    return "close"
