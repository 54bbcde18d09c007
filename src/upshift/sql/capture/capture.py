"""Statement capture: what each request asked of the database, and which line asked.

The dialect's three execute calls are wrapped on the dialect *instance*, so one engine is observed and
nothing else in the process changes. SQLAlchemy's cursor events would do, at five times the price: a listener
makes every checkout and every execution take the slow path.

Fetching is timed by the result's fetch strategy, the object through which `CursorResult` reads its cursor;
it is set for each execution on its own context. That class is not public: `tests/contract` pins it for each
SQLAlchemy version.
"""

from __future__ import annotations

import logging
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.engine import cursor as sa_cursor
from sqlalchemy.engine.default import DefaultExecutionContext

from upshift.record import CallSites, LazyLoad, ObjectLoad, Statement
from upshift.record.fingerprint import MAX_PARAMETERS
from upshift.sql.capture.products import JoinedCollections, joined_collections
from upshift.sql.loading.selectin import BATCH
from upshift.sql.origin import origin
from upshift.sql.wrapping import unwrap, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextvars import ContextVar

    from sqlalchemy.engine import Dialect, Engine

    from upshift.record import Record
    from upshift.record.pool import Checkout
    from upshift.sql.capture.comments import Comments
    from upshift.sql.plans.capturing import PlanCapture
    from upshift.sql.uses.uses import AttributeUses

logger = logging.getLogger("upshift.sql")

_DEFAULT_FETCH: Any = sa_cursor._DEFAULT_FETCH
_KEY = "pk_1"
"""The parameter by which a mapper selects one object by its key."""

_SELECT = ("SELECT", "select")
_WRAPPED = ("do_execute", "do_executemany", "do_execute_no_params")


