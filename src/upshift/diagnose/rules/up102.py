"""UP102: a slow statement.

The typical execution counts, not the odd one: a statement is slow when its mean is over the threshold or,
once there are enough executions for it to mean something, its 95th percentile. When only the slowest was over
it, the finding is for information. So it is when a missing index explains it: UP201 tells of that already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.sql import StatementStatistics

CODE = "UP102"

ENOUGH_FOR_P95 = 20
"""Executions from which on the 95th percentile is taken seriously."""


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each digest of which an execution took longer than the threshold."""
    threshold = observation.settings.slow_statement_seconds
    total = sum(row.seconds.sum for row in observation.statements)
    explained = {sql for advice in observation.advice for sql in advice.serves}
    for row in observation.statements:
        seconds = row.seconds
        if seconds.max < threshold:
            continue
        slow = seconds.mean >= threshold or (
            seconds.count >= ENOUGH_FOR_P95 and seconds.quantile(0.95) >= threshold
        )
        severity = Severity.WARNING if slow and row.sql not in explained else Severity.INFO
        told = (
            f"slow statement: {seconds.mean * 1e3:.0f} ms on average"
            if slow
            else f"a statement was slow once: {seconds.max * 1e3:.0f} ms"
        )
        title = f"{told} (threshold {threshold * 1e3:.0f} ms)"
        yield _finding(row, severity, title, seconds.sum / total)


def _finding(row: StatementStatistics, severity: Severity, title: str, share: float) -> Finding:
    seconds = row.seconds
    times = {
        "min": seconds.min,
        "mean": seconds.mean,
        "max": seconds.max,
        "p95": seconds.quantile(0.95),
        "total": seconds.sum,
    }
    return Finding(
        code=CODE,
        severity=severity,
        title=title,
        site=row.site,
        routes=tuple(sorted(row.routes)),
        evidence=(
            f"{seconds.count} executions, {row.rows} rows, {share:.0%} of the database's time",
            "ms: " + ", ".join(f"{name} {value * 1e3:.1f}" for name, value in times.items()),
            row.digest.text,
        ),
        fix=(
            "read its plan with EXPLAIN (ANALYZE, BUFFERS); fetch fewer rows or columns, or aggregate in SQL",
        ),
        expect=f"up to {share:.0%} of the database's time",
        data={
            "digest": row.digest.id,
            "count": seconds.count,
            "rows": row.rows,
            **{f"{name}_seconds": value for name, value in times.items()},
            "share": share,
        },
    )
