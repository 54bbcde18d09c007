"""Does maintenance on PostgreSQL, one piece at a time, each in a state that can be told.

- One at a time in a database: the session holds the lock that index builds hold (`upshift.sql.exclusive`).
- A `lock_timeout` ends the wait for sessions that hold a table, and a `statement_timeout` the work itself.
  VACUUM and ANALYZE that are ended leave nothing; what they have done so far stays done.
- REINDEX CONCURRENTLY that is ended leaves an invalid index, `…_ccnew` or `…_ccold`
  (https://www.postgresql.org/docs/current/sql-reindex.html). So the invalid indexes of the table are noted
  before, and those that are there afterwards are dropped; also after Ctrl-C, and when the connection broke.
  A drop waits for transactions that have written to the table, which hinders nobody else. Where one does not
  end, and after a SIGKILL, the remains stay, and the next `upshift db` finds them.
- VACUUM and ANALYZE of a table that is another user's do nothing but warn, so that is asked before.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from upshift.errors import DatabaseUnavailableError, MaintenanceError, UpshiftError
from upshift.sql.catalog import quoted
from upshift.sql.exclusive import exclusive_session
from upshift.sql.maintenance.advice import Work, is_leftover
from upshift.sql.plans.explain import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

STATEMENT_SECONDS = 3_600.0
"""How long one piece of work may take where nothing else is asked for."""

LOCK_SECONDS = 5.0
"""How long it may wait for a table."""

POLL_SECONDS = 0.5
"""How often progress is looked at."""

CLEANING_SECONDS = 15.0
"""How long dropping what an interrupted REINDEX left may wait for transactions that write."""

_RAW = {"no_parameters": True}
_REASONS = {
    "55P03": "another session holds the table",  # lock_not_available
    "57014": "it took too long and was ended",  # query_canceled
}

_NOTHING = "; nothing is left half done"

_INVALID = sa.text("""
    SELECT c.oid, n.nspname, c.relname
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE i.indrelid = to_regclass(:table) AND NOT i.indisvalid
""")

_PROGRESS = sa.text("""
    SELECT phase, heap_blks_scanned AS done, heap_blks_total AS whole
    FROM pg_stat_progress_vacuum WHERE pid = :pid
    UNION ALL
    SELECT phase, sample_blks_scanned, sample_blks_total FROM pg_stat_progress_analyze WHERE pid = :pid
    UNION ALL
    SELECT phase, greatest(blocks_done, tuples_done), greatest(blocks_total, tuples_total)
    FROM pg_stat_progress_create_index WHERE pid = :pid
""")


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one piece of work.

    Attributes:
        work: what was to be done.
        did: "done" or "failed".
        reason: why it failed; "" where it did not.
    """

    work: Work
    did: Literal["done", "failed"]
    reason: str = ""


def do_postgres(
    engine: sa.Engine,
    works: Iterable[Work],
    *,
    statement_seconds: float = STATEMENT_SECONDS,
    lock_seconds: float = LOCK_SECONDS,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Done]:
    """Do maintenance, and yield each outcome as it comes. What fails does not stop the others.

    Args:
        engine: a synchronous engine for a PostgreSQL database.
        works: what to do.
        statement_seconds: how long each piece may take.
        lock_seconds: how long each may wait for its table.
        on_progress: told what is being done and how far it is; called from another thread.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        MaintenanceError: another such session is at work; or it was interrupted and could not clean up.
    """
    limits = {"statement_timeout": statement_seconds, "lock_timeout": lock_seconds}
    settings = "; ".join(f"SET {name} = {seconds * 1e3:.0f}" for name, seconds in limits.items())
    for work in works:
        on_progress(work.sql)
        yield _do(engine, work, settings, on_progress)


