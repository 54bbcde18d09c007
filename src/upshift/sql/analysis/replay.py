"""Sends recorded SELECTs to a database again, and tells how long each kind takes there.

A recording is a file, and whoever wrote it may have written anything. So a text is sent only when it is
understood as one SELECT that writes nothing. On PostgreSQL its plan is read first, and it is executed only
where no node writes or locks and every function is declared harmless (`upshift.sql.plans.safety`); then in a
transaction that is read only, limited in time, and rolled back. On SQLite the connection refuses to write.

Without recorded parameters a statement cannot be executed. Its generic plan is asked for instead, as index
advice does, and the planner's cost is told.

Times are those of this connection alone on this machine. They are to be compared with another replay, before
and after an index or a setting; beside those of the recording they tell the order of magnitude.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from statistics import mean, median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from upshift.errors import MissingExtraError, UpshiftError
from upshift.sql.analysis.replayed import ReplayDocument, Replayed
from upshift.sql.engines import connected
from upshift.sql.placeholders import Sample, number
from upshift.sql.plans.explain import ExplainRefusedError, ask_postgres, first_line, parse_postgres, refusal
from upshift.sql.plans.safety import why_not_executed

try:
    from upshift.sql.statement import UnreadableStatementError, read_statement
except ModuleNotFoundError as error:  # it reads statements with sqlglot
    raise MissingExtraError("sending recorded statements again", "find") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from upshift.sql.analysis.workload import Case, Execution
    from upshift.sql.indexes.index import DialectName
    from upshift.sql.placeholders import Numbered

STATEMENT_SECONDS = 5.0
"""How long one execution may take."""

REPEATS = 3
"""Executions that are timed of each sample, after one that is not."""

MAX_ROWS = 100_000
"""Rows that are fetched of one execution."""

_CHUNK = 1_000
_STEPS = 10_000
_LOCK_SECONDS = 1


class _NotExecutedError(Exception):
    """The reason is the message."""

    def __init__(self, reason: str, cost: float | None = None) -> None:
        super().__init__(reason)
        self.cost = cost


def replay(  # noqa: PLR0913 - settings with defaults, named by their callers
    engine: sa.Engine,
    cases: Iterable[Case],
    *,
    paramstyle: str | None = None,
    seconds: float = STATEMENT_SECONDS,
    repeats: int = REPEATS,
    on_progress: Callable[[str], None] = lambda _: None,
) -> ReplayDocument:
    """Send the SELECTs of a workload again; nothing is ever written.

    Args:
        engine: a synchronous engine; see `upshift.sql.engines.engine_for`.
        cases: the statements.
        paramstyle: of the dialect they were recorded on, where that is not the engine's own.
        seconds: how long one execution may take.
        repeats: executions of each sample that are timed.
        on_progress: told what is being done.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        UpshiftError: it is neither PostgreSQL nor SQLite.
    """
    with connected(engine) as connection:
        place: _Postgres | _Sqlite
        match engine.dialect.name:
            case "postgresql":
                place = _Postgres(connection, paramstyle or engine.dialect.paramstyle, seconds)
            case "sqlite":
                place = _Sqlite(connection, seconds)
            case name:
                raise UpshiftError(f"statements are sent again to PostgreSQL and SQLite, not {name}")
        replayed = []
        for case in cases:
            on_progress(case.digest.text)
            replayed.append(_replay_case(place, case, repeats))
        version = ".".join(map(str, engine.dialect.server_version_info or ()))
    return ReplayDocument(database=f"{engine.dialect.name} {version}".rstrip(), statements=tuple(replayed))


def _replay_case(place: _Postgres | _Sqlite, case: Case, repeats: int) -> Replayed:
    recorded: list[Execution] = []
    times: list[float] = []
    rows = 0
    note, cost = "", None
    try:
        with place.begin():
            for execution in case.samples:
                place.check(execution)
                place.execute(execution)  # what is not in memory yet would be counted to the first one
                runs = [place.execute(execution) for _ in range(repeats)]
                recorded.append(execution)
                times.append(median(run[0] for run in runs))
                rows += runs[0][1]
    except _NotExecutedError as error:
        note, cost = str(error), error.cost
    known = [each.rows for each in recorded if each.rows is not None]
    return Replayed(
        digest=case.digest.id,
        text=case.digest.text,
        count=case.count,
        samples=len(times),
        recorded_seconds=mean(each.seconds for each in recorded) if recorded else 0.0,
        seconds=mean(times) if times else None,
        recorded_rows=sum(known) if recorded and len(known) == len(recorded) else None,
        rows=rows,
        cost=cost,
        note=note,
    )


def _check_text(sql: str, dialect: DialectName) -> None:
    try:
        if not read_statement(sql, dialect).is_select:
            raise _NotExecutedError("it writes, and only SELECTs are sent again")
    except UnreadableStatementError as error:
        raise _NotExecutedError(str(error)) from error


class _Postgres:
    """A PostgreSQL database."""

    def __init__(self, connection: sa.Connection, paramstyle: str, seconds: float) -> None:
        self._connection = connection
        self._paramstyle = paramstyle
        limits = (
            f"SET LOCAL statement_timeout = {seconds * 1e3:.0f}; SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"
        )
        self._limits = f"SET TRANSACTION READ ONLY; {limits}"

    @contextmanager
    def begin(self) -> Iterator[None]:
        with self._connection.begin() as transaction:
            try:
                self._connection.exec_driver_sql(self._limits)
                yield
            except sa.exc.DBAPIError as error:
                raise _NotExecutedError(refusal(error)) from error
            except sa.exc.SQLAlchemyError as error:  # a value that the driver cannot send
                raise _NotExecutedError(first_line(error)) from error
            finally:
                transaction.rollback()

    def check(self, execution: Execution) -> None:
        """Refuse what is no SELECT, may change something, or lacks its parameters."""
        statement = self._numbered(execution)
        _check_text(statement.sql, "postgresql")
        try:
            answer = ask_postgres(self._connection, statement, "VERBOSE")
        except ExplainRefusedError as error:
            raise _NotExecutedError(str(error)) from error
        if answer.is_generic:
            missing = "do not fit" if execution.parameters else "were not recorded (keep_parameters)"
            raise _NotExecutedError(f"its parameters {missing}", parse_postgres(answer.document).cost)
        if reason := why_not_executed(self._connection, answer.document[0]["Plan"]):
            raise _NotExecutedError(reason)

    def execute(self, execution: Execution) -> tuple[float, int]:
        """Return the seconds that it took, and the rows that it gave."""
        statement = self._numbered(execution)
        sql = statement.sql if statement.values is None else statement.bound_sql
        values: Any = statement.values
        options = {"no_parameters": True} if values is None else {}
        started = perf_counter()
        with self._connection.exec_driver_sql(sql, values, execution_options=options) as result:
            rows = _fetched(result)
        return perf_counter() - started, rows

    def _numbered(self, execution: Execution) -> Numbered:
        sql = execution.sql.rstrip().removesuffix(";")
        return number(Sample(sql, execution.parameters), self._paramstyle)


class _Sqlite:
    """An SQLite database."""

    def __init__(self, connection: sa.Connection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        driver = connection.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            raise UpshiftError("statements are sent again to SQLite by Python's own driver only")
        self._driver = driver

    @contextmanager
    def begin(self) -> Iterator[None]:
        self._driver.execute("PRAGMA query_only = ON")
        try:
            yield
        except (sqlite3.Error, ValueError, OverflowError, TypeError) as error:
            raise _NotExecutedError(first_line(error)) from error
        finally:
            self._driver.set_progress_handler(None, _STEPS)
            self._driver.rollback()
            self._driver.execute("PRAGMA query_only = OFF")

    def check(self, execution: Execution) -> None:
        """Refuse what is no SELECT; the driver itself refuses what lacks its parameters."""
        _check_text(execution.sql, "sqlite")

    def execute(self, execution: Execution) -> tuple[float, int]:
        """Return the seconds that it took, and the rows that it gave."""
        started = perf_counter()
        self._driver.set_progress_handler(lambda: perf_counter() - started > self._seconds, _STEPS)
        cursor = self._driver.execute(execution.sql, execution.parameters or ())
        try:
            rows = _fetched(cursor)
        finally:
            cursor.close()
        return perf_counter() - started, rows


def _fetched(result: Any) -> int:  # noqa: ANN401 - a cursor of either kind
    rows = 0
    while rows < MAX_ROWS:
        chunk = len(result.fetchmany(_CHUNK))
        rows += chunk
        if chunk < _CHUNK:
            break
    return rows
