"""UP208: the planner expects ten times more or fewer rows of a table than there are.

It chooses joins and their order by those numbers. What helps depends on why they are wrong: the table has
changed since it was analysed; its columns depend on each other, of which one column's statistics say
nothing; or one column has more values than its statistics hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity
from upshift.sql.catalog import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.sql import StatementPlans, StatementStatistics
    from upshift.sql.plans.misestimates import Misestimate

CODE = "UP208"

STALE_SHARE = 0.1
"""The part of a table's rows that has to be written for its statistics to be taken as stale; autovacuum
analyses a table when that many have been (`autovacuum_analyze_scale_factor`)."""

_SEVERAL = 2


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each table of which a measured plan expected far more or fewer rows."""
    rows = {row.digest.id: row for row in observation.statements}
    for plans in observation.plans:
        for miss in plans.explanation.misestimates:
            yield _finding(plans, rows.get(plans.digest.id), miss)


def _finding(plans: StatementPlans, row: StatementStatistics | None, miss: Misestimate) -> Finding:
    fewer = "fewer" if miss.planned_rows < miss.actual_rows else "more"
    analyzed = "never" if miss.analyzed_at is None else f"{miss.analyzed_at:%Y-%m-%d %H:%M}"
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"the planner expects {miss.factor:,.0f} times {fewer} rows of {miss.relation} than there are",
        site=row.site if row else None,
        routes=tuple(sorted(row.routes)) if row else (),
        evidence=(
            f"{miss.planned_rows:,.0f} rows planned, {miss.actual_rows:,.0f} found"
            + (f", in each of {miss.loops:,.0f} executions" if miss.loops > 1 else "")
            + (f": {miss.condition}" if miss.condition else ""),
            f"analysed: {analyzed}; written since: {miss.modified_rows:,} of {miss.live_rows:,} rows",
            plans.digest.text,
        ),
        fix=tuple(_fixes(miss)),
        expect="the planner chooses joins and indexes by the rows that there are",
        data={
            "digest": plans.digest.id,
            "table": miss.relation,
            "schema": miss.schema,
            "columns": list(miss.columns),
            "planned_rows": miss.planned_rows,
            "actual_rows": miss.actual_rows,
            "loops": miss.loops,
            "modified_rows": miss.modified_rows,
            "live_rows": miss.live_rows,
        },
    )


def _fixes(miss: Misestimate) -> Iterator[str]:
    table = ".".join(quoted(part) for part in (miss.schema, miss.relation) if part)
    is_stale = miss.analyzed_at is None or miss.modified_rows > miss.live_rows * STALE_SHARE
    if is_stale:
        yield f"ANALYZE {table};  -- or: upshift db analyze {miss.relation}"
        if miss.analyzed_at is not None:
            sooner = "autovacuum_analyze_scale_factor = 0.01"
            yield f"and have it done sooner from now on: ALTER TABLE {table} SET ({sooner});"
    elif len(miss.columns) >= _SEVERAL and not miss.has_extended:
        columns = ", ".join(map(quoted, miss.columns))
        yield f"CREATE STATISTICS (ndistinct, dependencies, mcv) ON {columns} FROM {table}; ANALYZE {table};"
    elif miss.columns:
        column = quoted(miss.columns[0])
        yield f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 1000; ANALYZE {table};"
    else:
        yield f"ANALYZE {table};"
