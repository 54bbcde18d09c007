"""The workload that indexes are sought for: statements, how often each ran, and what it was sent.

One index may serve many statements and is paid for by every write, so advice looks at all of them together:
`calls` weighs what a statement gains or loses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from upshift.sql.placeholders import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upshift.record import Record
    from upshift.sql.analysis.statistics import StatementStatistics
    from upshift.sql.placeholders import Parameters

MAX_STATEMENTS = 500
"""Distinct statements that are looked at in one run: those that came first."""

MAX_SAMPLES = 8
"""Different sets of parameters that are kept of one statement."""

MAX_VARIANTS = 4
"""Sets of parameters of one statement that are planned for and replayed."""


@dataclass(frozen=True, slots=True)
class Work:
    """One statement of the workload.

    Attributes:
        sql: the text as it was sent to the driver.
        samples: different sets of parameters that were sent with it; empty where none were kept.
        calls: how often it ran while the workload was observed.
        rows: rows that one call wrote, on average; None where nobody told.

    Example:
        >>> Work("SELECT 1", calls=3).sample
        Sample(sql='SELECT 1', parameters=None)
    """

    sql: str
    samples: tuple[Parameters, ...] = ()
    calls: int = 1
    rows: float | None = None

    @property
    def sample(self) -> Sample:
        """The statement with the first of its parameters."""
        return Sample(self.sql, self.samples[0] if self.samples else None)

    @property
    def variants(self) -> tuple[Sample, ...]:
        """The statement with each set of parameters; once without any where none were kept."""
        return tuple(Sample(self.sql, each) for each in self.samples[:MAX_VARIANTS]) or (self.sample,)


def observed_workload(
    statements: Iterable[StatementStatistics], records: Iterable[Record] = ()
) -> list[Work]:
    """Return what was observed as a workload, the most expensive statement first.

    Args:
        statements: the statistics, with the text and the parameters of the slowest execution of each.
        records: further executions, for their parameters.
    """
    sent: dict[str, list[Parameters]] = {}
    for record in records:
        for statement in record.statements:
            known = sent.setdefault(statement.sql, [])
            if statement.executions == 1 and statement.parameters is not None and len(known) < MAX_SAMPLES:
                known += [statement.parameters] if statement.parameters not in known else []
    found = []
    for row in statements:
        calls = row.seconds.count
        slowest = [] if row.parameters is None else [row.parameters]
        samples = (*slowest, *(each for each in sent.get(row.sql, ()) if each not in slowest))
        found.append(Work(row.sql, samples[:MAX_SAMPLES], max(calls, 1), row.rows / calls if calls else None))
    return found


def as_workload(statements: Iterable[Sample | Work]) -> list[Work]:
    """Return one `Work` for each text, `MAX_STATEMENTS` at most; equal texts add their calls.

    Example:
        >>> [work.calls for work in as_workload([Sample("SELECT 1"), Work("SELECT 1", calls=2)])]
        [3]
    """
    found: dict[str, Work] = {}
    for statement in statements:
        work = _as_work(statement)
        known = found.get(work.sql)
        if known is not None:
            samples = (*known.samples, *(each for each in work.samples if each not in known.samples))
            rows = known.rows if known.rows is not None else work.rows
            found[work.sql] = Work(work.sql, samples[:MAX_SAMPLES], known.calls + work.calls, rows)
        elif len(found) < MAX_STATEMENTS:
            found[work.sql] = work
    return list(found.values())


def _as_work(statement: Sample | Work) -> Work:
    if isinstance(statement, Work):
        return statement
    return Work(statement.sql, () if statement.parameters is None else (statement.parameters,))
