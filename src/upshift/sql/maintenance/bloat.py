"""Bloat: how much of a table or an index a fresh one would not need.

The size that it should have is worked out from the rows, their average width in `pg_stats`, and how
PostgreSQL lays out pages and tuples (https://www.postgresql.org/docs/current/storage-page-layout.html). The
queries follow Jehan-Guillaume de Rorthais' for tables and B-tree indexes
(https://github.com/ioguix/pgsql-bloat-estimation), which descend from check_postgres' (Greg Sabino Mullane).
What a fillfactor leaves free on purpose is no bloat.

An estimate needs statistics of all columns: without them, and for columns of type `name`, whose width they do
not tell, there is none. It does not know of deduplication in B-trees (PostgreSQL 13), so it is low for
indexes with many equal keys. Where the extension `pgstattuple` is installed, tables that seem bloated are
measured; that may include the room that a fillfactor leaves, which is therefore taken off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from upshift.sql.catalog import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE_BLOAT = sa.text("""
    WITH columns AS (
        SELECT c.oid, c.reltuples, c.relpages, coalesce(t.relpages, 0) AS toast_pages,
               coalesce(t.reltuples, 0) AS toast_tuples,
               coalesce(substring(array_to_string(c.reloptions, ' ') FROM 'fillfactor=([0-9]+)')::int, 100)
                   AS fillfactor,
               23 + CASE WHEN max(coalesce(s.null_frac, 0)) > 0 THEN (7 + count(s.attname)) / 8 ELSE 0 END
                   AS header,
               sum((1 - coalesce(s.null_frac, 0)) * coalesce(s.avg_width, 0)) AS width,
               bool_or(a.atttypid = 'pg_catalog.name'::regtype) OR count(*) <> count(s.attname) AS unknown
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname
             AND s.attname = a.attname AND NOT s.inherited
        LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
        WHERE c.oid = ANY(:tables) AND c.relkind IN ('r', 'm') AND a.attnum > 0 AND NOT a.attisdropped
        GROUP BY 1, 2, 3, 4, 5, 6
    ), tuples AS (
        SELECT *, 4 + ceil(header / 8.0) * 8 + ceil(width / 8.0) * 8 AS tuple_size,
               current_setting('block_size')::numeric AS page
        FROM columns WHERE NOT unknown AND reltuples >= 0
    )
    SELECT oid, greatest(relpages + toast_pages
        - ceil(reltuples / greatest(floor((page - 24) * fillfactor / (tuple_size * 100)), 1))
        - ceil(toast_tuples / 4), 0)::bigint * page::bigint AS bloat
    FROM tuples
""")
"""For each table, by `oid`, its `bloat` in bytes; tables of which nobody can tell are left out."""

INDEX_BLOAT = sa.text("""
    WITH keys AS (
        SELECT i.indexrelid, i.indrelid, c.relname AS name, c.relpages, c.reltuples,
               coalesce(substring(array_to_string(c.reloptions, ' ') FROM 'fillfactor=([0-9]+)')::int, 90)
                   AS fillfactor,
               CASE WHEN max(coalesce(s.null_frac, 0)) > 0 THEN 16 ELSE 8 END AS header,
               sum((1 - coalesce(s.null_frac, 0)) * coalesce(s.avg_width, 0)) AS width,
               bool_or(a.atttypid = 'pg_catalog.name'::regtype) OR count(*) <> count(s.attname) AS unknown
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
        JOIN pg_class r ON r.oid = i.indrelid
        JOIN pg_namespace n ON n.oid = r.relnamespace
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) AS k(attnum)
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = r.relname
             AND s.attname = a.attname AND NOT s.inherited
        WHERE i.indrelid = ANY(:tables) AND i.indisvalid
        GROUP BY 1, 2, 3, 4, 5, 6
    ), tuples AS (
        SELECT *, 4 + ceil((header + width) / 8.0) * 8 AS tuple_size,
               current_setting('block_size')::numeric AS page
        FROM keys WHERE NOT unknown AND reltuples >= 0
    )
    SELECT indrelid, name, greatest(relpages - 1
        - ceil(reltuples / greatest(floor((page - 24 - 16) * fillfactor / (tuple_size * 100)), 1)), 0)::bigint
        * page::bigint AS bloat
    FROM tuples
""")
"""For each valid B-tree index on columns, by `indrelid` and `name`, its `bloat` in bytes."""

_EXTENSION = sa.text("""
    SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'pgstattuple'
""")

_MEASURED = """
    SELECT greatest(a.approx_free_space + a.dead_tuple_len - a.table_len * (100 - coalesce(
        substring(array_to_string(c.reloptions, ' ') FROM 'fillfactor=([0-9]+)')::int, 100)) / 100, 0)::bigint
    FROM pg_class c, {approx}(c.oid::regclass) a WHERE c.oid = :oid
"""


def measured_bloat(connection: sa.Connection, tables: Sequence[int]) -> dict[int, int]:
    """Measure tables with `pgstattuple_approx`, where it is installed and this user may call it.

    It reads the pages that VACUUM has not marked as all visible, so it is bounded by the connection's
    `statement_timeout`; a table that takes longer has its estimate.

    Args:
        connection: in a transaction, which survives.
        tables: the tables' object ids.
    """
    schema = connection.scalar(_EXTENSION)
    measured: dict[int, int] = {}
    if schema is None:
        return measured
    query = sa.text(_MEASURED.format(approx=f"{quoted(schema)}.pgstattuple_approx"))
    for oid in tables:
        try:
            with connection.begin_nested():
                measured[oid] = connection.scalar(query, {"oid": oid}) or 0
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
    return measured
