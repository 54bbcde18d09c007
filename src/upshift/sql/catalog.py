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

    from upshift.sql.indexes.index import Columns, Index


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
        names: the names of its usable indexes of any kind.
        types: the types of columns, as `pg_type` names them, an array's with `_` before; empty on SQLite.
        common: for a column, how often its most common values come, as fractions of the rows by the value's
            text; where the database knows.
        nulls: the fraction of NULLs in a column, likewise.
        widths: the bytes of a column's value, on average, likewise.
        has_trigrams: whether the operator class `gin_trgm_ops` of pg_trgm can be used.
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
    names: frozenset[str] = frozenset()
    types: Mapping[str, str] = field(default_factory=dict)
    common: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    nulls: Mapping[str, float] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)
    has_trigrams: bool = False

    def has_index(self, index: Index) -> bool:
        """Whether an existing index serves whatever this one would."""
        if index.is_plain:
            return any(covers(existing, index.columns) for existing in self.indexes)
        return index.name in self.names  # the name follows from what it is

    def has_key(self, columns: Iterable[str]) -> bool:
        """Whether equality on these columns leaves at most one row."""
        return any(key.issubset(columns) for key in self.keys)

    def values(self, column: str) -> float:
        """How many distinct values a column has; 0 where nobody knows."""
        known = self.distinct.get(column, 0.0)
        return known if known >= 0 else -known * max(self.rows, 1.0)


_TABLE = sa.text("""
    SELECT c.oid, c.relname, n.nspname, c.relkind::text, c.relhassubclass, c.reltuples,
           pg_table_size(c.oid) AS size, row_security_active(c.oid) AS secured,
           EXISTS (SELECT FROM pg_opclass WHERE opcname = 'gin_trgm_ops' AND pg_opclass_is_visible(oid))
               AS has_trigrams
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass(:reference)
""")

# PostgreSQL 18 cannot index virtual generated columns ('v'); stored ones ('s') it can.
_COLUMNS = sa.text("""
    SELECT a.attname, t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated::text <> 'v'
    ORDER BY a.attnum
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

_NAMES = sa.text("""
    SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = :oid AND i.indisvalid
""")

# The values are of the column's type, which only its text form tells without knowing the type.
_STATISTICS = sa.text("""
    SELECT attname, n_distinct, null_frac, avg_width,
           most_common_vals::text::text[] AS common, most_common_freqs AS fractions
    FROM pg_stats
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
    columns = connection.execute(_COLUMNS, {"oid": found.oid}).all()
    keys = connection.execute(_INDEXES, {"oid": found.oid})
    groups = [list(rows) for _, rows in groupby(keys, key=attrgetter("indexrelid"))]
    indexes = [rows for rows in groups if len(rows) == rows[0].indnkeyatts]
    statistics = connection.execute(_STATISTICS, {"schema": found.nspname, "table": found.relname}).all()
    return Table(
        name=found.relname,
        schema=found.nspname,
        columns={column.attname: column.attname for column in columns},
        indexes=tuple(_columns(rows) for rows in indexes),
        rows=found.reltuples,
        keys=frozenset(frozenset(row.attname for row in rows) for rows in indexes if rows[0].indisunique),
        distinct={row.attname: row.n_distinct for row in statistics},
        size=found.size,
        obstacle=obstacle,
        secured=found.secured,
        names=frozenset(connection.execute(_NAMES, {"oid": found.oid}).scalars()),
        types={column.attname: column.typname for column in columns},
        common={
            row.attname: dict(zip(row.common, row.fractions, strict=False))
            for row in statistics
            if row.common and row.fractions
        },
        nulls={row.attname: row.null_frac for row in statistics},
        widths={row.attname: row.avg_width for row in statistics},
        has_trigrams=found.has_trigrams,
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
        names=frozenset(
            index for (index,) in connection.execute("SELECT name FROM pragma_index_list(?)", (spelled,))
        ),
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
