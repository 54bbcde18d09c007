"""Where a candidate is tried: a place in which indexes can be built and forgotten, and plans be asked for.

On PostgreSQL that is one transaction which is always rolled back. Nothing in it touches the application's
tables unless asked to:

- `how="copy"` copies each table into a temporary one of the same name, which hides the real one for the
  length of the transaction (`pg_temp` comes first on the search path), builds the candidates on the copy and
  has the very same statement explained against it. There statements are executed as well, to measure them:
  only those of which every table is a copy and whose functions change nothing, in a savepoint that is read
  only (temporary tables excepted), limited in time and rolled back.
- `how="hypothetical"` copies nothing and builds nothing: the extension HypoPG, where it is installed, tells
  the planner of indexes that do not exist. Nothing is measured.
- `how="transaction"` builds them on the table itself. Its writers wait meanwhile: not for production.

Where HypoPG is installed, candidates are first tried with it on the copies too, for that takes no time; what
is then chosen is built.

Each candidate stands in a savepoint of its own and leaves with it. Plans are asked for in savepoints that are
rolled back, which lets go of their locks. A copy is planned as its table would be but for two things:
temporary tables are never scanned in parallel, and foreign keys, which sharpen estimates of joins, are not
copied.
`upshift.sql.indexes.advisor` therefore compares with the cheaper of the real table's plan and the copy's own
plan without the candidate.

One such transaction at a time works in a database, by an advisory lock that ends with it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from upshift.errors import IndexAdviceError
from upshift.sql.catalog import quoted, read_postgres_table
from upshift.sql.engines import connected
from upshift.sql.indexes.copying import copy_table, reader
from upshift.sql.indexes.qualified import redirect
from upshift.sql.placeholders import Sample, number
from upshift.sql.plans.explain import (
    ExplainRefusedError,
    ask_postgres,
    explain_postgres,
    first_line,
    refusal,
)
from upshift.sql.plans.safety import why_not_executed
from upshift.sql.statement import read_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from sqlalchemy.pool import PoolProxiedConnection

    from upshift.sql.catalog import Table, TableName
    from upshift.sql.indexes.advice import How, MeasuredIn, Unit
    from upshift.sql.indexes.index import DialectName, Index
    from upshift.sql.plans.explain import Plan
    from upshift.sql.statement import Statement

MAX_COPY_BYTES = 256 * 2**20
"""Bytes of a table that are copied; of a larger one a sample is (on SQLite a larger database is refused)."""

MAX_COPIES = 4
"""Times `max_copy_bytes` that all copies of a run may hold together."""

STATEMENT_SECONDS = 5.0
"""How long one statement may run when it is measured; one that takes longer counts as taking that long."""

LOCK_SECONDS = 120.0
"""How long another run of advice on the same database is waited for."""

_LOCK = int.from_bytes(b"upadvise", "big")

# pg_temp first, or a search path that names it last would keep finding the real tables.
_SETTINGS = """
    SET LOCAL statement_timeout = '60s';
    SET LOCAL lock_timeout = '2s';
    SELECT set_config('search_path', 'pg_temp, ' || current_setting('search_path'), true)
"""
_MEASURING = (
    f"SET LOCAL transaction_read_only = on; SET LOCAL statement_timeout = {STATEMENT_SECONDS * 1e3:.0f}"
)
_WATCH_CLIENT = "SET LOCAL client_connection_check_interval = '1s'"  # whose client was killed, it ends
_RAW = {"no_parameters": True}
_INSTEAD = "; --try-on-database tries it on the table itself"
_LEAST_SAMPLE = 0.01  # a smaller part of a table says little of it
_PROBED_ROWS = 2_000
_OTHER_INDEXES = sa.text("""
    SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = to_regclass(:copy) AND c.relname <> :name
