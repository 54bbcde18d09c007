"""UP201: an index is missing, and the planner was seen to use it when it was there.

The work is done in `upshift.sql.indexes.advisor`; here its advice is told of the line that spends most on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from upshift.diagnose.observation import Observation
    from upshift.sql import IndexAdvice, StatementStatistics

CODE = "UP201"

MAX_STATEMENTS = 3
"""Statements shown as evidence."""


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each advised index."""
    rows = {row.sql: row for row in observation.statements}
    for advice in observation.advice:
        served = [rows[sql] for sql in advice.serves if sql in rows]
        served.sort(key=lambda row: row.seconds.sum, reverse=True)
        yield _finding(advice, served)


def _finding(advice: IndexAdvice, served: Sequence[StatementStatistics]) -> Finding:
    site = served[0].site if served else None
    others = {each for row in served for each in row.sites if each != site}
    best = advice.served[0]
    evidence = [
        f"{row.seconds.count}x, {row.seconds.sum * 1e3:.1f} ms: {row.digest.text}"
        for row in served[:MAX_STATEMENTS]
    ]
    evidence += [f"plan before: {best.plan_before[0]}", f"plan after: {best.plan_after[0]}"]
    outside = ", outside of its transaction" if advice.index.dialect == "postgresql" else ""
    where = {"copy": "on a copy", "transaction": "on the table, rolled back"}[advice.verified]
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"no index on {advice.table} ({', '.join(map(str, advice.columns))})",
        site=site,
        also=tuple(sorted(others)),
        routes=tuple(sorted({route for row in served for route in row.routes})),
        evidence=tuple(evidence),
        fix=(
            f"{advice.create_sql};",
            f"or in a migration{outside}: {advice.operation}",
            (
                "or: upshift index apply --from findings.json "
                "(made by: upshift find … --format json > findings.json)"
            ),
        ),
        expect=f"{advice.unit} {best.cost_before:,.0f} → {best.cost_after:,.0f} (verified {where})",
        data=advice.to_dict(),
    )
