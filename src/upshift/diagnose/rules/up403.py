"""UP403: a request holds a connection while it waits for something else.

A pool has few connections, and whoever holds one without a use for it keeps it from requests that have. So
a pool runs out while the database is idle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.causes import Cause, Causes
from upshift.diagnose.endpoints import definition_of
from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.holding import Idle, idle_times
from upshift.diagnose.places import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite

CODE = "UP403"

_WAITED = (
    "end the session before what takes long (another service, a sleep, a computation)",
    "or do that first, and open the session when it is done",
)
_STREAMED = (
    "read what is to be sent before the first byte, and end the session",
    "or read a long stream page by page, by key, each page in a session of its own",
)


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each endpoint, and the line after which it held a connection for nothing."""
    threshold = observation.settings.diagnose.idle_connection_seconds
    causes: Causes[tuple[str, CallSite | None], Idle] = Causes()
    for record in observation.records:
        for idle in idle_times(record, threshold):
            if not idle.has_written:
                site = idle.site or definition_of(record.endpoint)
                causes.see((record.operation, site), record, idle.gap.seconds, idle)
    for (operation, site), cause in causes.by_key.items():
        yield _finding(operation, site, cause)


def _finding(operation: str, site: CallSite | None, cause: Cause[Idle]) -> Finding:
    idle, seconds = cause.worst, cause.worst.gap.seconds
    held = sum(hold.seconds for hold in idle.record.holds)
    evidence = [f"in {cause.times}, at most {seconds:.2f} s with no statement, of {held:.2f} s held in all"]
    if idle.gap.is_reading:
        evidence.append("meanwhile rows of the statement were read, some at a time")
    if idle.is_streaming:
        evidence.append("meanwhile the response was streamed, so a slow client holds the connection")
    endpoint = definition_of(idle.record.endpoint)
    if endpoint is not None and endpoint != site:
        evidence.append(f"the endpoint is {endpoint.function} at {place_of(endpoint)}")
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"{operation} holds a connection for {seconds:.1f} s after this line, with no statement",
        site=site,
        routes=tuple(sorted(cause.routes)),
        evidence=tuple(evidence),
        fix=_STREAMED if idle.is_streaming else _WAITED,
        expect=f"connections held {held:.1f} → about {max(held - seconds, 0.0):.1f} s a request",
        data={
            "seconds": seconds,
            "held_seconds": held,
            "is_streaming": idle.is_streaming,
            "requests": cause.requests,
        },
    )
