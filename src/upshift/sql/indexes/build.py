"""Builds advised indexes on the application's database, and removes those that Upshift built.

On PostgreSQL an index is built CONCURRENTLY: no writer waits, but a build that is interrupted leaves an
invalid index behind (https://www.postgresql.org/docs/current/sql-createindex.html). What this module keeps:

- One build at a time in a database, by the lock that maintenance holds too (`upshift.sql.exclusive`).
- A build that fails, or is interrupted by Ctrl-C, removes its unfinished index before it reports.
- After a SIGKILL the server ends the build itself, as it looks whether the client is still there. The
  invalid index that remains is replaced by the next `apply_indexes`, or removed by `undo_indexes`.
- What was built is marked by a comment, `upshift: …`. `undo_indexes` removes what is so marked, and invalid
  indexes with names of Upshift's. An index with such a name that a migration made stays.

SQLite builds an index in one transaction and has no comments; `upshift.sql.indexes.built` tells how what was
built is known again.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import sqlalchemy as sa

from upshift.errors import DatabaseUnavailableError, IndexAdviceError, UpshiftError
from upshift.sql.catalog import (
    TableName,
    quoted,
    read_postgres_table,
    read_sqlite_table,
)
from upshift.sql.engines import connected
from upshift.sql.exclusive import exclusive_session
from upshift.sql.indexes.built import built_on_postgres, built_on_sqlite
from upshift.sql.plans.explain import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from upshift.sql.indexes.index import Index

_MARK = "upshift: advised and built by `upshift index apply`"
_DUPLICATE = "42P07"  # SQLSTATE duplicate_table, which PostgreSQL also gives for indexes
_HINTS = {"55P03": " (a transaction of another session was open for too long)"}  # lock_not_available
_RAW = {"no_parameters": True}

# A build may take hours, so no statement_timeout of the role's may end it. The lock_timeout ends the wait for
# other sessions' long transactions, which hinders nobody but this build.
_SETTINGS = "SET statement_timeout = 0; SET lock_timeout = '60s'"
_CLEANING = "SET statement_timeout = 0; SET lock_timeout = '5s'"

_STATE = sa.text("""
    SELECT i.indisvalid AS is_valid,
           coalesce(obj_description(i.indexrelid, 'pg_class') LIKE 'upshift:%', false) AS is_marked,
           EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
               AS is_building
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relname = :name AND i.indrelid = to_regclass(:table)
""")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one index.

    Attributes:
        name: the index's name.
        did: "built"; "kept", where an index that serves as well was there already; "removed"; or "failed".
        reason: why it failed; "" where it did not.
    """

    name: str
    did: Literal["built", "kept", "removed", "failed"]
    reason: str = ""


