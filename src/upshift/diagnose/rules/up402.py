"""UP402: a transaction that has written waits for something else than the database, and holds its locks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.causes import Cause, Causes
from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.holding import Idle, idle_times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite

CODE = "UP402"


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each line after which a transaction was idle."""
    threshold = observation.settings.diagnose.idle_connection_seconds
    causes: Causes[CallSite | None, Idle] = Causes()
    for record in observation.records:
        for idle in idle_times(record, threshold):
            if idle.has_written:
                causes.see(idle.site, record, idle.gap.seconds, idle)
    for site, cause in causes.by_key.items():
        yield _finding(site, cause)


def _finding(site: CallSite | None, cause: Cause[Idle]) -> Finding:
    seconds = cause.worst.gap.seconds
    return Finding(
        code=CODE,
        severity=Severity.ERROR,
        title=f"idle in transaction for {seconds:.1f} s after this line, with locks held",
        site=site,
        routes=tuple(sorted(cause.routes)),
        evidence=(
            f"in {cause.times}, at most {seconds:.2f} s with no statement, in a transaction that had written",
        ),
        fix=(
            "commit before what takes long (another service, a sleep, a computation), or do that first",
            "or write a row that says what is to be done, commit, and let a task do it",
        ),
        expect=f"locks held {seconds:.1f} s less",
        data={"seconds": seconds, "requests": cause.requests},
    )
