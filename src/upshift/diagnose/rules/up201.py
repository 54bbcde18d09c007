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

_WHERE = {"copy": "on a copy", "transaction": "on the table, rolled back", "hypothetical": "by HypoPG"}
_MEGABYTE = 2**20


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
    evidence += _weight(advice)
    outside = ", outside of its transaction" if advice.index.dialect == "postgresql" else ""
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"no index on {advice.index}",
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
        expect=_gain(advice),
        data=advice.to_dict(),
    )


def _weight(advice: IndexAdvice) -> Iterator[str]:
    """What the index costs, where that was measured."""
    figures = advice.figures
    if figures is None:
        return
    size = "" if figures.size is None else f"{figures.size / _MEGABYTE:,.1f} MB"
    entry = "" if figures.entry is None else f"{figures.entry:.4g} {figures.unit} for each row written"
    writes = f"{figures.upkeep:,.1f} {figures.unit} for the writes observed" if figures.upkeep else ""
    sample = f"on a sample of {figures.sample:.0%} of the rows" if figures.sample < 1 else ""
    yield f"the index costs: {', '.join(filter(None, (size, entry, writes, sample)))}"


def _gain(advice: IndexAdvice) -> str:
    best = advice.served[0]
    costs = f"{advice.unit} {best.cost_before:,.0f} → {best.cost_after:,.0f}"
    if best.measure_before is not None and best.measure_after is not None and advice.unit == "planner cost":
        return f"{costs}, {best.measure_before:,.3g} → {best.measure_after:,.3g} ms (executed on a copy)"
    return f"{costs} (verified {_WHERE[advice.verified]})"