def _do(engine: sa.Engine, work: Work, settings: str, on_progress: Callable[[str], None]) -> Done:
    if not work.may_do:
        return Done(work, "failed", "only its owner, or who has MAINTAIN on it, may")
    before: frozenset[int] = frozenset()
    is_begun = False
    try:
        with exclusive_session(engine, settings) as connection:
            before = frozenset(oid for oid, _, _ in _invalid(connection, work))
            is_begun = True
            with _watched(engine, connection, work, on_progress):
                connection.exec_driver_sql(work.sql, execution_options=_RAW)
    except sa.exc.DBAPIError as error:
        code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""
        left = _clean(engine, work, before) if is_begun else ""
        return Done(work, "failed", _REASONS.get(code, first_line(error)) + (left or _NOTHING))
    except (KeyboardInterrupt, DatabaseUnavailableError) as error:
        left = _clean(engine, work, before) if is_begun else ""
        if left:
            raise MaintenanceError(f"{work.sql} was interrupted{left}") from error
        raise
    return Done(work, "done")


def _invalid(connection: sa.Connection, work: Work) -> list[tuple[int, str, str]]:
    table = ".".join(quoted(part) for part in (work.schema, work.table) if part)
    return [(row.oid, row.nspname, row.relname) for row in connection.execute(_INVALID, {"table": table})]


def _clean(engine: sa.Engine, work: Work, before: frozenset[int]) -> str:
    """Drop what an interrupted REINDEX left, once its session is gone; return what is then left to do."""
    if work.verb != "reindex" or not work.concurrently:
        return ""
    limit = f"SET statement_timeout = 0; SET lock_timeout = {CLEANING_SECONDS * 1e3:.0f}"
    try:
        with exclusive_session(engine, limit) as connection:
            for oid, schema, name in _invalid(connection, work):
                if oid not in before and is_leftover(name):
                    drop = f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(schema)}.{quoted(name)}"
                    connection.exec_driver_sql(drop, execution_options=_RAW)
    except (UpshiftError, sa.exc.DBAPIError) as error:
        return f"; it left an invalid index ({first_line(error)}): `upshift db` finds and drops it"
    except KeyboardInterrupt as error:
        raise MaintenanceError(
            f"{work.sql} was interrupted twice and may have left an invalid index: `upshift db` finds it"
        ) from error
    return ""


@contextmanager
def _watched(
    engine: sa.Engine, connection: sa.Connection, work: Work, on_progress: Callable[[str], None]
) -> Iterator[None]:
    """Tell how far a session's work is while a `with` block lasts, from a thread and a session of its own."""
    pid = connection.scalar(sa.select(sa.func.pg_backend_pid()))
    is_over = Event()

    def watch() -> None:
        # Nobody's work fails for want of a progress line.
        with suppress(sa.exc.SQLAlchemyError, OSError), engine.connect() as beside:
            while not is_over.wait(POLL_SECONDS):
                row = beside.execute(_PROGRESS, {"pid": pid}).first()
                beside.rollback()
                if row is not None:
                    on_progress(f"{work.sql}: {row.phase}{_share(row.done, row.whole)}")

    thread = Thread(target=watch, name="upshift-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(2 * POLL_SECONDS)


def _share(done: int | None, whole: int | None) -> str:
    return f" {min(done / whole, 1):.0%}" if done is not None and whole else ""


_LEAVES = sa.text("""
    SELECT n.nspname, c.relname
    FROM pg_partition_tree(to_regclass(:table)) p
    JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE p.isleaf AND c.relkind = 'r'
    ORDER BY 1, 2
""")


def leaves(connection: sa.Connection, schema: str, table: str) -> list[tuple[str, str]]:
    """Return schema and name of the partitions that hold a partitioned table's rows.

    Args:
        connection: to a PostgreSQL database.
        schema: the partitioned table's schema.
        table: its name.
    """
    name = f"{quoted(schema)}.{quoted(table)}"
    return [(row.nspname, row.relname) for row in connection.execute(_LEAVES, {"table": name})]