class Capture:
    """Records the statements of engines into the current record.

    Args:
        engines: the (sync) engines to observe; an `AsyncEngine` is observed through its `sync_engine`.
        current: where the record of the running request is found.
        call_sites: tells the application's frames from libraries'.
        keep_parameters: keep each statement's parameters. They may hold personal data, so the default is no.
        checkouts: the connections in use, which are told of the statements sent on them.
        comments: end the statements that are sent with a comment. Records have them without.
        plans: is told of slow executions, with their parameters.
        uses: is told of statements for mapped objects, to see what of those is read.

    Statements outside of a record are not observed. `close()` puts the dialects back as they were.
    """

    def __init__(  # noqa: PLR0913 - one call site; each names what it is for
        self,
        engines: Iterable[Engine],
        current: ContextVar[Record | None],
        call_sites: CallSites | None = None,
        *,
        keep_parameters: bool = False,
        checkouts: Mapping[Any, Checkout] | None = None,
        comments: Comments | None = None,
        plans: PlanCapture | None = None,
        uses: AttributeUses | None = None,
    ) -> None:
        self._current = current
        self._call_sites = call_sites or CallSites()
        self._keep_parameters = keep_parameters
        self._checkouts = {} if checkouts is None else checkouts
        self._comments = comments
        self._plans = plans
        self._uses = uses
        self._dialects = tuple(dict.fromkeys(engine.dialect for engine in engines))
        self.is_closed = False
        self.faults = 0
        for dialect in self._dialects:
            for name in _WRAPPED:
                self._wrap(dialect, name)

    def close(self) -> None:
        """Take the wrappers out again. Calling it twice does nothing more."""
        self.is_closed = True
        for dialect in self._dialects:
            for name in _WRAPPED:
                unwrap(dialect, name)

    def _wrap(self, dialect: Dialect, name: str) -> None:
        execute: Callable[..., None] = getattr(dialect, name)
        current_record = self._current.get
        observe = self._observe
        is_many = name == "do_executemany"
        comments = self._comments
        commented = comments and comments.of(dialect, parameters=name != "do_execute_no_params")

        # The positions are those of `Dialect.do_execute*`: cursor, statement, [parameters,] context.
        def wrapper(cursor: Any, sql: str, *arguments: Any) -> None:
            record = current_record()
            if record is None or self.is_closed:
                execute(cursor, sql, *arguments)
                return
            sent = commented(sql, record) if commented else sql
            statement = Statement(sql, perf_counter())
            try:
                execute(cursor, sent, *arguments)
            except BaseException as error:
                statement.error = type(error).__name__
                raise
            finally:
                observe(record, statement, cursor, arguments, is_many)

        wrap(dialect, name, wrapper, self)

    # In one piece, as it is on the way of every statement.
    def _observe(  # noqa: C901, PLR0912 - see above
        self,
        record: Record,
        statement: Statement,
        cursor: Any,
        arguments: tuple[Any, ...],
        is_many: bool,  # noqa: FBT001 - one call site, on the hot path
    ) -> None:
        try:
            statement.ended = now = perf_counter()
            statement.execute_seconds = now - statement.started
            context = arguments[-1]
            if (
                not isinstance(context, DefaultExecutionContext)
                or not context.root_connection._allow_autobegin
            ):
                return  # the dialect's own statement, such as those it sends on its first connection
            # The wrapper and three frames of SQLAlchemy's lie between here and whoever sent the statement.
            statement.site = origin(self._call_sites, sys._getframe(5))
            record.add(statement)
            checkout = self._checkouts.get(context._dbapi_connection._connection_record)
            # A connection that many requests share, or that outlives its own, would gather without end.
            if (
                checkout is not None
                and checkout.record is record
                and not record.statements_dropped
                and not record.is_closed
            ):
                if not checkout.statements:
                    if record.checkouts is None:
                        record.checkouts = []
                    record.checkouts.append(checkout)
                checkout.statements.append(statement)
            if is_many:
                statement.executions = len(arguments[0])
            elif len(arguments) > 1 and statement.sql.startswith(_SELECT):
                parameters = arguments[0]
                # A mapping that somebody else has made may be used again for the next statement.
                if len(parameters) <= MAX_PARAMETERS and (type(parameters) is tuple or context.compiled):
                    statement.bound = parameters
            if self._keep_parameters and len(arguments) > 1:
                statement.parameters = arguments[0]
            plans = self._plans
            if plans is not None and statement.execute_seconds >= plans.least_seconds and not is_many:
                sent_with = arguments[0] if len(arguments) > 1 else None
                plans.note(statement, sent_with, context.root_connection.dialect)
            if "_sa_orm_load_options" in context.execution_options:
                _note_loader(context, statement)
            if self._uses is not None:
                self._uses.note(record, context, statement)
            if statement.error is None:
                compile_state = getattr(context.compiled, "compile_state", None)
                joins = getattr(compile_state, "multi_row_eager_loaders", False)
                joined = joined_collections(context) if joins else None
                _time_fetches(context, cursor, statement, self, joined)
        except Exception:
            self.faults += 1
            if self.faults == 1:
                logger.exception("upshift could not observe a statement; requests go on without it")


def _note_loader(context: Any, statement: Statement) -> None:
    """Note what of the ORM sent the statement: a relationship's loader, or a load of an object by its key."""
    options = context.execution_options
    load_options = options["_sa_orm_load_options"]
    if BATCH in options:
        statement.is_eager = True
        return
    state = load_options._refresh_state
    if state is not None:
        statement.object_load = ObjectLoad(state.class_.__name__, _reason(state, load_options))
        return
    compile_options = getattr(context.invoked_statement, "_compile_options", None)
    path = getattr(compile_options, "_current_path", None)
    if path:
        state = load_options._lazy_loaded_from
        if state is None:
            statement.is_eager = True
        else:
            relationship = path.prop
            statement.lazy_load = LazyLoad(
                f"{relationship.parent.class_.__name__}.{relationship.key}",
                relationship.mapper.class_.__name__,
                state.runid,
                (*state.load_path.path, relationship),
            )
    elif context.compiled_parameters and _KEY in context.compiled_parameters[0]:
        mapper = context.invoked_statement._propagate_attrs["plugin_subject"]
        statement.object_load = ObjectLoad(mapper.class_.__name__, "get")


def _reason(state: Any, load_options: Any) -> Literal["expired", "refresh", "columns"]:
    if load_options._is_user_refresh:
        return "refresh"
    return "expired" if state.expired else "columns"


