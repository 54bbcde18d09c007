"""Announces what transactions write before they commit, and settles it after.

The dialect's calls are wrapped on the dialect *instance*, as those that observe statements are
(`upshift.sql.wrapping`). What a transaction has written is kept with its connection. Rolling back to a
savepoint takes nothing back: that a table is announced which was not changed costs a miss.

Whether COMMIT has happened is known in two cases: it returned, or the server refused it. With any other
error, a lost connection or a cancelled task, it is not, and the intent ends by itself (A5 in
`upshift.cache.tokens`).
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy.engine.default import DefaultExecutionContext

from upshift.cache.dependencies.reading import CURRENT
from upshift.cache.dependencies.tables import EVERYTHING
from upshift.sql.wrapping import unwrap, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.engine import Dialect, Engine

    from upshift.cache.dependencies.tables import StatementTables, Tables
    from upshift.cache.tokens import Carrier

logger = logging.getLogger("upshift.cache")

_EXECUTE = ("do_execute", "do_executemany", "do_execute_no_params")
_WRAPPED = (*_EXECUTE, "do_begin", "do_commit", "do_rollback", "do_commit_twophase", "do_rollback_twophase")
_KEY = "upshift_transaction"
_ONE_SNAPSHOT = frozenset({"REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT"})


class _Open:
    """A transaction on a connection: when it began, and the tags that it has written."""

    __slots__ = ("began", "is_one_snapshot", "written")

    def __init__(self, began: int) -> None:
        self.began = began
        self.is_one_snapshot: bool | None = None
        self.written: set[str] = set()


WRITING: ContextVar[tuple[_Open, ...]] = ContextVar("upshift_writing", default=())
"""The transactions that the running task has written in; they may be over."""


def written_here() -> frozenset[str]:
    """Return the tags that the running task has written and not committed: the cache has older values."""
    writing = WRITING.get()
    return frozenset().union(*(each.written for each in writing)) if writing else frozenset()


class CommitHooks:
    """Tells a carrier of what is committed through engines, and readings of what is read through them.

    Args:
        engines: the (sync) engines; an `AsyncEngine` is hooked through its `sync_engine`.
        carrier: where tokens live.
        tables: tells which tables statements touch.
        now: numbers moments in the order in which they come.
        may_lag: whether the engines lead to replicas, which may not have yet what has been committed.

    `close()` puts the dialects back as they were; what is cached must not be served after that.

    Attributes:
        faults: commits that could not be settled.
    """

    def __init__(
        self,
        engines: Iterable[Engine],
        carrier: Carrier[Any],
        tables: StatementTables,
        now: Callable[[], int],
        *,
        may_lag: bool = False,
    ) -> None:
        self.is_closed = False
        self.faults = 0
        self._carrier = carrier
        self._tables = tables
        self._now = now
        self._may_lag = may_lag
        self._dialects = tuple(dict.fromkeys(engine.dialect for engine in engines))
        for dialect in self._dialects:
            for name in _EXECUTE:
                wrap(dialect, name, self._executing(getattr(dialect, name)), self)
            wrap(dialect, "do_begin", self._beginning(dialect.do_begin), self)
            wrap(dialect, "do_commit", self._committing(dialect, dialect.do_commit), self)
            wrap(dialect, "do_rollback", self._ending(dialect.do_rollback), self)
            wrap(
                dialect, "do_commit_twophase", self._committing_two(dialect, dialect.do_commit_twophase), self
            )
            wrap(dialect, "do_rollback_twophase", self._ending(dialect.do_rollback_twophase), self)

    def close(self) -> None:
        """Take the wrappers out again. Calling it twice does nothing more."""
        self.is_closed = True
        for dialect in self._dialects:
            for name in _WRAPPED:
                unwrap(dialect, name)

    def _executing(self, execute: Callable[..., None]) -> Callable[..., None]:
        # The positions are those of `Dialect.do_execute*`: cursor, statement, [parameters,] context.
        def hooked_execute(cursor: Any, sql: str, *arguments: Any) -> None:
            announced = self._before(arguments[-1], sql)
            try:
                execute(cursor, sql, *arguments)
            finally:
                if announced:
                    self._settle(*announced)

        return hooked_execute

    def _before(self, context: Any, sql: str) -> tuple[frozenset[str], str] | None:
        """Note a statement; one that commits by itself is announced, to be settled when it is over."""
        # Else it is the dialect's own, such as those that it sends on its first connection.
        is_asked_for = (
            isinstance(context, DefaultExecutionContext) and context.root_connection._allow_autobegin
        )
        if not is_asked_for:
            return None
        tables, reading = self._tables.of_context(context, sql), CURRENT.get()
        if reading is None and not tables.written:
            return None
        if reading is not None and self._may_lag:
            reading.lags()
        if context.root_connection._is_autocommit_isolation():
            if reading is not None:
                reading.sees(tables, None, has_written=False)
            return self._announce(tables.written) if tables.written else None
        info = context._dbapi_connection._connection_record.info
        open_ = info.get(_KEY)
        if open_ is None:
            open_ = info[_KEY] = _Open(0)
        if reading is not None:
            snapshot = open_.began if _is_one_snapshot(open_, context, sql) else None
            reading.sees(tables, snapshot, has_written=bool(open_.written))
        if tables.written:
            _write(open_, tables)
        return None

    def _beginning(self, begin: Callable[..., None]) -> Callable[..., None]:
        def hooked_begin(connection: Any) -> None:
            begin(connection)
            record = getattr(connection, "_connection_record", None)
            if record is not None:
                record.info[_KEY] = _Open(self._now())

        return hooked_begin

    def _committing(self, dialect: Dialect, commit: Callable[..., None]) -> Callable[..., None]:
        def hooked_commit(connection: Any) -> None:
            open_ = _taken(connection)
            if open_ is None or not open_.written:
                commit(connection)
                return
            tags, transaction = self._announce(open_.written)
            try:
                commit(connection)
            except BaseException as error:
                if _is_refused(dialect, error, connection):
                    self._settle(tags, transaction)
                raise
            finally:
                open_.written.clear()
            self._settle(tags, transaction)

        return hooked_commit

    def _committing_two(self, dialect: Dialect, commit: Callable[..., None]) -> Callable[..., None]:
        def hooked_commit(connection: Any, *arguments: Any, **options: Any) -> None:
            open_ = _taken(connection.connection)
            # One that was prepared before, maybe by another process, may have written anything.
            written = open_.written if open_ is not None and open_.written else {EVERYTHING}
            tags, transaction = self._announce(written)
            try:
                commit(connection, *arguments, **options)
            except BaseException as error:
                if _is_refused(dialect, error, connection.connection):
                    self._settle(tags, transaction)
                raise
            self._settle(tags, transaction)

        return hooked_commit

    def _ending(self, end: Callable[..., None]) -> Callable[..., None]:
        def hooked_end(connection: Any, *arguments: Any, **options: Any) -> None:
            open_ = _taken(connection if hasattr(connection, "_connection_record") else connection.connection)
            if open_ is not None:
                open_.written.clear()
            end(connection, *arguments, **options)

        return hooked_end

    def _announce(self, tags: Iterable[str]) -> tuple[frozenset[str], str]:
        announced, transaction = frozenset(tags), uuid4().hex
        self._carrier.announce(announced, transaction)
        return announced, transaction

    def _settle(self, tags: frozenset[str], transaction: str) -> None:
        try:
            self._carrier.settle(tags, transaction)
        except Exception:  # the commit is done, and the intent ends by itself
            self.faults += 1
            if self.faults == 1:
                logger.exception("a commit could not be settled; what it wrote is not cached for a while")


def _taken(connection: Any) -> _Open | None:
    record = getattr(connection, "_connection_record", None)
    open_: _Open | None = record.info.pop(_KEY, None) if record is not None else None
    return open_


def _write(open_: _Open, tables: Tables) -> None:
    if not open_.written:
        WRITING.set((*(each for each in WRITING.get() if each.written), open_))
    open_.written |= tables.written


def _is_one_snapshot(open_: _Open, context: Any, sql: str) -> bool:
    """Whether all statements of a transaction see what was committed when it began."""
    if "isolation" in sql[:100].lower():
        open_.is_one_snapshot = True
    if open_.is_one_snapshot is None:
        level = context.execution_options.get("isolation_level") or context.dialect.default_isolation_level
        open_.is_one_snapshot = str(level).upper().replace("_", " ") in _ONE_SNAPSHOT
    return open_.is_one_snapshot


def _is_refused(dialect: Dialect, error: BaseException, connection: Any) -> bool:
    """Whether the server has said that it did not commit."""
    return isinstance(error, dialect.loaded_dbapi.Error) and not dialect.is_disconnect(
        error, connection, None
    )
