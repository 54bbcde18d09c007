"""What a database needs, told from how its tables are kept: pure decisions, no connection.

Autovacuum does most of it by itself, so advice begins where it did not, or cannot: when far more has gathered
than it would have let, when a partitioned table was never analysed, when space is lost that only a rewrite
gives back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from upshift.sql.catalog import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from upshift.sql.maintenance.tables import IndexHealth, TableHealth

Verb = Literal["analyze", "vacuum", "reindex", "drop"]

DEAD_ROWS = 10_000
"""Dead rows from which on they matter."""

DEAD_SHARE = 0.2
"""The part of a table's rows that may be dead; `autovacuum_vacuum_scale_factor` by default."""

MODIFIED_ROWS = 1_000
"""Rows written since the table was analysed, from which on they matter."""

MODIFIED_SHARE = 0.2
"""The part of its rows that may be; autovacuum analyses at 0.1 of them."""

BLOAT_BYTES = 10 * 2**20
"""Bytes from which on lost space matters."""

TABLE_BLOAT_SHARE = 0.4
"""The part of a table that may be lost space: a table that is written always has some."""

INDEX_BLOAT_SHARE = 0.5
"""The same of an index; pages of a B-tree that was filled in random order are about 70 % full."""

AGE_SHARE = 1.1
"""Autovacuum freezes a table at `max_age`; one that is older is not being frozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One piece of maintenance.

    Attributes:
        verb: what to do.
        schema: the schema of the table; "" on SQLite.
        table: the table; "" for the whole database.
        index: the index, where it is about one.
        concurrently: rebuild an index beside the old one, so that nobody waits.
        freeze: vacuum so that no row is older than now.
        reason: why, in a few words; "" where somebody asked for it.
        may_do: whether this user may.
    """

    verb: Verb
    schema: str = ""
    table: str = ""
    index: str = ""
    concurrently: bool = True
    freeze: bool = False
    reason: str = ""
    may_do: bool = True

    @property
    def target(self) -> str:
        """What it is done to, every name quoted."""
        return ".".join(quoted(part) for part in (self.schema, self.index or self.table) if part)

    @property
    def sql(self) -> str:
        """The statement that does it on PostgreSQL.

        Example:
            >>> print(Work(verb="reindex", schema="public", table="t", index='odd "i').sql)
            REINDEX INDEX CONCURRENTLY "public"."odd ""i"
        """
        concurrently = "CONCURRENTLY " if self.concurrently else ""
        match self.verb:
            case "analyze":
                return f"ANALYZE {self.target}"
            case "vacuum":
                return f"VACUUM ({'FREEZE, ' if self.freeze else ''}ANALYZE) {self.target}"
            case "reindex":
                return f"REINDEX {'INDEX' if self.index else 'TABLE'} {concurrently}{self.target}"
            case "drop":
                return f"DROP INDEX CONCURRENTLY IF EXISTS {self.target}"


def advised(tables: Iterable[TableHealth]) -> Iterator[Work]:
    """Yield what the tables of a PostgreSQL database need, in the order of the tables."""
    for table in tables:
        yield from _of_table(table)
        yield from (work for index in table.indexes if (work := _of_index(table, index)))


def _of_table(table: TableHealth) -> Iterator[Work]:
    vacuum = Work(verb="vacuum", schema=table.schema, table=table.name, may_do=table.may_maintain)
    if table.age is not None and table.age > table.max_age * AGE_SHARE:
        reason = f"its oldest row is {table.age:,} transactions old, and autovacuum should have frozen it"
        yield replace(vacuum, freeze=True, reason=reason)
    elif table.dead_rows >= DEAD_ROWS and table.dead_share >= DEAD_SHARE:
        reason = f"{table.dead_rows:,} dead rows, {table.dead_share:.0%} of all; vacuumed {_when(table)}"
        yield replace(vacuum, reason=reason)
    elif (reason := _stale(table)) != "":
        yield replace(vacuum, verb="analyze", reason=reason)


def _stale(table: TableHealth) -> str:
    if table.kind == "partitioned table":
        if table.analyzed_at is None:
            return "autovacuum analyses no partitioned table as a whole, and nobody did"
        return ""
    if table.analyzed_at is None and max(table.live_rows, table.modified_rows) >= MODIFIED_ROWS:
        return "it was never analysed"
    if table.modified_rows >= max(MODIFIED_ROWS, table.live_rows * MODIFIED_SHARE):
        return f"{table.modified_rows:,} of {table.live_rows:,} rows written since it was analysed"
    return ""


def _when(table: TableHealth) -> str:
    return "never" if table.vacuumed_at is None else f"on {table.vacuumed_at:%Y-%m-%d %H:%M}"


def _of_index(table: TableHealth, index: IndexHealth) -> Work | None:
    reindex = Work(
        verb="reindex",
        schema=table.schema,
        table=table.name,
        index=index.name,
        may_do=table.may_maintain,
    )
    if not index.is_valid and is_leftover(index.name):
        return replace(reindex, verb="drop", reason="left by a REINDEX CONCURRENTLY that did not end")
    if not index.is_valid:
        return replace(reindex, reason="it is invalid: a build of it did not end")
    bloat = index.bloat or 0
    if bloat >= BLOAT_BYTES and bloat >= index.size * INDEX_BLOAT_SHARE:
        reason = f"{bloat / 2**20:,.0f} of its {index.size / 2**20:,.0f} MB are lost space (estimated)"
        return replace(reindex, reason=reason)
    return None


def is_leftover(name: str) -> bool:
    """Whether an index has a name that REINDEX CONCURRENTLY gives to the index that it builds or takes away.

    Example:
        >>> is_leftover("orders_pkey_ccnew"), is_leftover("orders_pkey_ccold1"), is_leftover("orders_ccnews")
        (True, True, False)
    """
    stem = name.rstrip("0123456789")
    return stem.endswith(("_ccnew", "_ccold"))


def is_bloated(table: TableHealth) -> bool:
    """Whether much of a table is lost space; dead rows that VACUUM has yet to remove are not."""
    return (table.bloat or 0) >= BLOAT_BYTES and table.bloat_share >= TABLE_BLOAT_SHARE
