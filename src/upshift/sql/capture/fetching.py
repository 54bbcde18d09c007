"""How fetching rows is timed: by the result's fetch strategy, through which `CursorResult` reads its cursor.

It is set for each execution on its own context. An execution that would have the default strategy has its
statement in the place of that: one object is both what is kept and what reads, as to make another for each
execution costs more than all that it does. Other strategies are wrapped.

Those classes are not public: `tests/contract` pins them for each SQLAlchemy version.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import cursor as sa_cursor

from upshift.record import Statement
from upshift.sql.capture.products import joined_collections

if TYPE_CHECKING:
    from collections.abc import Callable

    from upshift.sql.capture.products import JoinedCollections

_DEFAULT_FETCH: Any = sa_cursor._DEFAULT_FETCH


class SentStatement(Statement, sa_cursor.CursorFetchStrategy):
    """A statement that was sent, and reads its rows as SQLAlchemy's default strategy does.

    Attributes:
        capture: whose statement it is.
    """

    __slots__ = ("capture",)

    capture: object

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        """Fetch the rows that are left."""
        started = perf_counter()
        rows = _fetchall(self, result, dbapi_cursor)
        self.ended = now = perf_counter()
        self.fetch_seconds += now - started
        self.rows = (self.rows or 0) + len(rows)
        return rows

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        """Fetch so many rows."""
        started = perf_counter()
        rows = super().fetchmany(result, dbapi_cursor, size)
        self.ended = now = perf_counter()
        self.fetch_seconds += now - started
        self.rows = (self.rows or 0) + len(rows)
        return rows

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:  # noqa: FBT001, FBT002 - SQLAlchemy's signature
        """Fetch one row."""
        started = perf_counter()
        row = super().fetchone(result, dbapi_cursor, hard_close)
        self.ended = now = perf_counter()
        self.fetch_seconds += now - started
        self.rows = (self.rows or 0) + (row is not None)
        return row

    def yield_per(self, result: Any, dbapi_cursor: Any, num: int) -> None:
        """Read rows in portions, as the result was asked to."""
        super().yield_per(result, dbapi_cursor, num)
        result.cursor_strategy = _TimedFetch(result.cursor_strategy, self)


_fetchall = sa_cursor.CursorFetchStrategy.fetchall


class _TimedFetch(sa_cursor.ResultFetchStrategy):
    """Adds the time and the rows of each fetch to a statement; another strategy does the fetching."""

    __slots__ = ("alternate_cursor_description", "inner", "statement")

    def __init__(self, inner: Any, statement: SentStatement) -> None:
        self.inner = inner
        self.alternate_cursor_description = inner.alternate_cursor_description
        self.statement = statement

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        started = perf_counter()
        rows = self.inner.fetchall(result, dbapi_cursor)
        self._count(started, len(rows))
        return rows

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        started = perf_counter()
        rows = self.inner.fetchmany(result, dbapi_cursor, size)
        self._count(started, len(rows))
        return rows

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:  # noqa: FBT001, FBT002 - SQLAlchemy's signature
        started = perf_counter()
        row = self.inner.fetchone(result, dbapi_cursor, hard_close)
        self._count(started, row is not None)
        return row

    def yield_per(self, result: Any, dbapi_cursor: Any, num: int) -> None:
        before = result.cursor_strategy
        self.inner.yield_per(result, dbapi_cursor, num)
        if result.cursor_strategy is not before:
            result.cursor_strategy = _TimedFetch(result.cursor_strategy, self.statement)

    def soft_close(self, result: Any, dbapi_cursor: Any) -> None:
        self.inner.soft_close(result, dbapi_cursor)

    def hard_close(self, result: Any, dbapi_cursor: Any) -> None:
        self.inner.hard_close(result, dbapi_cursor)

    def handle_exception(self, result: Any, dbapi_cursor: Any, err: BaseException) -> Any:
        self.inner.handle_exception(result, dbapi_cursor, err)

    def _count(self, started: float, rows: int) -> None:
        statement = self.statement
        statement.ended = now = perf_counter()
        statement.fetch_seconds += now - started
        statement.rows = (statement.rows or 0) + rows


class _JoinedFetch(_TimedFetch):
    """Has the objects counted as well, in rows of collections that are joined side by side."""

    __slots__ = ("joined",)

    def __init__(self, inner: Any, statement: SentStatement, joined: JoinedCollections) -> None:
        super().__init__(inner, statement)
        self.joined = joined

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        rows = super().fetchall(result, dbapi_cursor)
        self.statement.product = self.joined.product(rows)
        return rows


class _TimedReturning:
    """Reads the rows that one batch of a bulk INSERT returns; SQLAlchemy does so after each batch."""

    def __init__(self, fetch: Callable[[Any], Any]) -> None:
        self._fetch = fetch
        self.statements: dict[object, SentStatement] = {}

    def __call__(self, cursor: Any) -> Any:
        started = perf_counter()
        rows = self._fetch(cursor)
        now = perf_counter()
        for statement in self.statements.values():
            statement.ended = now
            statement.fetch_seconds += now - started
            statement.rows = len(rows)
        return rows


def time_fetches(context: Any, cursor: Any, statement: SentStatement) -> None:
    """Have the rows of a statement counted and their reading timed.

    Args:
        context: SQLAlchemy's execution context.
        cursor: the driver's cursor, on which the statement has been executed.
        statement: the statement.
    """
    if cursor.description is None:
        if cursor.rowcount >= 0:
            statement.rows = cursor.rowcount
    elif context.isinsert and context._insertmanyvalues_rows is not None:
        statement.is_bulk = True
        timed = vars(context).get("fetchall_for_returning")
        if timed is None:
            timed = context.fetchall_for_returning = _TimedReturning(context.fetchall_for_returning)
        timed.statements[statement.capture] = statement
    elif context.cursor_fetch_strategy is not _DEFAULT_FETCH:
        _time_strategy(context, statement)
    elif context._is_server_side or context.execution_options.get("stream_results"):
        # SQLAlchemy would put this strategy in place of the default one, so it is built here instead.
        started = perf_counter()
        buffered = sa_cursor.BufferedRowCursorFetchStrategy(context.cursor, context.execution_options)
        context.cursor_fetch_strategy = _TimedFetch(buffered, statement)
        statement.ended = now = perf_counter()
        statement.fetch_seconds += now - started
    elif (
        (compiled := context.compiled) is not None
        and getattr(compiled.compile_state, "multi_row_eager_loaders", False)
        and (joined := joined_collections(context)) is not None
    ):
        context.cursor_fetch_strategy = _JoinedFetch(_DEFAULT_FETCH, statement, joined)
    else:
        context.cursor_fetch_strategy = statement


def _time_strategy(context: Any, statement: SentStatement) -> None:
    """Time a strategy that is not the default one: a dialect's, another capture's, or one of ours.

    A context may have executed another statement before, such as a sequence's; that one's is no more.
    """
    strategy = context.cursor_fetch_strategy
    above: _TimedFetch | None = None
    while isinstance(strategy, _TimedFetch):
        if strategy.statement.capture is statement.capture:
            strategy.statement = statement
            return
        above, strategy = strategy, strategy.inner
    if not isinstance(strategy, SentStatement) or strategy.capture is not statement.capture:
        context.cursor_fetch_strategy = _TimedFetch(context.cursor_fetch_strategy, statement)
    elif above is None:
        context.cursor_fetch_strategy = statement
    else:
        above.inner = statement
