"""What PostgreSQL knows of how its tables are kept: dead rows, statistics, age, bloat; and of their indexes.

Only catalogs and statistics are read, so no table is locked and no lock waited for. Sizes are those of the
last VACUUM or ANALYZE (`pg_class.relpages`), which is what estimates of bloat need anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from upshift.sql.maintenance.bloat import INDEX_BLOAT, TABLE_BLOAT, measured_bloat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

MAX_TABLES = 500
"""Tables that are looked at, the largest."""

MAX_MEASURED = 10
"""Tables whose bloat is measured where `pgstattuple` is installed; it reads what VACUUM has not."""

Kind = Literal["table", "materialised view", "partitioned table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexHealth:
    """A B-tree index.

    Attributes:
        name: the index; its schema is the table's.
        size: bytes.
        bloat: bytes that a fresh index would not need, as estimated; None where nobody can tell.
        is_valid: whether it is complete, or being built; an interrupted build leaves one that is neither.
    """

    name: str
    size: int
    bloat: int | None
    is_valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TableHealth:
    """A table and how it is kept.

    Attributes:
        schema: its schema.
        name: the table.
        kind: what it is; a partitioned table has no rows of its own.
        size: bytes, with what lies in its TOAST table.
        live_rows: rows, as the statistics count them.
        dead_rows: versions of rows that nobody sees, and VACUUM has not removed.
        modified_rows: rows written since it was analysed.
        vacuumed_at: when it was last vacuumed, by hand or by autovacuum; None for never.
        analyzed_at: when it was last analysed, likewise.
        age: transactions since its oldest row; None where it holds none.
        max_age: the age at which autovacuum freezes it whatever else it does.
        bloat: bytes that a fresh table with its fillfactor would not need; None where nobody can tell.
        is_measured: whether `pgstattuple` measured that, and not an estimate.
        may_maintain: whether this user may vacuum and analyse it.
        indexes: its B-tree indexes.
    """

    schema: str
    name: str
    kind: Kind
    size: int
    live_rows: int
    dead_rows: int
    modified_rows: int
    vacuumed_at: datetime | None
    analyzed_at: datetime | None
    age: int | None
    max_age: int
    bloat: int | None
    is_measured: bool = False
    may_maintain: bool = True
    indexes: tuple[IndexHealth, ...] = ()

    @property
    def dead_share(self) -> float:
        """The part of its rows that is dead, from 0 to 1."""
        return self.dead_rows / max(self.dead_rows + self.live_rows, 1)

    @property
    def bloat_share(self) -> float:
        """The part of its size that it would not need, from 0 to 1."""
        return (self.bloat or 0) / max(self.size, 1)


# MAINTAIN is a privilege since PostgreSQL 17; before, only owners may.
_MAY_MAINTAIN = "pg_has_role(c.relowner, 'USAGE')"
_MAY_MAINTAIN_17 = f"({_MAY_MAINTAIN} OR has_table_privilege(c.oid, 'MAINTAIN'))"

_TABLES = """
    SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
           (c.relpages + coalesce(t.relpages, 0))::bigint * current_setting('block_size')::bigint AS size,
           coalesce(s.n_live_tup, 0) AS live_rows, coalesce(s.n_dead_tup, 0) AS dead_rows,
           coalesce(s.n_mod_since_analyze, 0) AS modified_rows,
           greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at,
           greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at,
           CASE WHEN c.relfrozenxid <> '0' THEN age(c.relfrozenxid) END AS age,
           current_setting('autovacuum_freeze_max_age')::bigint AS max_age,
           {may_maintain} AS may_maintain
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
    WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%%'
    ORDER BY size DESC, n.nspname, c.relname
    LIMIT :limit
"""
# What another user builds is hidden from this one, so any build in this database may be of the index.
_VALIDITY = sa.text("""
    SELECT i.indrelid, c.relname AS name, i.indisvalid OR EXISTS (
               SELECT FROM pg_stat_progress_create_index p
               WHERE p.datname = current_database() AND coalesce(p.relid, i.indrelid) = i.indrelid
           ) AS is_valid,
           c.relpages::bigint * current_setting('block_size')::bigint AS size
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = ANY(:tables) AND c.relkind = 'i'
    ORDER BY c.relname
""")
_KINDS: Mapping[str, Kind] = {"r": "table", "m": "materialised view", "p": "partitioned table"}
_MAINTAIN_SINCE = (17,)


def read_tables(connection: sa.Connection, *, measure: bool = True) -> tuple[TableHealth, ...]:
    """Return how the tables of a PostgreSQL database are kept, the largest first, `MAX_TABLES` at most.

    Args:
        connection: in a transaction.
        measure: measure the tables that seem bloated, where that can be done, instead of only estimating.

    Raises:
        sqlalchemy.exc.DBAPIError: the connection broke, or a timeout was hit.
    """
    is_new = (connection.dialect.server_version_info or ()) >= _MAINTAIN_SINCE
    query = _TABLES.format(may_maintain=_MAY_MAINTAIN_17 if is_new else _MAY_MAINTAIN)
    rows = connection.execute(sa.text(query.replace("%%", "%")), {"limit": MAX_TABLES}).all()
    oids = [row.oid for row in rows]
    bloats = {row.oid: row.bloat for row in connection.execute(TABLE_BLOAT, {"tables": oids})}
    indexes = _indexes(connection, oids)
    suspects = sorted((oid for oid in bloats if bloats[oid]), key=bloats.__getitem__, reverse=True)
    measured = measured_bloat(connection, suspects[:MAX_MEASURED]) if measure else {}
    return tuple(_table(row, bloats, measured, indexes.get(row.oid, ())) for row in rows)


def _table(
    row: sa.Row[Any],
    bloats: Mapping[int, int | None],
    measured: Mapping[int, int],
    indexes: Sequence[IndexHealth],
) -> TableHealth:
    return TableHealth(
        schema=row.schema,
        name=row.name,
        kind=_KINDS[row.kind],
        size=row.size,
        live_rows=row.live_rows,
        dead_rows=row.dead_rows,
        modified_rows=row.modified_rows,
        vacuumed_at=row.vacuumed_at,
        analyzed_at=row.analyzed_at,
        age=row.age,
        max_age=row.max_age,
        bloat=measured.get(row.oid, bloats.get(row.oid)),
        is_measured=row.oid in measured,
        may_maintain=row.may_maintain,
        indexes=tuple(indexes),
    )


def _indexes(connection: sa.Connection, tables: list[int]) -> dict[int, list[IndexHealth]]:
    bloats = {
        (row.indrelid, row.name): row.bloat for row in connection.execute(INDEX_BLOAT, {"tables": tables})
    }
    found: dict[int, list[IndexHealth]] = {}
    for row in connection.execute(_VALIDITY, {"tables": tables}):
        bloat = bloats.get((row.indrelid, row.name))
        index = IndexHealth(name=row.name, size=row.size, bloat=bloat, is_valid=row.is_valid)
        found.setdefault(row.indrelid, []).append(index)
    return found


def by_name(tables: Sequence[TableHealth], name: str) -> Iterator[TableHealth]:
    """Find tables by the name that somebody gave: `orders` or `depot.orders`, spelled as the database does.

    Example:
        >>> list(by_name((), "orders"))
        []
    """
    return (each for each in tables if name in {each.name, f"{each.schema}.{each.name}"})
