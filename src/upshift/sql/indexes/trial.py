"""Where a candidate is tried: a place in which indexes can be built and forgotten, and plans be asked for.

On PostgreSQL that is one transaction which is always rolled back. Nothing in it touches the application's
tables unless asked to:

- `how="copy"` copies each table into a temporary one of the same name, which hides the real one for the
  length of the transaction (`pg_temp` comes first on the search path), builds the candidates on the copy and
  has the very same statement explained against it. The real table is only read, under the lock of a SELECT.
- `how="transaction"` builds them on the table itself. Its writers wait meanwhile: not for production.

Either way each candidate stands in a savepoint of its own and leaves with it. A copy is planned as its table
would be but for two things: temporary tables are never scanned in parallel, and foreign keys, which sharpen
estimates of joins, are not copied. `upshift.sql.indexes.advisor` therefore compares with the cheaper of the
real table's plan and the copy's own plan without the candidate.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import sqlalchemy as sa

from upshift.errors import IndexAdviceError
from upshift.sql.catalog import quoted, read_postgres_table
from upshift.sql.engines import connected
from upshift.sql.placeholders import number
from upshift.sql.plans.explain import ExplainRefusedError, explain_postgres, refusal
from upshift.sql.statement import read_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from upshift.sql.catalog import Table, TableName
    from upshift.sql.indexes.advice import How, Unit
    from upshift.sql.indexes.index import DialectName, Index
    from upshift.sql.placeholders import Sample
    from upshift.sql.plans.explain import Plan
    from upshift.sql.statement import Statement

MAX_COPY_BYTES = 256 * 2**20
"""Size of the largest table that is copied (on SQLite, of the largest database file)."""

# pg_temp first, or a search path that names it last would keep finding the real tables.
_SETTINGS = """
    SET LOCAL statement_timeout = '60s';
    SET LOCAL lock_timeout = '2s';
    SELECT set_config('search_path', 'pg_temp, ' || current_setting('search_path'), true)
"""
_RAW = {"no_parameters": True}
_INSTEAD = "; --try-on-database tries it on the table itself"


class Trial(Protocol):
    """A place to try indexes in. Statements and tables in it are those of one database."""

    dialect: DialectName
    how: How
    unit: Unit
    least_cost: float
    """Statements that cost less than this are fast enough as they are."""
    negligible: float
    """Costs that differ by no more than this are about the same."""

    def read(self, sample: Sample) -> Statement:
        """Understand a captured statement; raises UnreadableStatementError."""

    def explain(self, sample: Sample) -> Plan:
        """Plan a captured statement as things stand; raises ExplainRefusedError."""

    def table(self, name: TableName) -> Table | None:
        """Describe a table, or return None where there is none; raises ExplainRefusedError."""

    def enclose(self, name: TableName, table: Table) -> str:
        """Make a table ready for indexes; return why that cannot be done, or ""."""

    def built(self, index: Index) -> AbstractContextManager[None]:
        """Have an index for the length of a `with` block; raises IndexAdviceError."""


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
        engine: a synchronous engine on psycopg or psycopg2.
        paramstyle: of the dialect that the statements were captured on.
        how: where to build candidates.
        max_copy_bytes: tables larger than this are not copied.
        on_progress: told what is being done, in a few words.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
    """
    with connected(engine) as connection:
        transaction = connection.begin()
        try:
            connection.exec_driver_sql(_SETTINGS, execution_options=_RAW)
            yield _PostgresTrial(connection, paramstyle, how, max_copy_bytes, on_progress)
        finally:
            transaction.rollback()


class _PostgresTrial:
    dialect: DialectName = "postgresql"
    unit: Unit = "planner cost"
    least_cost = 50.0  # a sequential scan of a thousand narrow rows costs about 20
    negligible = 4.0  # random_page_cost: one page, read at random

    def __init__(
        self,
        connection: sa.Connection,
        paramstyle: str,
        how: How,
        max_copy_bytes: int,
        on_progress: Callable[[str], None],
    ) -> None:
        self.how: How = how
        self._connection = connection
        self._paramstyle = paramstyle
        self._max_copy_bytes = max_copy_bytes
        self._on_progress = on_progress

    def read(self, sample: Sample) -> Statement:
        return read_statement(number(sample, self._paramstyle).sql, self.dialect)

    def explain(self, sample: Sample) -> Plan:
        return explain_postgres(self._connection, number(sample, self._paramstyle))

    def table(self, name: TableName) -> Table | None:
        try:
            with self._connection.begin_nested():
                return read_postgres_table(self._connection, name)
        except sa.exc.DBAPIError as error:
            raise ExplainRefusedError(refusal(error)) from error

    def enclose(self, name: TableName, table: Table) -> str:
        if self.how == "transaction":
            return ""
        if name.schema:
            return f"the statement names it with its schema, so no copy can stand in for it{_INSTEAD}"
        if table.size > self._max_copy_bytes:
            limit = megabytes(self._max_copy_bytes)
            return f"it holds {megabytes(table.size)}, and up to {limit} are copied{_INSTEAD}"
        if table.secured:
            return "row-level security hides rows of it from this user"
        self._on_progress(f"copying {table.name} ({megabytes(table.size)})")
        try:
            with self._connection.begin_nested():
                for sql in _copying(self._connection, table):
                    self._connection.exec_driver_sql(sql, execution_options=_RAW)
        except sa.exc.DBAPIError as error:
            return f"it could not be copied: {refusal(error)}"
        return ""

    @contextmanager
    def built(self, index: Index) -> Iterator[None]:
        where = replace(index, schema="pg_temp") if self.how == "copy" else index
        with self._connection.begin_nested() as savepoint:
            try:
                self._connection.exec_driver_sql(where.blocking_sql, execution_options=_RAW)
            except sa.exc.DBAPIError as error:
                raise IndexAdviceError(f"{index.name} cannot be built: {refusal(error)}") from error
            yield
            savepoint.rollback()


# Everything after the table's name; an index's definition from PostgreSQL always has its schema.
_DEFINITIONS = sa.text("""
    SELECT c.relname, i.indisunique, substr(pg_get_indexdef(c.oid), 1 + length(format(
        'CREATE %sINDEX %I ON %I.%I', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END,
        c.relname, n.nspname, t.relname))) AS definition
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE n.nspname = :schema AND t.relname = :table AND i.indisvalid
""")


def _copying(connection: sa.Connection, table: Table) -> Iterator[str]:
    """The SQL that copies a table; indexes come last, since filling an indexed table takes twice as long."""
    real, copy = f"{quoted(table.schema)}.{quoted(table.name)}", f"pg_temp.{quoted(table.name)}"
    # Without INCLUDING DEFAULTS, GENERATED and IDENTITY every value is copied as it is.
    yield f"CREATE TEMPORARY TABLE {copy} (LIKE {real} INCLUDING STATISTICS) ON COMMIT DROP"
    yield f"INSERT INTO {copy} SELECT * FROM {real}"  # noqa: S608 - both names are quoted
    for index in connection.execute(_DEFINITIONS, {"schema": table.schema, "table": table.name}):
        unique = "UNIQUE " if index.indisunique else ""
        yield f"CREATE {unique}INDEX {quoted(index.relname)} ON {copy}{index.definition}"
    yield f"ANALYZE {copy}"


def megabytes(size: int) -> str:
    """Write a number of bytes as readers have it."""
    return f"{size / 2**20:,.1f} MB"
