"""UP207: a column is cast before it is compared, so its index does not serve.

The cast is the planner's: column and parameter are of types that are compared only after the column's
values have become the other's. One that the statement writes itself is no surprise to its author, and not
told here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.sql import StatementPlans, StatementStatistics
    from upshift.sql.plans.casts import Cast

CODE = "UP207"


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each column that a statement's plan casts, if an index begins with it."""
    rows = {row.digest.id: row for row in observation.statements}
    for plans in observation.plans:
        for cast in plans.explanation.casts:
            if not cast.is_written:
                yield _finding(plans, rows.get(plans.digest.id), cast)


def _finding(plans: StatementPlans, row: StatementStatistics | None, cast: Cast) -> Finding:
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"{cast.relation}.{cast.column} is cast to {cast.cast_to}, so {cast.index} does not serve",
        site=row.site if row else None,
        routes=tuple(sorted(row.routes)) if row else (),
        evidence=(
            f"{cast.relation}.{cast.column} is of type {cast.column_type}; in the plan: {cast.condition}",
            plans.digest.text,
        ),
        fix=(
            f"compare it with a value of its own type: Mapped[…] = mapped_column(…) as {cast.column_type}",
            f"or, where the value has to be another's, cast the value: cast(value, …) to {cast.column_type}",
            f"or make the column {cast.cast_to}, if that is what it holds",
        ),
        expect=f"the index {cast.index} can answer the condition",
        data={
            "digest": plans.digest.id,
            "table": cast.relation,
            "schema": cast.schema,
            "column": cast.column,
            "column_type": cast.column_type,
            "cast_to": cast.cast_to,
            "index": cast.index,
        },
    )