def apply_indexes(
    engine: sa.Engine,
    indexes: Iterable[Index],
    *,
    on_progress: Callable[[str], None] = lambda _: None,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Build indexes that are not there yet, one after another, concurrently on PostgreSQL.

    Args:
        engine: a synchronous engine for the database that the indexes are for.
        indexes: what to build. One that fails is reported and does not stop the others.
        on_progress: told what is being done, in a few words.
        on_outcome: told each outcome as it comes, for Ctrl-C may take the list.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        IndexAdviceError: an index is for another kind of database, or another build is going on; or a build
            was interrupted and left something.
    """
    indexes = list(dict.fromkeys(indexes))
    for index in indexes:
        if index.dialect != engine.dialect.name:
            raise IndexAdviceError(f"{index.name} is for {index.dialect}, and this is {engine.dialect.name}")
    build = _build_postgres if engine.dialect.name == "postgresql" else _build_sqlite
    outcomes = []
    for index in indexes:
        on_progress(f"building {index.name}")
        outcomes.append(build(engine, index))
        on_outcome(outcomes[-1])
    return outcomes


def undo_indexes(
    engine: sa.Engine,
    *,
    on_progress: Callable[[str], None] = lambda _: None,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Remove the indexes that Upshift built, and no others.

    Args:
        engine: a synchronous engine.
        on_progress: told what is being done, in a few words.
        on_outcome: told each outcome as it comes.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        IndexAdviceError: the database is neither PostgreSQL nor SQLite, or a build is going on.
    """
    match engine.dialect.name:
        case "postgresql":
            removals = _undo_postgres(engine, on_progress)
        case "sqlite":
            removals = _undo_sqlite(engine, on_progress)
        case name:
            raise IndexAdviceError(f"indexes are built on PostgreSQL and SQLite, not {name}")
    outcomes = []
    for outcome in removals:
        outcomes.append(outcome)
        on_outcome(outcome)
    return outcomes


def _build_postgres(engine: sa.Engine, index: Index) -> Outcome:
    is_begun = False
    try:
        with exclusive_session(engine, _SETTINGS) as connection:
            table = read_postgres_table(connection, TableName(index.table, index.schema))
            if table and table.has_index(index):
                return Outcome(index.name, "kept")
            state = _state(connection, index)
            if state and state.is_building:
                return Outcome(index.name, "failed", "another session is building it")
            is_begun = True
            if state and not state.is_valid:
                connection.exec_driver_sql(index.undo_sql, execution_options=_RAW)
            connection.exec_driver_sql(index.create_sql, execution_options=_RAW)
            _mark(connection, index)
            if index.is_computed:  # PostgreSQL keeps statistics of its values too, from the next ANALYZE on
                connection.exec_driver_sql(f"ANALYZE {_table(index)}", execution_options=_RAW)
    except sa.exc.DBAPIError as error:
        code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        hint = _HINTS.get(code or "", "")
        left = _remove_unfinished(engine, index) if is_begun and code != _DUPLICATE else ""
        return Outcome(index.name, "failed", first_line(error) + hint + left)
    except (KeyboardInterrupt, DatabaseUnavailableError) as error:
        left = _remove_unfinished(engine, index) if is_begun else ""
        if left:
            raise IndexAdviceError(f"building was interrupted{left}") from error
        raise
    return Outcome(index.name, "built")


def _state(connection: sa.Connection, index: Index) -> sa.Row[Any] | None:
    return connection.execute(_STATE, {"name": index.name, "table": _table(index)}).one_or_none()


def _table(index: Index) -> str:
    return ".".join(quoted(part) for part in index.target if part)


def _mark(connection: sa.Connection, index: Index) -> None:
    name = ".".join(quoted(part) for part in (index.schema, index.name) if part)
    connection.exec_driver_sql(f"COMMENT ON INDEX {name} IS '{_MARK}'", execution_options=_RAW)


def _remove_unfinished(engine: sa.Engine, index: Index) -> str:
    """Remove what an interrupted build left, once its session is gone; return what is then left to do."""
    try:
        with exclusive_session(engine, _CLEANING) as connection:
            state = _state(connection, index)
            if state and not state.is_marked:
                connection.exec_driver_sql(index.undo_sql, execution_options=_RAW)
    except (UpshiftError, sa.exc.DBAPIError) as error:
        return _unfinished(index, first_line(error))
    except KeyboardInterrupt as error:
        raise IndexAdviceError(
            f"building was interrupted{_unfinished(index, 'interrupted again')}"
        ) from error
    return ""


def _unfinished(index: Index, reason: str) -> str:
    return f"; {index.name} is unfinished ({reason}): `upshift index apply --undo` removes it later"


def _undo_postgres(engine: sa.Engine, on_progress: Callable[[str], None]) -> Iterator[Outcome]:
    with exclusive_session(engine, _SETTINGS) as connection:
        for schema, name in [(each.schema, each.name) for each in built_on_postgres(connection)]:
            on_progress(f"removing {name}")
            try:
                sql = f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(schema)}.{quoted(name)}"
                connection.exec_driver_sql(sql, execution_options=_RAW)
            except sa.exc.DBAPIError as error:
                yield Outcome(name, "failed", first_line(error))
            else:
                yield Outcome(name, "removed")


def _build_sqlite(engine: sa.Engine, index: Index) -> Outcome:
    try:
        with connected(engine) as connection:
            table = read_sqlite_table(_driver(connection), TableName(index.table, index.schema))
            if table and table.has_index(index):
                return Outcome(index.name, "kept")
            connection.exec_driver_sql(index.create_sql)
            connection.commit()
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        return Outcome(index.name, "failed", first_line(error))
    return Outcome(index.name, "built")


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def _undo_sqlite(engine: sa.Engine, on_progress: Callable[[str], None]) -> Iterator[Outcome]:
    with connected(engine) as connection:
        for name in [each.name for each in built_on_sqlite(_driver(connection))]:
            on_progress(f"removing {name}")
            try:
                connection.exec_driver_sql(f"DROP INDEX {quoted(name)}")
                connection.commit()
            except sa.exc.DBAPIError as error:
                yield Outcome(name, "failed", first_line(error))
            else:
                yield Outcome(name, "removed")
