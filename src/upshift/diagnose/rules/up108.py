"""UP108: a commit for each row, in a loop.

A commit makes the database write its log to the disk and wait for it, and costs two round trips; the rows
themselves cost less. Whoever commits some hundred rows at a time does well, and is left alone.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from upshift.diagnose.causes import Cause, Causes
from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.writing import is_write
from upshift.sql import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite, Record, Statement, Transaction

CODE = "UP108"

ROWS_OF_A_BATCH = 10
"""Rows in each commit, from which on it is one of batches."""


class _Commits(NamedTuple):
    transactions: list[Transaction]
    writes: list[Statement]

    @property
    def rows(self) -> int:
        return sum(max(each.executions, each.rows or 0) for each in self.writes)


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each line that commits again and again after the same writes."""
    causes: Causes[CallSite, _Commits] = Causes()
    fewest = observation.settings.diagnose.repeated_statements
    for record in observation.records:
        for (site, _), commits in _commits(record).items():
            count = len(commits.transactions)
            if count >= fewest and commits.rows < count * ROWS_OF_A_BATCH:
                causes.see(site, record, count, commits)
    for site, cause in causes.by_key.items():
        yield _finding(site, cause)


def _commits(record: Record) -> dict[tuple[CallSite, tuple[str, ...]], _Commits]:
    """Group a request's commits by line and by what they commit."""
    commits: dict[tuple[CallSite, tuple[str, ...]], _Commits] = defaultdict(lambda: _Commits([], []))
    for hold in record.holds:
        for transaction in hold.transactions:
            written = [
                each for each in hold.statements[transaction.first : transaction.after] if is_write(each.sql)
            ]
            if written and transaction.outcome == "commit" and transaction.site is not None:
                texts = tuple(dict.fromkeys(normalise(each.sql) for each in written))
                group = commits[transaction.site, texts]
                group.transactions.append(transaction)
                group.writes.extend(written)
    return commits


def _finding(site: CallSite, cause: Cause[_Commits]) -> Finding:
    commits = cause.worst
    count = len(commits.transactions)
    seconds = sum(each.ending_seconds for each in commits.transactions)
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"{count} commits from one line in one request, of {commits.rows} rows in all",
        site=site,
        routes=tuple(sorted(cause.routes)),
        evidence=(
            f"in {cause.times}; to commit took {seconds * 1e3:.1f} ms of one",
            normalise(commits.writes[0].sql),
        ),
        fix=(
            "commit once, after the loop; for very many rows once for each thousand",
            "or session.begin_nested() for each row, where one that fails must not undo the others",
        ),
        expect=f"{count} → 1 commit in one request",
        data={
            "commits": count,
            "rows": commits.rows,
            "commit_seconds": seconds,
            "requests": cause.requests,
        },
    )
