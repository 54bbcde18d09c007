"""Statement capture: what each request asked of the database, and which line asked.

The dialect's three execute calls are wrapped on the dialect *instance*, so one engine is observed and
nothing else in the process changes. SQLAlchemy's cursor events would do, at five times the price: a listener
makes every checkout and every execution take the slow path.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from upshift.record import CallSites, LazyLoad, ObjectLoad
from upshift.record.fingerprint import MAX_PARAMETERS
from upshift.sql.capture.fetching import SentStatement, time_fetches
from upshift.sql.loading.selectin import BATCH
from upshift.sql.origin import Origins
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

_KEY = "pk_1"
"""The parameter by which a mapper selects one object by its key."""

_FIRST = 4
"""See `Origins`: the wrapper and two of SQLAlchemy's frames lie between."""


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
        self._site_of = Origins(call_sites or CallSites(), _FIRST).of
        self._keep_parameters = keep_parameters
        self._checkouts = {} if checkouts is None else checkouts
        self._comments = comments
        self._plans = plans
        self._uses = uses
        self._dialects = tuple(dict.fromkeys(engine.dialect for engine in engines))
        self.is_closed = False
        self.faults = 0
        for dialect in self._dialects:
            wrap(dialect, "do_execute", self._executing(dialect, dialect.do_execute), self)
            many = self._executing(dialect, dialect.do_executemany, is_many=True)
            wrap(dialect, "do_executemany", many, self)
            self._wrap_no_params(dialect)

    def close(self) -> None:
        """Take the wrappers out again. Calling it twice does nothing more."""
        self.is_closed = True
        for dialect in self._dialects:
            for name in ("do_execute", "do_executemany", "do_execute_no_params"):
                unwrap(dialect, name)

    def _wrap_no_params(self, dialect: Dialect) -> None:
        execute = dialect.do_execute_no_params

        def without(cursor: Any, sql: str, _parameters: Any, context: Any) -> None:
            execute(cursor, sql, context)

        observed = self._executing(dialect, without, has_parameters=False)

        def wrapper(cursor: Any, sql: str, context: Any = None) -> None:
            observed(cursor, sql, None, context)

        wrap(dialect, "do_execute_no_params", wrapper, self)

    # In one piece, as it is on the way of every statement: a call more is a fiftieth of what it costs.
    def _executing(  # noqa: C901 - see above
        self,
        dialect: Dialect,
        execute: Callable[..., None],
        *,
        is_many: bool = False,
        has_parameters: bool = True,
    ) -> Callable[..., None]:
        current_record, site_of, uses = self._current.get, self._site_of, self._uses
        checkouts, plans, keep_parameters = self._checkouts, self._plans, self._keep_parameters
        comments = self._comments
        commented = comments and comments.of(dialect, parameters=has_parameters)

        # The positions are those of `Dialect.do_execute*`.
        def wrapper(cursor: Any, sql: str, parameters: Any, context: Any = None) -> None:  # noqa: C901, PLR0912 - likewise
            record = current_record()
            if record is None or self.is_closed:
                execute(cursor, sql, parameters, context)
                return
            sent = commented(sql, record) if commented else sql
            statement = SentStatement(sql, perf_counter())
            try:
                execute(cursor, sent, parameters, context)
            except BaseException as error:
                statement.error = type(error).__name__
                raise
            finally:
                statement.ended = now = perf_counter()
                statement.execute_seconds = now - statement.started
                try:
                    # Else it is the dialect's own, such as those that it sends on its first connection.
                    if context is not None and context.root_connection._allow_autobegin:
                        statement.site = site_of(sql)
                        record.add(statement)
                        checkout = checkouts.get(context._dbapi_connection._connection_record)
                        # A connection that many requests share, or that outlives its own, would gather
                        # without end.
                        if (
                            checkout is not None
                            and checkout.record is record
                            and not record.is_closed
                            and not record.statements_dropped
                        ):
                            if not checkout.statements:
                                _note_checkout(record, checkout)
                            checkout.statements.append(statement)
                        if is_many:
                            statement.executions = len(parameters)
                        # Of a SELECT, as far as its first letter tells that: what others send may be large.
                        # And a mapping that somebody else has made may be used for the next statement again.
                        elif (
                            parameters is not None
                            and sql[:1] in "Ss"
                            and len(parameters) <= MAX_PARAMETERS
                            and (type(parameters) is tuple or context.compiled)
                        ):
                            statement.bound = parameters
                        if keep_parameters:
                            statement.parameters = parameters
                        if (
                            plans is not None
                            and statement.execute_seconds >= plans.least_seconds
                            and not is_many
                        ):
                            plans.note(statement, parameters, context.root_connection.dialect)
                        if "_sa_orm_load_options" in context.execution_options:
                            _note_loader(context, statement)
                        if uses is not None:
                            uses.note(record, context, statement)
                        if statement.error is None:
                            statement.capture = self
                            time_fetches(context, cursor, statement)
                except Exception as fault:  # noqa: BLE001 - whatever it is, the host goes on
                    self._count(fault)

        return wrapper

    def _count(self, fault: Exception) -> None:
        self.faults += 1
        if self.faults == 1:
            logger.error("upshift could not observe a statement; requests go on without it", exc_info=fault)


def _note_checkout(record: Record, checkout: Checkout) -> None:
    if record.checkouts is None:
        record.checkouts = []
    record.checkouts.append(checkout)


def _note_loader(context: Any, statement: SentStatement) -> None:
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
