"""Announces what transactions write before they commit, and settles it after.

The dialect's calls are wrapped on the dialect *instance*, as those that observe statements are
(`upshift.sql.wrapping`). What a transaction has written is kept with its connection. Rolling back to a
savepoint takes nothing back: that a table is announced which was not changed costs a miss.

Whether COMMIT has happened is known in two cases: it returned, or the server refused it. With any other
error, a lost connection or a cancelled task, it is not, and the intent ends by itself (A5 in
`upshift.cache.tokens`).

Rows whose keys the database makes are asked for when somebody has to know: SQLAlchemy has read them by then.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.pool import PoolProxiedConnection

from upshift.cache.dependencies.catalogue import RETRY_SECONDS
from upshift.cache.dependencies.inserted import inserted_rows
from upshift.cache.dependencies.names import EVERYTHING, SCHEMA, is_row, rows_tag, table_of_row
from upshift.cache.dependencies.reading import CURRENT
from upshift.cache.dependencies.rows import MAX_ROWS
from upshift.sql.wrapping import unwrap, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sqlalchemy.engine import Dialect, Engine

    from upshift.cache.dependencies.catalogue import Catalogue
    from upshift.cache.dependencies.effects import Effect, Tables
    from upshift.cache.dependencies.reading import Reading
    from upshift.cache.dependencies.schema import Schema
    from upshift.cache.dependencies.tables import StatementTables
    from upshift.cache.tokens import Carrier

logger = logging.getLogger("upshift.cache")

_EXECUTE = ("do_execute", "do_executemany", "do_execute_no_params")
_WRAPPED = (*_EXECUTE, "do_begin", "do_commit", "do_rollback", "do_commit_twophase", "do_rollback_twophase")
_ONE_SNAPSHOT = frozenset({"REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT"})
_UNCOMMITTED = "READ UNCOMMITTED"
_NOTHING = frozenset[str]()
LEVEL_SET = "upshift_level_set"
"""Stands with a connection on which a statement has set the isolation level: it may be any, from then on."""


class _Open:
    """A transaction on a connection: when it began, and what it has written.

    Attributes:
        began: the number of that moment.
        is_fresh: whether no statement of it has been sent yet, so that its snapshot is still to be taken.
        is_one_snapshot: whether all of its statements see what was committed then; None where not asked yet.
    """

    __slots__ = ("_inserts", "_rows", "_written", "began", "is_fresh", "is_one_snapshot")

    def __init__(self, began: int, *, is_fresh: bool) -> None:
        self.began = began
        self.is_fresh = is_fresh
        self.is_one_snapshot: bool | None = None
        self._written: set[str] = set()
        self._rows: dict[str, int] = {}
        self._inserts: list[tuple[Any, str]] = []

    def sends(self) -> bool:
        """Note a statement, and return whether it is the first."""
        is_first, self.is_fresh = self.is_fresh, False
        return is_first

    @property
    def has_written(self) -> bool:
        """Whether it has written anything."""
        return bool(self._written)

    def write(self, tables: Tables, context: Any) -> None:
        """Note what a statement changes."""
        for tag in tables.written - self._written:
            self._note(tag)
        if tables.generated:
            if len(self._inserts) < MAX_ROWS:
                self._inserts.append((context, tables.generated))
            else:
                self._written.add(rows_tag(tables.generated))

    def written(self, schema: Schema) -> set[str]:
        """Return the tags of what it has written so far."""
        pending = tuple(self._inserts)
        for context, table in pending:
            for tag in inserted_rows(context, table, schema):
                self._note(tag)
        del self._inserts[: len(pending)]
        return self._written

    def end(self) -> None:
        """Forget what it has written: it is over."""
        self._written.clear()
        self._inserts.clear()

    def _note(self, tag: str) -> None:
        table = table_of_row(tag) if is_row(tag) else None
        if table is not None:
            known = self._rows[table] = self._rows.get(table, 0) + 1
            if known > MAX_ROWS:
                tag = rows_tag(table.removeprefix("table:"))
        self._written.add(tag)


def open_transactions(info: Mapping[Any, Any]) -> Iterator[_Open]:
    """Return what is known of a connection's transaction: once for each cache that watches it."""
    return (each for each in info.values() if isinstance(each, _Open))