""")


class Trial(Protocol):
    """A place to try indexes in. Statements and tables in it are those of one database."""

    dialect: DialectName
    how: How
    unit: Unit
    measured_in: MeasuredIn
    removes: bool
    """Whether an index that stands can be taken away, as `without` does."""
    least_cost: float
    """Statements that cost less than this are fast enough as they are."""
    negligible: float
    """Costs that differ by no more than this are about the same."""
    least_measure: float
    """Measures that differ by no more than this are about the same."""

    def read(self, sample: Sample) -> Statement:
        """Understand a captured statement; raises UnreadableStatementError."""

    def explain(self, sample: Sample) -> Plan:
        """Plan a captured statement as things stand; raises ExplainRefusedError."""

    def table(self, name: TableName) -> Table | None:
        """Describe a table, or return None where there is none; raises ExplainRefusedError."""

    def enclose(self, name: TableName, table: Table) -> str:
        """Make a table ready for indexes; return why that cannot be done, or ""."""

    def fraction(self, table: Table) -> float:
        """The part of a table's rows that is looked at."""

    def tried(self, index: Index) -> AbstractContextManager[None]:
        """Have an index as far as plans go, for the length of a `with` block; raises IndexAdviceError."""

    def built(self, index: Index) -> AbstractContextManager[None]:
        """Have an index for the length of a `with` block; raises IndexAdviceError."""

    def without(self, index: Index) -> AbstractContextManager[None]:
        """Have an index that stands away for the length of a `with` block."""

    def measure(self, sample: Sample) -> float | None:
        """Execute a statement as things stand and tell what that took; None where it cannot be executed."""

    def entry_cost(self, index: Index) -> float | None:
        """What it takes to write one row's entry into an index that stands; None where that is not known."""

    def size(self, index: Index) -> int | None:
        """The bytes of an index that stands; None where that is not known."""


@contextmanager
def postgres_trial(
    engine: sa.Engine,
    paramstyle: str,
    how: How,
    max_copy_bytes: int,
    on_progress: Callable[[str], None],
) -> Iterator[Trial]:
    """Open a transaction to try indexes in, and roll it back at the end of the `with` block.

    Args:
        engine: a synchronous engine.
        paramstyle: of the dialect that the statements were captured on.
        how: where to build candidates.
        max_copy_bytes: of tables larger than this a sample is copied.
        on_progress: told what is being done, in a few words.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        IndexAdviceError: another run did not end within `LOCK_SECONDS`, or `how` needs what is not there.
    """
    with ExitStack() as stack:
        connection = stack.enter_context(connected(engine))
        stack.enter_context(_unprepared(connection))
        transaction = connection.begin()
        stack.callback(transaction.rollback)
        connection.exec_driver_sql(_SETTINGS, execution_options=_RAW)
        with suppress(sa.exc.DBAPIError), connection.begin_nested():  # before PostgreSQL 14 there is no such
            connection.exec_driver_sql(_WATCH_CLIENT, execution_options=_RAW)
        _lock(connection, on_progress)
        source = stack.enter_context(reader(engine)) if how == "copy" else None
        has_hypopg = how != "transaction" and bool(connection.scalar(sa.text(_HAS_HYPOPG)))
        if how == "hypothetical" and not has_hypopg:
            raise IndexAdviceError("hypothetical indexes need the extension HypoPG: CREATE EXTENSION hypopg")
        yield _PostgresTrial(
            connection, source, paramstyle, how, max_copy_bytes, on_progress, has_hypopg=has_hypopg
        )


