"""The indexes that Upshift built in a database, known again.

On PostgreSQL by their comment, or, where a build failed before it, by their name and being invalid. SQLite
has no comments. There the name tells: it follows from table and columns (`Index.name`), so an index that
merely has a similar name is told apart; of one with expressions or a condition only the form of the name is
seen.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from upshift.errors import IndexAdviceError
from upshift.sql.catalog import sqlite_index_columns
from upshift.sql.engines import connected
from upshift.sql.indexes.index import NAME_PREFIX, Index

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(rf"{NAME_PREFIX}.*_[0-9a-f]{{8}}")

_OURS = sa.text(r"""
    SELECT n.nspname AS schema, c.relname AS name, t.relname AS table, pg_relation_size(c.oid) AS size,
           coalesce(s.idx_scan, 0) AS scans, i.indisvalid AS is_valid
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = c.oid
    WHERE c.relname ~ '^upshift_.*_[0-9a-f]{8}$'
      AND (NOT i.indisvalid OR obj_description(i.indexrelid, 'pg_class') LIKE 'upshift:%')
      AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
    ORDER BY 1, 2
""")


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """An index that Upshift built.

    Attributes:
        name: its name.
        table: its table's name.
        schema: the schema of both; "main" on SQLite.
        size: its bytes; None where the database does not tell.
        scans: how often plans used it since this server's statistics were reset; None on SQLite.
        is_valid: whether its build came to an end.
    """

    name: str
    table: str
    schema: str
    size: int | None = None
    scans: int | None = None
    is_valid: bool = True


def built_indexes(engine: sa.Engine) -> list[BuiltIndex]:
    """Return the indexes that Upshift built in a database, by schema and name.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        IndexAdviceError: it is neither PostgreSQL nor SQLite.
    """
    with connected(engine) as connection:
        match engine.dialect.name:
            case "postgresql":
                return built_on_postgres(connection)
            case "sqlite":
                driver: Any = connection.connection.driver_connection
                return built_on_sqlite(driver)
            case name:
                raise IndexAdviceError(f"indexes are built on PostgreSQL and SQLite, not {name}")


def built_on_postgres(connection: sa.Connection) -> list[BuiltIndex]:
    """See `built_indexes`."""
    return [BuiltIndex(**row._mapping) for row in connection.execute(_OURS)]


def built_on_sqlite(connection: sqlite3.Connection) -> list[BuiltIndex]:
    """See `built_indexes`; raises IndexAdviceError where the database cannot be read."""
    query = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND name LIKE ? ORDER BY name"
    try:
        alike = connection.execute(query, (NAME_PREFIX + "%",)).fetchall()
        return list(_ours(connection, alike))
    except sqlite3.Error as error:
        raise IndexAdviceError(f"the database's indexes cannot be read: {error}") from error


def _ours(connection: sqlite3.Connection, alike: list[tuple[str, str]]) -> Iterator[BuiltIndex]:
    for name, table in alike:
        columns = sqlite_index_columns(connection, name)
        (is_partial,) = connection.execute(
            "SELECT partial FROM pragma_index_list(?) WHERE name = ?", (table, name)
        ).fetchone()
        is_plain = columns and not is_partial
        if Index("sqlite", table, columns).name == name if columns and is_plain else _NAME.fullmatch(name):
            yield BuiltIndex(name, table, "main")
