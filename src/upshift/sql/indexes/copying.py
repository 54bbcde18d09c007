"""Copies of tables to try indexes on, in temporary tables that a transaction's end removes.

A copy is a temporary table of the transaction that tries (`ON COMMIT DROP`). The server itself removes it
when that transaction ends, also when this process is killed or the connection cut: none is ever left behind.

The rows come through a second connection, which reads them with COPY and ends its transaction with each
table. The lock of a reader (ACCESS SHARE) is held while a table is read and no longer: an ALTER TABLE that is
waiting for it, and everybody who then waits behind that, waits for one table's reading and not for the whole
advice. With another driver than psycopg the transaction reads the tables itself, and holds that lock to its
end.

A table larger than allowed is sampled by blocks (`TABLESAMPLE SYSTEM`), always the same ones.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from upshift.sql.catalog import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.pool import PoolProxiedConnection

    from upshift.sql.catalog import Table

_RAW = {"no_parameters": True}
_LIMITS = "SET TRANSACTION READ ONLY; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '60s'"

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

# Its columns without defaults and generation, so that every value is copied as it is.
_COLUMNS = sa.text("""
    SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull, a.attcollation <> 0
           AND a.attcollation <> t.typcollation AS is_collated, quote_ident(cn.nspname) || '.' ||
           quote_ident(c.collname) AS collation, a.attstattarget AS target
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_collation c ON c.oid = a.attcollation
    LEFT JOIN pg_namespace cn ON cn.oid = c.collnamespace
    WHERE a.attrelid = to_regclass(:reference) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
""")


@contextmanager
def reader(engine: sa.Engine) -> Iterator[PoolProxiedConnection | None]:
    """A connection of its own for reading tables, beside the engine's pool, which may have but one.

    None with another driver than psycopg, which alone copies from one connection to another.
    """
    if engine.dialect.driver != "psycopg":
        yield None
        return
    pool = engine.pool.recreate()
    connection = pool.connect()
    try:
        yield connection
    finally:
        with suppress(Exception):  # the connection may be gone
            connection.invalidate()
        pool.dispose()


def copy_table(
    source: PoolProxiedConnection | None, connection: sa.Connection, table: Table, fraction: float
) -> None:
    """Copy a table, its indexes included, into a temporary one of the same name.

    Args:
        source: see `reader`.
        connection: in a transaction; the copy is its own.
        table: the table.
        fraction: of its rows to copy; 1.0 for all.

    Raises:
        sqlalchemy.exc.DBAPIError: the database refused something on `connection`.
        Exception: of the driver's, where it refused something on `source`.
    """
    real, copy = f"{quoted(table.schema)}.{quoted(table.name)}", f"pg_temp.{quoted(table.name)}"
    columns = connection.execute(_COLUMNS, {"reference": real}).all()
    definition = ", ".join(map(_column, columns))
    _run(connection, f"CREATE TEMPORARY TABLE {copy} ({definition}) ON COMMIT DROP")
    for column in columns:
        if column.target is not None and column.target >= 0:
            target = f"ALTER COLUMN {quoted(column.attname)} SET STATISTICS {column.target:d}"
            _run(connection, f"ALTER TABLE {copy} {target}")
    names = ", ".join(quoted(column.attname) for column in columns)
    sampled = f" TABLESAMPLE SYSTEM ({fraction * 100:.6f}) REPEATABLE (1)" if fraction < 1 else ""
    query = f"SELECT {names} FROM {real}{sampled}"  # noqa: S608 - the names are quoted
    if source is None:
        _run(connection, f"INSERT INTO {copy} {query}")
    else:
        _stream(source, connection, query, copy)
    # Indexes come last, since filling an indexed table takes twice as long.
    for index in connection.execute(_DEFINITIONS, {"schema": table.schema, "table": table.name}).all():
        unique = "UNIQUE " if index.indisunique else ""
        _run(connection, f"CREATE {unique}INDEX {quoted(index.relname)} ON {copy}{index.definition}")
    _run(connection, f"ANALYZE {copy}")


def _column(column: sa.Row[Any]) -> str:
    collated = f" COLLATE {column.collation}" if column.is_collated else ""
    return f"{quoted(column.attname)} {column.type}{collated}" + (" NOT NULL" if column.attnotnull else "")


def _stream(source: PoolProxiedConnection, connection: sa.Connection, query: str, copy: str) -> None:
    reading: Any = source.driver_connection
    writing: Any = connection.connection.driver_connection
    try:
        with reading.cursor() as reads, writing.cursor() as writes:
            reads.execute(_LIMITS)
            with (
                reads.copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as rows,
                # Frozen rows count as seen by all, as most of the real table's do: scans of indexes alone
                # would look up each row in the copy otherwise.
                writes.copy(f"COPY {copy} FROM STDIN (FORMAT binary, FREEZE)") as into,
            ):
                for block in rows:
                    into.write(block)
    finally:
        reading.rollback()


def _run(connection: sa.Connection, sql: str) -> None:
    connection.exec_driver_sql(sql, execution_options=_RAW)