@contextmanager
def _unprepared(connection: sa.Connection) -> Iterator[None]:
    """Keep psycopg from preparing what is sent often: a prepared EXPLAIN demands parameters that it lacks."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.driver != "psycopg":
        yield
        return
    threshold, driver.prepare_threshold = driver.prepare_threshold, None
    try:
        yield
    finally:
        driver.prepare_threshold = threshold


_HAS_HYPOPG = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'hypopg')"


def _lock(connection: sa.Connection, on_progress: Callable[[str], None]) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))):
        if time.monotonic() > deadline:
            raise IndexAdviceError("indexes are sought for this database already: let that end first")
        on_progress("waiting for another search for indexes to end")
        time.sleep(0.2)


class _PostgresTrial:
    """See `postgres_trial`."""

    dialect: DialectName = "postgresql"
    unit: Unit = "planner cost"
    measured_in: MeasuredIn = "ms"
    least_cost = 50.0  # a sequential scan of a thousand narrow rows costs about 20
    negligible = 4.0  # random_page_cost: one page, read at random
    least_measure = 0.05

    def __init__(  # noqa: PLR0913, PLR0917 - made in one place, from its arguments
        self,
        connection: sa.Connection,
        source: PoolProxiedConnection | None,
        paramstyle: str,
        how: How,
        max_copy_bytes: int,
        on_progress: Callable[[str], None],
        *,
        has_hypopg: bool,
    ) -> None:
        self.how: How = how
        self.removes = how == "copy"  # to drop an index of the real table would lock out its readers
        self._connection = connection
        self._source = source
        self._paramstyle = paramstyle
        self._max_copy_bytes = max_copy_bytes
        self._on_progress = on_progress
        self._has_hypopg = has_hypopg
        self._copied: dict[TableName, Table] = {}
        self._hypothetical: dict[str, str] = {}

    def read(self, sample: Sample) -> Statement:
        return read_statement(number(sample, self._paramstyle).sql, self.dialect)

    def explain(self, sample: Sample) -> Plan:
        with self._forgotten():
            plan = explain_postgres(self._connection, number(self._redirected(sample), self._paramstyle))
        return self._with_our_names(plan) if self._hypothetical else plan

    def table(self, name: TableName) -> Table | None:
        try:
            with self._forgotten():
                return read_postgres_table(self._connection, name)
        except sa.exc.DBAPIError as error:
            raise ExplainRefusedError(refusal(error)) from error

    def enclose(self, name: TableName, table: Table) -> str:
        if self.how != "copy":
            return ""
        namesake = next((other for other in self._copied.values() if other.name == table.name), None)
        if namesake is None:
            reason = self._obstacle(table) or self._copy(table)
        else:
            is_same = namesake.schema == table.schema
            reason = "" if is_same else "a table of that name in another schema is copied already"
        if not reason:
            self._copied[name] = table
        return reason

    def _obstacle(self, table: Table) -> str:
        if table.secured:
            return "row-level security hides rows of it from this user"
        if self.fraction(table) < _LEAST_SAMPLE:
            return f"it holds {megabytes(table.size)}, too much for a sample{_INSTEAD}"
        copied = sum(min(each.size, self._max_copy_bytes) for each in self._copied.values())
        if copied + min(table.size, self._max_copy_bytes) > MAX_COPIES * self._max_copy_bytes:
            return f"the copies of other tables hold {megabytes(copied)} already{_INSTEAD}"
        return ""

    def _copy(self, table: Table) -> str:
        part = self.fraction(table)
        sampled = f", a sample of {part:.0%}" if part < 1 else ""
        self._on_progress(f"copying {table.name} ({megabytes(table.size)}{sampled})")
        try:
            with self._connection.begin_nested():
                copy_table(self._source, self._connection, table, part)
        except sa.exc.DBAPIError as error:
            return f"it could not be copied: {refusal(error)}"
        except self._connection.dialect.loaded_dbapi.Error as error:
            return f"it could not be copied: {first_line(error)}"
        return ""

    def fraction(self, table: Table) -> float:
        if self.how != "copy" or table.size <= self._max_copy_bytes:
            return 1.0
        return self._max_copy_bytes / table.size

    @contextmanager
    def tried(self, index: Index) -> Iterator[None]:
        if not self._has_hypopg or index.method != "btree":
            with self.built(index):
                yield
            return
        try:
            with self._connection.begin_nested():
                created = self._connection.execute(
                    sa.text("SELECT indexrelid, indexname FROM hypopg_create_index(:sql)"),
                    {"sql": self._placed(index).blocking_sql},
                ).one()
        except sa.exc.DBAPIError as error:
            raise IndexAdviceError(f"{index.name} cannot be built: {refusal(error)}") from error
        self._hypothetical[created.indexname] = index.name
        try:
            yield
        finally:
            del self._hypothetical[created.indexname]
            self._connection.execute(sa.text("SELECT hypopg_drop_index(:oid)"), {"oid": created.indexrelid})

    @contextmanager
    def built(self, index: Index) -> Iterator[None]:
        if self.how == "hypothetical":
            with self.tried(index):
                yield
            return
        with self._connection.begin_nested() as savepoint:
            try:
                sql = self._placed(index).blocking_sql
                self._connection.exec_driver_sql(sql, execution_options=_RAW)
                if self.how == "copy" and index.is_computed:  # its values have no statistics until then
                    copy = f"pg_temp.{quoted(index.table)}"
                    self._connection.exec_driver_sql(f"ANALYZE {copy}", execution_options=_RAW)
            except sa.exc.DBAPIError as error:
                raise IndexAdviceError(f"{index.name} cannot be built: {refusal(error)}") from error
            yield
            savepoint.rollback()

    @contextmanager
    def without(self, index: Index) -> Iterator[None]:
        with self._connection.begin_nested() as savepoint:
            self._drop(index.name)
            yield
            savepoint.rollback()

    def measure(self, sample: Sample) -> float | None:
        """The execution time in milliseconds."""
        if self.how != "copy":
            return None
        statement = number(self._redirected(sample), self._paramstyle)
        try:
            with self._forgotten():
                answer = ask_postgres(self._connection, statement, "VERBOSE")
                plan = answer.document[0]["Plan"]
                if answer.is_generic or not _is_on_copies(plan):
                    return None
                if why_not_executed(self._connection, _as_reading(plan)):
                    return None
        except (ExplainRefusedError, sa.exc.DBAPIError) as error:
            _raise_if_lost(error)
            return None
        try:
            with self._forgotten():
                self._connection.exec_driver_sql(_MEASURING, execution_options=_RAW)
                answer = ask_postgres(self._connection, statement, "ANALYZE", "TIMING OFF")
        except ExplainRefusedError as error:
            return STATEMENT_SECONDS * 1e3 if "statement timeout" in str(error) else None
        return float(answer.document[0]["Execution Time"])

    def entry_cost(self, index: Index) -> float | None:
        """Milliseconds: the same rows are written with the index and without, and no other index."""
        if self.how != "copy":
            return None
        copy = f"pg_temp.{quoted(index.table)}"
        probe = f"INSERT INTO {copy} SELECT * FROM {copy} LIMIT {_PROBED_ROWS}"  # noqa: S608 - it is quoted
        try:
            with self._forgotten():
                others = self._connection.execute(_OTHER_INDEXES, {"copy": copy, "name": index.name})
                for other in others.scalars().all():
                    self._drop(other)
                with_it = min(self._timed(probe) for _ in range(3))
                self._drop(index.name)
                without_it = min(self._timed(probe) for _ in range(3))
        except sa.exc.DBAPIError as error:
            _raise_if_lost(error)
            return None
        return max(with_it - without_it, 0.0) / _PROBED_ROWS

    def size(self, index: Index) -> int | None:
        if self.how == "hypothetical":
            return None
        place = self._placed(index)
        reference = ".".join(quoted(part) for part in (place.schema, index.name) if part)
        query = sa.text("SELECT pg_relation_size(to_regclass(:reference))")
        size: int | None = self._connection.scalar(query, {"reference": reference})
        return size

    def _placed(self, index: Index) -> Index:
        return replace(index, schema="pg_temp") if self.how == "copy" else index

    def _drop(self, name: str) -> None:
        self._connection.exec_driver_sql(f"DROP INDEX pg_temp.{quoted(name)}", execution_options=_RAW)

    def _timed(self, sql: str) -> float:
        with self._forgotten():
            explained = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}"
            document = self._connection.exec_driver_sql(explained, execution_options=_RAW).scalar_one()
        return float(document[0]["Execution Time"])

    def _redirected(self, sample: Sample) -> Sample:
        sql = redirect(sample.sql, self._copied)
        return sample if sql == sample.sql else Sample(sql, sample.parameters)

    def _with_our_names(self, plan: Plan) -> Plan:
        names = frozenset(self._hypothetical.get(name, name) for name in plan.indexes)
        lines = plan.lines
        for theirs, ours in self._hypothetical.items():
            lines = tuple(line.replace(f" using {theirs} ", f" using {ours} ") for line in lines)
        return replace(plan, lines=lines, indexes=names)

    @contextmanager
    def _forgotten(self) -> Iterator[None]:
        """A savepoint that is rolled back: what is done in it leaves nothing, and no lock."""
        with self._connection.begin_nested() as savepoint:
            yield
            savepoint.rollback()


def _is_on_copies(plan: Mapping[str, Any]) -> bool:
    """Whether every table of a plan, asked for with VERBOSE, is a temporary one."""
    own = "Relation Name" not in plan or str(plan.get("Schema", "")).startswith("pg_temp")
    return own and all(_is_on_copies(each) for each in plan.get("Plans", ()))


def _as_reading(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A plan of copies in which what writes and locks rows, of copies only, passes for what does not."""
    kind = plan.get("Node Type")
    kind = "Append" if kind in {"ModifyTable", "LockRows"} else kind
    return {**plan, "Node Type": kind, "Plans": [_as_reading(each) for each in plan.get("Plans", ())]}


def _raise_if_lost(error: Exception) -> None:
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        raise error


def megabytes(size: int) -> str:
    """Write a number of bytes as readers have it."""
    return f"{size / 2**20:,.1f} MB"
