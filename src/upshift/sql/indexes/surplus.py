"""Indexes that a database would be better without: invalid ones, duplicates, and those that nothing uses.

What PostgreSQL counts is what one server counted since its statistics were reset. An index that the primary
never scans may serve a replica, which counts for itself, or the report of the month. So an index is called
unused only after a long enough time on this server; it has to be looked up on every replica before it goes.
Left alone are those that hold a rule besides serving reads: of a primary key or another constraint, unique
ones, those that a foreign key of another table leans on, and the replica identity.

Of two indexes where one's columns begin with the other's, the shorter one is the duplicate, unless it is
unique; of two equal ones the younger. https://www.postgresql.org/docs/current/monitoring-stats.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import sqlalchemy as sa

from upshift.errors import IndexAdviceError
from upshift.sql.catalog import quoted
from upshift.sql.engines import connected

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from upshift.sql.indexes.index import DialectName

DAYS = 14.0
"""Days of statistics after which an index that was never scanned is called unused."""

LEAST_BYTES = 2**20
"""Bytes of an unused index that is worth a word."""

Kind = Literal["unused", "duplicate", "invalid"]


@dataclass(frozen=True, slots=True)
class SurplusIndex:
    """An index that could be dropped.

    Attributes:
        dialect: the database it is in.
        kind: why.
        name: its name, unquoted.
        table: its table's name.
        schema: the schema of both; "main" on SQLite.
        definition: the `CREATE INDEX` that would make it again.
        size: its bytes; None where the database does not tell.
        reason: why in words, with the figures.
        instead: the index that serves in its place; "" where nothing needs to.
    """

    dialect: DialectName
    kind: Kind
    name: str
    table: str
    schema: str
    definition: str
    size: int | None
    reason: str
    instead: str = ""

    @property
    def drop_sql(self) -> str:
        """`DROP INDEX`, concurrently on PostgreSQL."""
        concurrently = "CONCURRENTLY " if self.dialect == "postgresql" else ""
        return f"DROP INDEX {concurrently}{quoted(self.schema)}.{quoted(self.name)}"


# A key's collation, operator class and direction are part of what it serves, so they are compared as text.
_INDEXES = sa.text("""
    SELECT c.oid, c.relname AS name, t.relname AS table, n.nspname AS schema, i.indisvalid AS is_valid,
           i.indisunique AS is_unique, am.amname AS method,
           i.indisprimary OR i.indisreplident OR i.indisexclusion OR EXISTS (
               SELECT FROM pg_constraint r WHERE r.conindid = i.indexrelid
           ) AS is_needed,
           pg_get_indexdef(c.oid) AS definition, pg_relation_size(c.oid) AS size,
           ARRAY(
               SELECT pg_get_indexdef(c.oid, k, true) || ' ' || i.indclass[k - 1] || ' '
                      || i.indcollation[k - 1] || ' ' || i.indoption[k - 1]
               FROM generate_series(1, i.indnkeyatts) k ORDER BY k
           ) AS keys,
           ARRAY(
               SELECT pg_get_indexdef(c.oid, k, true) FROM generate_series(i.indnkeyatts + 1, i.indnatts) k
           ) AS included,
           coalesce(pg_get_expr(i.indpred, i.indrelid), '') AS condition,
           coalesce(s.idx_scan, 0) AS scans,
           EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid) AS is_building
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am am ON am.oid = c.relam
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = c.oid
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg_temp%'
      AND c.relkind = 'i' AND NOT c.relispartition
    ORDER BY n.nspname, t.relname, c.oid
""")

# Statistics that were never reset are as old as the server's run, at most: a crash empties them.
_COUNTED_SINCE = sa.text("""
    SELECT extract(epoch FROM now() - greatest(
        coalesce(stats_reset, '-infinity'), pg_postmaster_start_time())) / 86400.0
    FROM pg_stat_database WHERE datname = current_database()