def _time_fetches(
    context: Any, cursor: Any, statement: Statement, capture: Capture, joined: JoinedCollections | None
) -> None:
    if cursor.description is None:
        if cursor.rowcount >= 0:
            statement.rows = cursor.rowcount
        return
    if context.isinsert and context._insertmanyvalues_rows is not None:
        statement.is_bulk = True
        _time_returning(context, statement, capture)
        return
    strategy = context.cursor_fetch_strategy
    if strategy is _DEFAULT_FETCH:
        options = context.execution_options
        if context._is_server_side or options.get("stream_results"):
            # SQLAlchemy would put this strategy in place of the default one, so it is built here instead.
            started = perf_counter()
            strategy = sa_cursor.BufferedRowCursorFetchStrategy(context.cursor, options)
            statement.ended = now = perf_counter()
            statement.fetch_seconds += now - started
    timed = strategy
    while isinstance(timed, _TimedFetch):
        if timed.capture is capture:  # of an execution before in this context, such as a sequence's
            timed.statement = statement
            return
        timed = timed.inner
    context.cursor_fetch_strategy = _TimedFetch(strategy, statement, capture, joined)


def _time_returning(context: Any, statement: Statement, capture: Capture) -> None:
    timed = vars(context).get("fetchall_for_returning")
    if timed is None:
        timed = context.fetchall_for_returning = _TimedReturning(context.fetchall_for_returning)
    timed.statements[capture] = statement


class _TimedReturning:
    """Reads the rows that one batch of a bulk INSERT returns; SQLAlchemy does so after each batch."""

    def __init__(self, fetch: Callable[[Any], Any]) -> None:
        self._fetch = fetch
        self.statements: dict[Capture, Statement] = {}

    def __call__(self, cursor: Any) -> Any:
        started = perf_counter()
        rows = self._fetch(cursor)
        now = perf_counter()
        for statement in self.statements.values():
            statement.ended = now
            statement.fetch_seconds += now - started
            statement.rows = len(rows)
        return rows


class _TimedFetch(sa_cursor.ResultFetchStrategy):
    """Adds the time and the rows of each fetch to a statement; another strategy does the fetching."""

    __slots__ = ("alternate_cursor_description", "capture", "inner", "joined", "statement")

    def __init__(
        self, inner: Any, statement: Statement, capture: Capture, joined: JoinedCollections | None = None
    ) -> None:
        self.inner = inner
        self.alternate_cursor_description = inner.alternate_cursor_description
        self.statement = statement
        self.capture = capture
        self.joined = joined

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        started = perf_counter()
        rows = self.inner.fetchall(result, dbapi_cursor)
        statement = self.statement
        statement.ended = now = perf_counter()
        statement.fetch_seconds += now - started
        statement.rows = (statement.rows or 0) + len(rows)
        if self.joined is not None:
            statement.product = self.joined.product(rows)
        return rows

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        started = perf_counter()
        rows = self.inner.fetchmany(result, dbapi_cursor, size)
        statement = self.statement
        statement.ended = now = perf_counter()
        statement.fetch_seconds += now - started
        statement.rows = (statement.rows or 0) + len(rows)
        return rows

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:  # noqa: FBT001, FBT002 - SQLAlchemy's signature
        started = perf_counter()
        row = self.inner.fetchone(result, dbapi_cursor, hard_close)
        statement = self.statement
        statement.ended = now = perf_counter()
        statement.fetch_seconds += now - started
        statement.rows = (statement.rows or 0) + (row is not None)
        return row

    def yield_per(self, result: Any, dbapi_cursor: Any, num: int) -> None:
        before = result.cursor_strategy
        self.inner.yield_per(result, dbapi_cursor, num)
        if result.cursor_strategy is not before:
            result.cursor_strategy = _TimedFetch(result.cursor_strategy, self.statement, self.capture)

    def soft_close(self, result: Any, dbapi_cursor: Any) -> None:
        self.inner.soft_close(result, dbapi_cursor)

    def hard_close(self, result: Any, dbapi_cursor: Any) -> None:
        self.inner.hard_close(result, dbapi_cursor)

    def handle_exception(self, result: Any, dbapi_cursor: Any, err: BaseException) -> Any:
        self.inner.handle_exception(result, dbapi_cursor, err)
