"""UP210: a large part of a table is lost space, or dead rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity
from upshift.sql.maintenance.advice import DEAD_ROWS, is_bloated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.sql.maintenance.tables import TableHealth

CODE = "UP210"

DEAD_SHARE = 0.5
"""The part of a table's rows that is dead, from which on autovacuum has failed and is not merely late."""


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each table that is much larger than its rows."""
    for table in observation.tables:
        has_dead = table.dead_rows >= DEAD_ROWS and table.dead_share >= DEAD_SHARE
        if has_dead or is_bloated(table):
            yield _finding(table, has_dead=has_dead)


def _finding(table: TableHealth, *, has_dead: bool) -> Finding:
    lost, size = (table.bloat or 0) / 2**20, table.size / 2**20
    evidence = [f"{table.live_rows:,} rows, {table.dead_rows:,} dead ones; {size:,.0f} MB"]
    if table.bloat is not None:
        evidence.append(f"{lost:,.0f} MB lost ({'measured' if table.is_measured else 'estimated'})")
    when = "never" if table.vacuumed_at is None else f"{table.vacuumed_at:%Y-%m-%d %H:%M}"
    evidence.append(f"vacuumed: {when}")
    fix = []
    if has_dead:
        fix.append(f"upshift db vacuum {table.schema}.{table.name} --yes")
        fix.append("if the dead rows stay, a transaction that is open for long keeps them (pg_stat_activity)")
    if is_bloated(table):
        fix.append("rewrite it beside the old one by pg_repack; VACUUM FULL locks everybody out meanwhile")
        fix.append("delete old rows by dropping partitions")
    title = (
        f"{table.dead_share:.0%} of the rows of {table.name} are dead"
        if has_dead
        else f"{table.bloat_share:.0%} of {table.name} is lost space"
    )
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=title,
        site=None,
        evidence=tuple(evidence),
        fix=tuple(fix),
        expect=f"{size:,.0f} → about {max(size - lost, 0.0):,.0f} MB"
        if is_bloated(table)
        else "faster scans",
        data={
            "name": f"{table.schema}.{table.name}",
            "bytes": table.size,
            "bloat_bytes": table.bloat,
            "is_measured": table.is_measured,
            "live_rows": table.live_rows,
            "dead_rows": table.dead_rows,
        },
    )
