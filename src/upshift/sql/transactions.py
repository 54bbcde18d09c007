"""Observes transactions: how long each took, and how it ended.

The dialect's calls are wrapped on the dialect *instance*, as statements are in `upshift.sql.capture`.

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

from upshift.sql.wrapping import unwrap, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import FrameType

    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import PoolProxiedConnection

    from upshift.record.pool import Checkout, TransactionOutcome

    _Call = Callable[[PoolProxiedConnection], None]

logger = logging.getLogger("upshift.sql")

_CALLERS = 4
"""Frames from the dialect's call up to `Transaction._do_close` or `_do_rollback`."""


class Transactions:
    """Tells of the transactions of engines, on the connections that `upshift.sql.pool` observes.

    Savepoints are no transactions of their own. A connection in autocommit mode has none, where its driver
    tells that it is (psycopg and asyncpg do). Two-phase transactions are not told of.

    Args:
        engines: the (sync) engines to observe.
        checkouts: the connections in use, see `upshift.sql.pool.Pools.checkouts`.
        ended: is told the pool, the outcome and the seconds of each transaction, on the application's way.

    `close()` puts the dialects back as they were.

    Attributes:
        faults: times when something could not be observed.
    """

    def __init__(
        self,
        engines: Iterable[Engine],
        checkouts: Mapping[Any, Checkout],
        ended: Callable[[str, TransactionOutcome, float], None],
    ) -> None:
        self.is_closed = False
        self.faults = 0
        self._checkouts = checkouts
        self._ended = ended
        self._dialects = tuple(dict.fromkeys(engine.dialect for engine in engines))
        for dialect in self._dialects:
            wrap(dialect, "do_begin", self._beginning(dialect.do_begin), self)
            wrap(dialect, "do_commit", self._ending(dialect.do_commit, "commit"), self)
            wrap(dialect, "do_rollback", self._ending(dialect.do_rollback, "rollback"), self)

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
            begin(connection)

        return observed_begin

    def _ending(self, end: _Call, outcome: TransactionOutcome) -> _Call:
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
                came_to = outcome if outcome == "commit" else _kind_of_rollback(sys._getframe())
            finally:
                now = perf_counter()
                seconds, checkout.began = now - checkout.began, 0.0
                checkout.ending_seconds += now - started
                self._tell(checkout.pool, came_to, seconds)

        return observed_end

    def _tell(self, pool: str, outcome: TransactionOutcome, seconds: float) -> None:
        try:
            self._ended(pool, outcome, seconds)
        except Exception:
            self.faults += 1
            if self.faults == 1:
                logger.exception("upshift could not observe a transaction; requests go on without it")


def _kind_of_rollback(frame: FrameType | None) -> TransactionOutcome:
    """Tell a rollback from a close, by the methods of SQLAlchemy's above the wrapper that rolled back."""
    wrapper = frame and frame.f_code
    while frame is not None and frame.f_code is wrapper:  # the wrappers of further owners
        frame = frame.f_back
    callers: list[str] = []
    while frame is not None and len(callers) < _CALLERS:
        callers.append(frame.f_code.co_name)
        frame = frame.f_back
    return "close" if callers[:1] == ["_reset"] or callers[3:] == ["_do_close"] else "rollback"
