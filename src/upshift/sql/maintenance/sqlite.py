"""Maintenance of an SQLite file: what it needs, and doing it.

ANALYZE, VACUUM and REINDEX are transactions, so one that is ended leaves the file as it was. They need the
file's write lock, for which they wait no longer than they are told. What takes too long is ended through the
progress handler (https://sqlite.org/c3ref/progress_handler.html), and so is what Ctrl-C interrupts: without
it, Python would hear of that only when the statement is done.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, cast

from upshift.errors import MaintenanceError
from upshift.sql.catalog import quoted
from upshift.sql.engines import connected
from upshift.sql.maintenance.advice import Work
from upshift.sql.maintenance.work import LOCK_SECONDS, STATEMENT_SECONDS, Done

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import sqlalchemy as sa

FREE_BYTES = 2**20
"""Bytes in unused pages from which on they matter."""

FREE_SHARE = 0.25
"""The part of the file that unused pages may take."""

_STEPS = 1_000
_TABLES = """
    SELECT name FROM sqlite_master
    WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name
"""


def advised_sqlite(engine: sa.Engine) -> tuple[Work, ...]:
    """Return what an SQLite file needs.

    Raises:
        DatabaseUnavailableError: it cannot be opened.
        MaintenanceError: it cannot be read.
    """
    with connected(engine) as connection:
        driver = cast("sqlite3.Connection", connection.connection.driver_connection)
        try:
            return tuple(_advised(driver))
        except sqlite3.Error as error:
            raise MaintenanceError(f"the database cannot be read: {error}") from error


def tables_of(engine: sa.Engine) -> list[str]:
    """Return the names of an SQLite file's tables.

    Raises:
        DatabaseUnavailableError: it cannot be opened.
        MaintenanceError: it cannot be read.
    """
    with connected(engine) as connection:
        driver = cast("sqlite3.Connection", connection.connection.driver_connection)
        try:
            return [name for (name,) in driver.execute(_TABLES)]
        except sqlite3.Error as error:
            raise MaintenanceError(f"the database cannot be read: {error}") from error


def _advised(driver: sqlite3.Connection) -> Iterator[Work]:
    (pages,) = driver.execute("PRAGMA page_count").fetchone()
    (free,) = driver.execute("PRAGMA freelist_count").fetchone()
    (size,) = driver.execute("PRAGMA page_size").fetchone()
    if free * size >= FREE_BYTES and free >= pages * FREE_SHARE:
        reason = f"{free * size / 2**20:,.0f} of {pages * size / 2**20:,.0f} MB are unused pages"
        yield Work(verb="vacuum", reason=reason)
    known = set()
    if driver.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'").fetchone():
        known = {table for (table,) in driver.execute("SELECT DISTINCT tbl FROM sqlite_stat1")}
    indexed = "SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'index' ORDER BY 1"
    for (table,) in driver.execute(indexed).fetchall():
        first = driver.execute(f"SELECT 1 FROM {quoted(table)} LIMIT 1").fetchone()  # noqa: S608 - quoted
        if table not in known and first:
            yield Work(verb="analyze", table=table, reason="it was never analysed")


def sql_of(work: Work) -> str:
    """The statement that does a piece of work on SQLite.

    Example:
        >>> sql_of(Work(verb="vacuum")), sql_of(Work(verb="analyze", table="t"))
        ('VACUUM', 'ANALYZE "t"')
    """
    if work.verb == "vacuum":
        return "VACUUM"  # there is none of a single table
    return f"{work.verb.upper()} {work.target}".rstrip()


def do_sqlite(
    engine: sa.Engine,
    works: Iterable[Work],
    *,
    statement_seconds: float = STATEMENT_SECONDS,
    lock_seconds: float = LOCK_SECONDS,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Done]:
    """Do maintenance on an SQLite file, and yield each outcome as it comes.

    Args:
        engine: a synchronous engine on Python's own driver.
        works: what to do.
        statement_seconds: how long each piece may take.
        lock_seconds: how long each may wait for another process that writes.
        on_progress: told what is being done.

    Raises:
        DatabaseUnavailableError: the file cannot be opened.
    """
    for work in works:
        on_progress(sql_of(work))
        with connected(engine) as connection:
            driver = connection.connection.driver_connection
            if not isinstance(driver, sqlite3.Connection):
                raise MaintenanceError("maintenance of SQLite needs Python's own sqlite3 driver")
            yield _do(driver, work, statement_seconds, lock_seconds)


def _do(driver: sqlite3.Connection, work: Work, statement_seconds: float, lock_seconds: float) -> Done:
    deadline = time.monotonic() + statement_seconds
    is_interrupted = False

    def is_to_end() -> bool:
        """Whether the statement is to end; an exception in here would be lost."""
        nonlocal is_interrupted
        try:
            return time.monotonic() > deadline
        except KeyboardInterrupt:
            is_interrupted = True
            return True

    driver.isolation_level = None
    driver.execute(f"PRAGMA busy_timeout = {lock_seconds * 1e3:.0f}")
    driver.set_progress_handler(is_to_end, _STEPS)
    try:
        driver.execute(sql_of(work)).fetchall()
        if work.verb == "analyze" and not work.table:
            driver.execute("PRAGMA optimize")
    except sqlite3.Error as error:
        if is_interrupted:
            raise KeyboardInterrupt from error
        if time.monotonic() > deadline and "interrupted" in str(error):
            return Done(work, "failed", "it took too long and was ended; nothing was changed")
        hint = ": another process writes; nothing was changed" if "locked" in str(error) else ""
        return Done(work, "failed", f"{error}{hint}")
    finally:
        driver.set_progress_handler(None, 0)
    return Done(work, "done")