""")


def surplus_indexes(engine: sa.Engine, *, days: float = DAYS) -> tuple[SurplusIndex, ...]:
    """Return the indexes that a database would be better without, invalid ones first.

    SQLite counts no use and leaves no invalid index, so there only duplicates are found.

    Args:
        engine: a synchronous engine.
        days: the least time of statistics on which an index is called unused.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        IndexAdviceError: it is neither PostgreSQL nor SQLite, or would not tell of its indexes.
    """
    with connected(engine) as connection:
        match engine.dialect.name:
            case "postgresql":
                try:
                    rows = connection.execute(_INDEXES).all()
                    counted = float(connection.scalar(_COUNTED_SINCE) or 0.0)
                except sa.exc.DBAPIError as error:
                    if error.connection_invalidated:
                        raise
                    raise IndexAdviceError(f"the database's indexes cannot be read: {error.orig}") from error
                return tuple(_on_postgres(rows, counted, days))
            case "sqlite":
                driver: Any = connection.connection.driver_connection
                return tuple(_on_sqlite(driver))
            case name:
                raise IndexAdviceError(f"index advice knows PostgreSQL and SQLite, not {name}")


def _on_postgres(rows: Iterable[Any], counted: float, days: float) -> Iterator[SurplusIndex]:
    rows = [row for row in rows if not row.is_building]
    valid = [row for row in rows if row.is_valid]
    for row in rows:
        if not row.is_valid:
            yield _surplus(
                row, "invalid", "a build of it failed: every write keeps it up, and no plan can use it"
            )
    gone: set[int] = set()
    for row in valid:
        if not (row.is_needed or row.is_unique):
            better = next((other for other in valid if other.oid not in gone and _replaces(other, row)), None)
            if better is not None:
                gone.add(row.oid)
                yield _surplus(row, "duplicate", f"{better.name} serves whatever it serves", better.name)
    for row in valid:
        is_idle = row.scans == 0 and row.size >= LEAST_BYTES and counted >= days
        if is_idle and row.oid not in gone and not (row.is_needed or row.is_unique):
            yield _surplus(row, "unused", f"no plan used it on this server in {counted:,.0f} days")


def _replaces(other: Any, row: Any) -> bool:  # noqa: ANN401 - rows
    """Whether another index serves whatever one does; of equal ones, the older or the needed one."""
    same = ("schema", "table", "method", "condition")
    if other.oid == row.oid or any(getattr(other, each) != getattr(row, each) for each in same):
        return False
    if row.method != "btree" or other.keys == row.keys:
        if other.keys != row.keys or not set(row.included) <= set(other.included):
            return False
        is_more = set(other.included) > set(row.included) or other.is_needed or other.is_unique
        return is_more or other.oid < row.oid
    carried = {key.rsplit(" ", 3)[0] for key in other.keys} | set(other.included)
    return other.keys[: len(row.keys)] == row.keys and carried.issuperset(row.included)


def _surplus(row: Any, kind: Kind, reason: str, instead: str = "") -> SurplusIndex:  # noqa: ANN401 - a row
    return SurplusIndex(
        dialect="postgresql",
        kind=kind,
        name=row.name,
        table=row.table,
        schema=row.schema,
        definition=row.definition,
        size=row.size,
        reason=reason,
        instead=instead,
    )


def _on_sqlite(connection: sqlite3.Connection) -> Iterator[SurplusIndex]:
    indexes = list(_sqlite_indexes(connection))
    gone: set[str] = set()
    for place, index in enumerate(indexes):
        if index.is_unique:
            continue
        for other_place, other in enumerate(indexes):
            serves = other.table == index.table and other.keys[: len(index.keys)] == index.keys
            is_better = len(other.keys) > len(index.keys) or other.is_unique or other_place < place
            if other.name not in {index.name, *gone} and serves and is_better:
                gone.add(index.name)
                yield SurplusIndex(
                    dialect="sqlite",
                    kind="duplicate",
                    name=index.name,
                    table=index.table,
                    schema="main",
                    definition=index.definition,
                    size=None,
                    reason=f"{other.name} serves whatever it serves",
                    instead=other.name,
                )
                break


class _SqliteIndex(NamedTuple):
    name: str
    table: str
    definition: str
    keys: tuple[tuple[str, int, str], ...]
    is_unique: bool


def _sqlite_indexes(connection: sqlite3.Connection) -> Iterator[_SqliteIndex]:
    """The indexes that were made by CREATE INDEX, of columns only and of all rows."""
    query = """
        SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY rowid
    """
    for name, table, sql in connection.execute(query).fetchall():
        listed = 'SELECT "unique", partial FROM pragma_index_list(?) WHERE name = ?'
        is_unique, is_partial = connection.execute(listed, (table, name)).fetchone()
        keyed = 'SELECT name, "desc", coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno'
        keys = connection.execute(keyed, (name,)).fetchall()
        if not is_partial and all(column for column, _, _ in keys):
            yield _SqliteIndex(name, table, sql, tuple(keys), bool(is_unique))
