"""What the database knows of a table that bears on an index: columns, existing indexes, size, obstacles.

Names reach the database bound as parameters wherever it takes them so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from upshift.sql.indexes.index import IndexColumn, covers

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from upshift.sql.indexes.index import Columns


class TableName(NamedTuple):
    """A table as a statement names it.

    Attributes:
        name: the name as the database folds it (PostgreSQL folds unquoted names to lower case).
        schema: the schema where the statement gives one.
    """

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the database describes it.

    Attributes:
        name: its name, spelled as the database spells it.
        schema: the schema it lies in (`main` on SQLite).
        columns: the columns an index can have, from the folded name to the database's spelling.
        indexes: the key columns of every usable index that holds all rows.
        keys: the sets of columns that identify one row.
        distinct: the distinct values of a column, where the database knows them; negative ones are fractions
            of the rows, as in `pg_stats`.
        rows: rows, as far as the database knows; -1 where it does not.
        size: bytes of the table without its indexes; 0 on SQLite, which copies whole files.
        obstacle: why no index can be advised on it; "" where one can.
        secured: whether row-level security hides rows from this connection, so that a copy would differ.
    """

    name: str
    schema: str
    columns: Mapping[str, str]
    indexes: tuple[Columns, ...]
    rows: float
    keys: frozenset[frozenset[str]] = frozenset()
    distinct: Mapping[str, float] = field(default_factory=dict)
    size: int = 0
    obstacle: str = ""
    secured: bool = False

    def has_index(self, columns: Columns) -> bool:
        """Whether an existing index serves whatever an index on these columns would."""
        return any(covers(index, columns) for index in self.indexes)

    def has_key(self, columns: Iterable[str]) -> bool:
        """Whether equality on these columns leaves at most one row."""
        return any(key.issubset(columns) for key in self.keys)

    def values(self, column: str) -> float:
        """How many distinct values a column has; 0 where nobody knows."""
        known = self.distinct.get(column, 0.0)
        return known if known >= 0 else -known * max(self.rows, 1.0)


_TABLE = sa.text("""
    SELECT c.oid, c.relname, n.nspname, c.relkind::text, c.relhassubclass, c.reltuples,
           pg_table_size(c.oid) AS size, row_security_active(c.oid) AS secured
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass(:reference)
""")

# PostgreSQL 18 cannot index virtual generated columns ('v'); stored ones ('s') it can.
_COLUMNS = sa.text("""
    SELECT attname FROM pg_attribute
    WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped AND attgenerated::text <> 'v'
    ORDER BY attnum
""")

# In indoption bit 1 is DESC and bit 2 NULLS FIRST. The join drops keys that are expressions, so an index
# that has one comes out shorter than its indnkeyatts.
_INDEXES = sa.text(r"""
    SELECT i.indexrelid, i.indnkeyatts, i.indisunique, a.attname, o.opcname,
           i.indoption[k.n - 1] & 1 = 1 AS descending, i.indoption[k.n - 1] & 2 = 2 AS nulls_first
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
    CROSS JOIN LATERAL generate_series(1, i.indnkeyatts) AS k(n)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n - 1]
    JOIN pg_opclass o ON o.oid = i.indclass[k.n - 1]
    WHERE i.indrelid = :oid AND i.indisvalid AND i.indpred IS NULL
    ORDER BY i.indexrelid, k.n
""")

_DISTINCT = sa.text("""
    SELECT attname, n_distinct FROM pg_stats
    WHERE schemaname = :schema AND tablename = :table AND NOT inherited
""")

_OBSTACLES = {
    "p": "is partitioned, and PostgreSQL builds no index concurrently on a partitioned table",
    "v": "is a view",
    "m": "is a materialised view",
    "f": "is a foreign table",
}


