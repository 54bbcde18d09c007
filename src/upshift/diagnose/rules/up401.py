"""UP401: a long transaction.

It holds its locks, and keeps the database from removing old versions of rows, until it ends. Of one that
waits in one place, or for one slow statement, other rules tell; this one is for those that do much, one
thing after another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from upshift.diagnose.causes import Cause, Causes
from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.writing import is_write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite, Hold, Statement, Transaction

CODE = "UP401"

EXPLAINED = 0.5
"""Share of its time that one wait or one statement takes, if it explains why a transaction is long."""


class _Long(NamedTuple):
    transaction: Transaction
    statements: list[Statement]

    @property
    def seconds(self) -> float:
        return self.transaction.ended - self.transaction.began

    @property
    def busy_seconds(self) -> float:
        return sum(each.seconds for each in self.statements) + self.transaction.ending_seconds


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each line that begins a long transaction."""
    threshold = observation.settings.diagnose.long_transaction_seconds
    causes: Causes[CallSite | None, _Long] = Causes()
    for record in observation.records:
        for hold in record.holds:
            for long in _long_transactions(hold, threshold):
                causes.see(long.statements[0].site, record, long.seconds, long, [long.transaction.site])
    for site, cause in causes.by_key.items():
        yield _finding(site, cause)


def _long_transactions(hold: Hold, threshold: float) -> Iterator[_Long]:
    for transaction in hold.transactions:
        long = _Long(transaction, hold.statements[transaction.first : transaction.after])
        if long.seconds >= threshold:
            gaps = (
                gap.seconds for gap in hold.gaps() if transaction.began <= gap.started < transaction.ended
            )
            longest = max(*gaps, *(each.seconds for each in long.statements), transaction.ending_seconds, 0.0)
            if longest < long.seconds * EXPLAINED:
                yield long


def _finding(site: CallSite | None, cause: Cause[_Long]) -> Finding:
    long = cause.worst
    writes = sum(is_write(each.sql) for each in long.statements)
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"a transaction of {long.seconds:.1f} s",
        site=site,
        also=cause.also(site),
        routes=tuple(sorted(cause.routes)),
        evidence=(
            f"in {cause.times}; the database worked {long.busy_seconds:.2f} of {long.seconds:.2f} s",
            f"{len(long.statements)} statements, {writes} of them writes",
        ),
        fix=(
            "prepare before it begins: read and compute first, then write and commit at once",
            "or make several of it: commit after each part that stands by itself",
            "or let a task do it, after the answer",
        ),
        expect=f"locks and old row versions held for less than {long.seconds:.1f} s",
        data={
            "seconds": long.seconds,
            "busy_seconds": long.busy_seconds,
            "statements": len(long.statements),
            "writes": writes,
            "outcome": long.transaction.outcome,
            "requests": cause.requests,
        },
    )
