"""Candidates on SQLite: tried on a private copy of the whole database.

SQLite's planner gives no costs, so a statement's cost is measured: the number of virtual-machine steps that
it takes on the copy (what the shell's `.stats` shows as "Virtual Machine Steps"), counted through the
progress handler (https://sqlite.org/c3ref/progress_handler.html). Steps do not depend on the machine's
speed or load, and grow with the rows visited, whether found by a scan or by an index. Only a SELECT is run,
only with the parameters it was captured with, and no further than `MAX_STEPS`; `PRAGMA query_only` keeps the
copy as it is. The copy is not analysed: its plans are those that the database itself would make.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upshift.errors import IndexAdviceError
from upshift.sql.catalog import quoted, read_sqlite_table
from upshift.sql.engines import connected
from upshift.sql.indexes.trial import megabytes
from upshift.sql.plans.explain import MAX_LINES, ExplainRefusedError, Plan
from upshift.sql.statement import read_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa

    from upshift.sql.catalog import Table, TableName
    from upshift.sql.indexes.advice import How, MeasuredIn, Unit
    from upshift.sql.indexes.index import DialectName, Index
    from upshift.sql.indexes.trial import Trial
    from upshift.sql.placeholders import Sample
    from upshift.sql.statement import Statement

MAX_STEPS = 20_000_000
"""Steps after which a statement is stopped; it takes about a second and its true cost is higher."""

_STEPS_AT_A_TIME = 100
_PROBED_ROWS = 2_000
_INDEX = re.compile(r"USING (?:COVERING )?INDEX (\S+)")


@contextmanager
def sqlite_trial(
    engine: sa.Engine, max_copy_bytes: int, on_progress: Callable[[str], None]
) -> Iterator[Trial]:
    """Copy the database to a temporary file for the length of the `with` block.

    Raises:
        DatabaseUnavailableError: the database cannot be opened.
        IndexAdviceError: it is larger than `max_copy_bytes`, or cannot be copied.
    """
    with tempfile.TemporaryDirectory(prefix="upshift-") as folder:
        path = Path(folder, "copy.sqlite")
        with connected(engine) as connection:
            source = connection.connection.driver_connection
            if not isinstance(source, sqlite3.Connection):
                raise IndexAdviceError("index advice on SQLite needs Python's own sqlite3 driver")
            _copy(source, path, max_copy_bytes, on_progress)
        # A statement kept from before would tell the plan of before: only those that run look at the schema.
        with closing(sqlite3.connect(path, isolation_level=None, cached_statements=0)) as copy:
            copy.execute("PRAGMA journal_mode = MEMORY")  # nobody needs the copy after a crash
            copy.execute("PRAGMA synchronous = OFF")
            yield _SqliteTrial(copy)


def _copy(source: sqlite3.Connection, path: Path, max_bytes: int, on_progress: Callable[[str], None]) -> None:
    try:
        (size,) = source.execute(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        ).fetchone()
        if size > max_bytes:
            raise IndexAdviceError(
                f"the database holds {megabytes(size)}, and up to {megabytes(max_bytes)} are copied"
            )
        on_progress(f"copying the database ({megabytes(size)})")
        with closing(sqlite3.connect(path)) as copy:
            source.backup(copy)
    except sqlite3.Error as error:
        raise IndexAdviceError(f"the database cannot be copied: {error}") from error


class _SqliteTrial:
    dialect: DialectName = "sqlite"
    how: How = "copy"
    unit: Unit = "steps"
    measured_in: MeasuredIn = "steps"
    removes = True
    least_cost = 5_000.0  # a scan of a thousand rows takes about that many steps
    negligible = 1_000.0
    least_measure = 1_000.0

    def __init__(self, copy: sqlite3.Connection) -> None:
        self._copy = copy
        self._measured: dict[tuple[str, tuple[str, ...]], float] = {}

    def read(self, sample: Sample) -> Statement:
        return read_statement(sample.sql, self.dialect)

    def table(self, name: TableName) -> Table | None:
        table = read_sqlite_table(self._copy, name)
        if table is None or table.obstacle:
            return table
        query = f"SELECT count(*) FROM {quoted(table.name)}"  # noqa: S608 - a name cannot be bound
        return replace(table, rows=self._copy.execute(query).fetchone()[0])

    def enclose(self, name: TableName, table: Table) -> str:
        del name, table  # the copy holds them all
        return ""

    @contextmanager
    def built(self, index: Index) -> Iterator[None]:
        with self._forgotten():
            try:
                self._copy.execute(index.blocking_sql)
            except sqlite3.Error as error:
                raise IndexAdviceError(f"{index.name} cannot be built: {error}") from error
            yield

    tried = built

    @contextmanager
    def without(self, index: Index) -> Iterator[None]:
        with self._forgotten():
            self._copy.execute(f"DROP INDEX {quoted(index.name)}")
            yield

    def fraction(self, table: Table) -> float:
        del table
        return 1.0

    def measure(self, sample: Sample) -> float | None:
        with suppress(ExplainRefusedError):
            cost: float = self.explain(sample).cost
            return cost
        return None

    def entry_cost(self, index: Index) -> float | None:
        """Steps: the same rows are written with the index and without, and no other index."""
        table = quoted(index.table)
        probe = f"CREATE TEMP TABLE upshift_probe AS SELECT * FROM {table} LIMIT {_PROBED_ROWS}"  # noqa: S608
        copy = replace(index, table="upshift_probe", schema=None)
        with self._forgotten():
            self._copy.execute(probe)
            rows: int = self._copy.execute("SELECT count(*) FROM temp.upshift_probe").fetchone()[0]
            again = "INSERT INTO temp.upshift_probe SELECT * FROM temp.upshift_probe"
            without_it = self._counted(again)
            self._copy.execute(copy.blocking_sql.replace("CREATE INDEX ", "CREATE INDEX temp.", 1))
            with_it = self._counted(again)
        return max(with_it - 2 * without_it, 0.0) / max(2 * rows, 1)

    def size(self, index: Index) -> int | None:
        """The bytes of the pages that dropping it sets free."""
        query = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"
        before: int = self._copy.execute(query).fetchone()[0]
        with self.without(index):
            after: int = self._copy.execute(query).fetchone()[0]
        return after - before

    @contextmanager
    def _forgotten(self) -> Iterator[None]:
        self._copy.execute("SAVEPOINT trial")
        try:
            yield
        finally:
            self._copy.execute("ROLLBACK TO trial")
            self._copy.execute("RELEASE trial")

    def explain(self, sample: Sample) -> Plan:
        """Plan a SELECT and count its steps; the same plan of the same statement is counted once."""
        if not self.read(sample).is_select:
            raise ExplainRefusedError("on SQLite only SELECT is measured")
        try:
            rows = self._copy.execute(f"EXPLAIN QUERY PLAN {sample.sql}", sample.parameters or ()).fetchall()
            lines = tuple(_lines(rows))
            cost = self._measured.get((sample.sql, lines))
            if cost is None:
                cost = self._measured[sample.sql, lines] = self._steps(sample)
        except sqlite3.ProgrammingError as error:
            raise ExplainRefusedError("no sample parameters that fit the statement were kept") from error
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise ExplainRefusedError(str(error)) from error
        return Plan(cost, lines[:MAX_LINES], frozenset(_INDEX.findall("\n".join(lines))))

    def _steps(self, sample: Sample) -> float:
        self._copy.execute("PRAGMA query_only = ON")
        try:
            return self._counted(sample.sql, sample.parameters or ())
        finally:
            self._copy.execute("PRAGMA query_only = OFF")

    def _counted(self, sql: str, parameters: Any = ()) -> float:  # noqa: ANN401 - what sqlite3 takes
        count = 0

        def step() -> bool:
            nonlocal count
            count += _STEPS_AT_A_TIME
            return count >= MAX_STEPS

        self._copy.set_progress_handler(step, _STEPS_AT_A_TIME)
        try:
            for _ in self._copy.execute(sql, parameters):
                pass
        except sqlite3.OperationalError:
            if count < MAX_STEPS:
                raise
        finally:
            self._copy.set_progress_handler(None, 0)
        return float(max(count, _STEPS_AT_A_TIME))


def _lines(rows: list[tuple[int, int, int, str]]) -> Iterator[str]:
    """The plan's lines, indented below their parents (https://sqlite.org/eqp.html)."""
    depths = {0: 0}
    for node, parent, _, detail in rows:
        depth = depths.get(parent, 0)
        depths[node] = depth + 1
        yield "  " * depth + detail