def read_postgres_table(connection: sa.Connection, name: TableName) -> Table | None:
    """Describe a table of a PostgreSQL database; None where the name leads to none."""
    reference = ".".join(quoted(part) for part in (name.schema, name.name) if part)
    found = connection.execute(_TABLE, {"reference": reference}).one_or_none()
    if found is None:
        return None
    obstacle = _OBSTACLES.get(found.relkind, "")
    if not obstacle and found.relhassubclass:
        obstacle = "has tables that inherit from it"
    columns = connection.execute(_COLUMNS, {"oid": found.oid}).scalars()
    keys = connection.execute(_INDEXES, {"oid": found.oid})
    groups = [list(rows) for _, rows in groupby(keys, key=attrgetter("indexrelid"))]
    indexes = [rows for rows in groups if len(rows) == rows[0].indnkeyatts]
    distinct = connection.execute(_DISTINCT, {"schema": found.nspname, "table": found.relname})
    return Table(
        name=found.relname,
        schema=found.nspname,
        columns={column: column for column in columns},
        indexes=tuple(_columns(rows) for rows in indexes),
        rows=found.reltuples,
        keys=frozenset(frozenset(row.attname for row in rows) for rows in indexes if rows[0].indisunique),
        distinct={row.attname: row.n_distinct for row in distinct},
        size=found.size,
        obstacle=obstacle,
        secured=found.secured,
    )


def _columns(rows: Sequence[sa.Row[Any]]) -> Columns:
    return tuple(
        IndexColumn(
            row.attname,
            descending=row.descending,
            nulls_first=None if row.nulls_first == row.descending else row.nulls_first,
            operator_class="text_pattern_ops" if "pattern" in row.opcname else None,
        )
        for row in rows
    )


def read_sqlite_table(connection: sqlite3.Connection, name: TableName) -> Table | None:
    """Describe a table of an SQLite database; None where the name leads to none. Its rows are not counted."""
    if name.schema not in {None, "main"}:
        return None
    query = "SELECT name, type, sql FROM sqlite_master WHERE lower(name) = ? AND type IN ('table', 'view')"
    found = connection.execute(query, (name.name.lower(),)).fetchone()
    if found is None:
        return None
    spelled, kind, sql = found
    is_table = kind == "table" and not sql.upper().startswith("CREATE VIRTUAL")
    columns = connection.execute("SELECT name, pk FROM pragma_table_xinfo(?)", (spelled,)).fetchall()
    primary = [column for column, pk in columns if pk]
    indexes = list(_sqlite_indexes(connection, spelled, primary))
    return Table(
        name=spelled,
        schema="main",
        columns={column.lower(): column for column, _ in columns},
        indexes=tuple(index for index, _ in indexes),
        rows=-1,
        keys=frozenset(frozenset(column.name for column in index) for index, unique in indexes if unique),
        obstacle="" if is_table else "is a view or a virtual table",
    )


def _sqlite_indexes(
    connection: sqlite3.Connection, table: str, primary: list[str]
) -> Iterator[tuple[Columns, bool]]:
    """The columns of each index, and whether it is unique."""
    query = 'SELECT name, "unique", origin, partial FROM pragma_index_list(?)'
    indexes = connection.execute(query, (table,)).fetchall()
    if len(primary) == 1 and not any(origin == "pk" for _, _, origin, _ in indexes):
        yield (IndexColumn(primary[0]),), True  # INTEGER PRIMARY KEY: the table itself is the index
    for index, unique, _, partial in indexes:
        columns = sqlite_index_columns(connection, index)
        if columns and not partial:
            yield columns, bool(unique)


def sqlite_index_columns(connection: sqlite3.Connection, index: str) -> Columns | None:
    """The key columns of an SQLite index; None where one of them is an expression."""
    query = "SELECT name, desc FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno"
    columns = connection.execute(query, (index,)).fetchall()
    if not all(name for name, _ in columns):
        return None
    return tuple(IndexColumn(name, bool(descending)) for name, descending in columns)


def quoted(name: str) -> str:
    """Quote an identifier as both databases read it.

    Example:
        >>> print(quoted('24" screen'))
        "24"" screen"
    """
    return '"' + name.replace('"', '""') + '"'