WRITING: ContextVar[tuple[tuple[_Open, Schema], ...]] = ContextVar("upshift_writing", default=())
"""The transactions that the running task has written in; they may be over."""


def written_here() -> frozenset[str]:
    """Return the tags that the running task has written and not committed: the cache has older values."""
    writing = WRITING.get()
    if not writing:
        return _NOTHING
    written = _NOTHING.union(*(each.written(schema) for each, schema in writing))
    if not written:
        WRITING.set(())  # they are over, for good: what is called next need not look at them
    return written


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
        # Where its own transactions stand with a connection: another cache may watch the same engines.
        self._key = f"upshift_transaction_{uuid4().hex}"
        self._dialects = tuple(dict.fromkeys(engine.dialect for engine in engines))
        for dialect in self._dialects:
            for name in _EXECUTE:
                wrap(dialect, name, self._executing(getattr(dialect, name)), self)
            catalogue = None if may_lag else tables.catalogue_of(dialect)
            wrap(dialect, "do_begin", self._beginning(dialect.do_begin, catalogue), self)
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
            announced = self._before(arguments[-1], sql, arguments[0])
            try:
                execute(cursor, sql, *arguments)
            finally:
                if announced:
                    self._settle(*announced)

        return hooked_execute

    def _before(self, context: Any, sql: str, parameters: Any) -> tuple[frozenset[str], str] | None:
        """Note a statement; one that may commit is announced, to be settled when it is over."""
        # Else it is the dialect's own, such as those that it sends on its first connection.
        is_asked_for = (
            isinstance(context, DefaultExecutionContext) and context.root_connection._allow_autobegin
        )
        if not is_asked_for:
            return None
        info, reading = context._dbapi_connection.info, CURRENT.get()
        effect = self._effect(info, context, sql)
        if reading is not None and reading._carrier is not self._carrier:
            reading = None  # of another cache, whose own hooks tell it
        open_: _Open | None = info.get(self._key)
        is_first = open_ is not None and open_.sends()
        if effect.may_commit and open_ is not None and open_.has_written:
            return self._announce(open_.written(self._tables.schema) | effect.tables.written)
        if reading is None and not effect.tables.written:
            return None
        tables = self._tables.complete(effect, context, parameters)
        is_autocommit = _is_autocommit(context)
        if open_ is None and not is_autocommit:
            open_ = info[self._key] = _Open(0, is_fresh=False)
        if reading is not None:
            self._doubt(reading, context)
            is_one = open_ is not None and not is_autocommit and _is_one_snapshot(open_, context)
            reading.sees(
                tables,
                open_.began if open_ is not None and is_one else None,
                is_first=is_first,
                has_written=not is_autocommit and open_ is not None and open_.has_written,
            )
        if not tables.written:
            return None
        if open_ is None or is_autocommit:
            return self._announce(_with_generated(tables))
        self._write(open_, tables, context)
        return None

    def _effect(self, info: dict[Any, Any], context: Any, sql: str) -> Effect:
        effect = self._tables.of_context(context, sql)
        if effect.sets_isolation:
            info[LEVEL_SET] = True
        return effect

    def _doubt(self, reading: Reading, context: Any) -> None:
        """Note why what a statement reads may be another thing than what has been committed."""
        if self._may_lag:
            reading.lags()
        if (
            _level(context) == _UNCOMMITTED and context.dialect.name != "postgresql"
        ):  # which has no such level
            reading.spoil("it may have read what was not committed")

    def _write(self, open_: _Open, tables: Tables, context: Any) -> None:
        if not open_.has_written:
            still = (each for each in WRITING.get() if each[0].has_written)
            WRITING.set((*still, (open_, self._tables.schema)))
        open_.write(tables, context)

    def _beginning(self, begin: Callable[..., None], catalogue: Catalogue | None) -> Callable[..., None]:
        def hooked_begin(connection: Any) -> None:
            if catalogue is not None and catalogue.is_due:
                self._read(catalogue, connection)
            begin(connection)
            info = _info_of(connection)
            if info is not None:
                info[self._key] = _Open(self._now(), is_fresh=True)

        return hooked_begin

    def _read(self, catalogue: Catalogue, connection: Any) -> None:
        """Read a catalogue; where it refutes what was known, serve nothing that was kept by that."""
        strange = frozenset(catalogue.strange)
        told = catalogue.read(connection)
        if told is None:
            return
        if not self._tables.is_refuted_by(catalogue, told):
            self._tables.take(catalogue, told, strange)
            return
        try:
            announced = self._announce((EVERYTHING,))
        except Exception:  # noqa: BLE001 - tokens are far away, and a transaction that only reads needs none
            catalogue.put_off(RETRY_SECONDS)
            return
        self._tables.take(catalogue, told, strange)
        self._settle(*announced)

    def _committing(self, dialect: Dialect, commit: Callable[..., None]) -> Callable[..., None]:
        def hooked_commit(connection: Any) -> None:
            open_ = self._taken(connection)
            if open_ is None or not open_.has_written:
                commit(connection)
                return
            tags, transaction = self._announce(open_.written(self._tables.schema))
            try:
                commit(connection)
            except BaseException as error:
                if _is_refused(dialect, error, connection):
                    self._settle(tags, transaction)
                raise
            finally:
                open_.end()
            self._settle(tags, transaction)

        return hooked_commit

    def _committing_two(self, dialect: Dialect, commit: Callable[..., None]) -> Callable[..., None]:
        def hooked_commit(connection: Any, *arguments: Any, **options: Any) -> None:
            open_ = self._taken(connection.connection)
            # One that was prepared before, maybe by another process, may have written anything.
            written = {EVERYTHING}
            if open_ is not None and open_.has_written:
                written = open_.written(self._tables.schema)
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
            open_ = self._taken(
                connection if hasattr(connection, "_connection_record") else connection.connection
            )
            if open_ is not None:
                open_.end()
            end(connection, *arguments, **options)

        return hooked_end

    def _taken(self, connection: Any) -> _Open | None:
        info = _info_of(connection)
        open_: _Open | None = info.pop(self._key, None) if info is not None else None
        return open_

    def _announce(self, tags: Iterable[str]) -> tuple[frozenset[str], str]:
        announced, transaction = frozenset(tags), uuid4().hex
        self._carrier.announce(announced, transaction)
        return announced, transaction

    def _settle(self, tags: frozenset[str], transaction: str) -> None:
        if SCHEMA in tags:
            self._tables.expire()
        try:
            self._carrier.settle(tags, transaction)
        except Exception:  # the commit is done, and the intent ends by itself
            self.faults += 1
            if self.faults == 1:
                logger.exception("a commit could not be settled; what it wrote is not cached for a while")


