"""The keys of a database's indexes, as its catalogue tells them: columns, and expressions as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_INDEXES = 20_000
"""Indexes that are read of one database."""

_WORDS = re.compile(r"[A-Za-z_]\w*")
_TYPES = re.compile(r"::\s*\"?[\w.]+\"?(?:\s+varying|\s+precision)?")
_TRIGRAMS = ("gin_trgm_ops", "gist_trgm_ops")

_POSTGRES = sa.text("""
    SELECT c.relname AS table_name, i.indexrelid AS index_id, o.opcname AS operator_class,
           pg_get_indexdef(i.indexrelid, k.n, true) AS key
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL generate_series(1, i.indnkeyatts) AS k(n)
    JOIN pg_opclass o ON o.oid = i.indclass[k.n - 1]
    WHERE i.indisvalid AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    ORDER BY i.indexrelid, k.n
    LIMIT :limit
""")

_SQLITE = sa.text("""
    SELECT t.name AS table_name, i.name AS index_name, k.name AS key, s.sql
    FROM sqlite_master t
    JOIN pragma_index_list(t.name) i
    JOIN pragma_index_xinfo(i.name) k ON k.key
    LEFT JOIN sqlite_master s ON s.type = 'index' AND s.name = i.name
    WHERE t.type = 'table'
    ORDER BY t.name, i.name, k.seqno
    LIMIT :limit
""")

_SQLITE_ROWIDS = sa.text("""
    SELECT t.name AS table_name, c.name AS key FROM sqlite_master t JOIN pragma_table_info(t.name) c
    WHERE t.type = 'table' AND c.pk = 1 AND upper(c.type) = 'INTEGER'
    LIMIT :limit
""")


class IndexKeys(NamedTuple):
    """One index.

    Attributes:
        table: the table's name.
        keys: its keys in order: a column's name, or an expression's text.
        is_trigram: whether it serves LIKE with any pattern.
    """

    table: str
    keys: tuple[str, ...]
    is_trigram: bool = False

    def names(self, column: str) -> bool:
        """Whether one of the keys has the column in it."""
        return any(column.lower() in _words(key) for key in self.keys)

    def holds(self, expression: str) -> bool:
        """Whether one of the keys is the expression, as far as its words tell.

        Example:
            >>> IndexKeys("users", ("lower((email)::text)",)).holds("LOWER(email)")
            True
            >>> IndexKeys("users", ("email",)).holds("LOWER(email)")
            False
        """
        return any(_words(expression) <= _words(key) for key in self.keys)


def read_index_keys(engine: sa.Engine) -> tuple[IndexKeys, ...]:
    """Read the indexes of a PostgreSQL or SQLite database; of others none.

    Raises:
        sqlalchemy.exc.DBAPIError: the database does not answer, or refuses.
    """
    read = {"postgresql": _of_postgres, "sqlite": _of_sqlite}.get(engine.dialect.name)
    if read is None:
        return ()
    with engine.connect() as connection:
        return tuple(read(connection))


def _of_postgres(connection: sa.Connection) -> Iterator[IndexKeys]:
    keys: dict[int, list[sa.Row[tuple[str, int, str, str]]]] = {}
    for row in connection.execute(_POSTGRES, {"limit": MAX_INDEXES}):
        keys.setdefault(row.index_id, []).append(row)
    for rows in keys.values():
        is_trigram = any(row.operator_class in _TRIGRAMS for row in rows)
        yield IndexKeys(rows[0].table_name, tuple(row.key.strip('"') for row in rows), is_trigram)


def _of_sqlite(connection: sa.Connection) -> Iterator[IndexKeys]:
    keys: dict[tuple[str, str], list[str]] = {}
    for row in connection.execute(_SQLITE, {"limit": MAX_INDEXES}):
        # The catalogue has no text for each expression, only that of the whole index.
        keys.setdefault((row.table_name, row.index_name), []).append(row.key or row.sql or "")
    for (table, _), names in keys.items():
        yield IndexKeys(table, tuple(names))
    for row in connection.execute(_SQLITE_ROWIDS, {"limit": MAX_INDEXES}):
        yield IndexKeys(row.table_name, (row.key,))


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORDS.findall(_TYPES.sub("", text)))