def _info_of(connection: Any) -> dict[Any, Any] | None:
    """Return what stands with a connection, in a pool or detached from it; None for the driver's own."""
    record = getattr(connection, "_connection_record", None)
    if record is not None:
        return cast("dict[Any, Any]", record.info)
    return connection.info if isinstance(connection, PoolProxiedConnection) else None


def _with_generated(tables: Tables) -> frozenset[str]:
    """Return what a statement changes that commits by itself: the keys it makes are known too late."""
    return tables.written | {rows_tag(tables.generated)} if tables.generated else tables.written


def _is_autocommit(context: Any) -> bool:
    """Whether each statement commits by itself: as SQLAlchemy knows, or as the driver alone was told."""
    return (
        context.root_connection._is_autocommit_isolation()
        or getattr(context._dbapi_connection.dbapi_connection, "autocommit", False) is True
    )


def _is_one_snapshot(open_: _Open, context: Any) -> bool:
    """Whether all statements of a transaction see what was committed when it began."""
    if LEVEL_SET in context._dbapi_connection.info:
        open_.is_one_snapshot = True
    if open_.is_one_snapshot is None:
        open_.is_one_snapshot = _level(context) in _ONE_SNAPSHOT
    return open_.is_one_snapshot


def _level(context: Any) -> str:
    """Return the isolation level of a statement's transaction, as far as SQLAlchemy was told."""
    level = context.execution_options.get("isolation_level") or context.dialect.default_isolation_level
    return str(level).upper().replace("_", " ")


def _is_refused(dialect: Dialect, error: BaseException, connection: Any) -> bool:
    """Whether the server has said that it did not commit."""
    return isinstance(error, dialect.loaded_dbapi.Error) and not dialect.is_disconnect(
        error, connection, None
    )
