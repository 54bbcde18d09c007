"""UP103: the same SELECT with the same parameters, more than once in a request.

Parameters are compared by their fingerprints (`upshift.record.fingerprint`). A statement is no repetition
after something has been written or committed, as it may be read again for that; nor long after the first,
as one who polls does. Of a loop over different parameters UP101 tells, even where some of them are equal.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from upshift.diagnose.causes import Cause, Causes, seconds_of
from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.writing import is_read
from upshift.sql import Digests, normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite, Record, Statement

CODE = "UP103"

POLLING_SECONDS = 1.0
"""From one execution to the next: who waits that long wants to know what has changed."""

_SEVERAL = 2
_Key = tuple[str, "CallSite | None"]


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each such statement, at the line that sent it first."""
    causes: Causes[_Key, list[Statement]] = Causes()
    fewest = observation.settings.diagnose.repeated_statements
    for record in observation.records:
        for statements in _repetitions(record, fewest):
            first = statements[0]
            sites = [each.site for each in statements]
            causes.see((first.sql, first.site), record, len(statements), statements, sites)
    for (sql, site), cause in causes.by_key.items():
        yield _finding(sql, site, cause)


def _repetitions(record: Record, fewest: int) -> Iterator[list[Statement]]:
    loops = _loops(record, fewest)
    commits = _commits(record)
    open_groups: dict[tuple[str, int | None], list[Statement]] = {}
    closed: list[list[Statement]] = []
    for statement in record.statements:
        if not re.match(r"\s*SELECT\b", statement.sql, re.IGNORECASE):
            closed += open_groups.values()
            open_groups = {}
        elif _is_comparable(statement) and (statement.sql, statement.site) not in loops:
            key = (statement.sql, statement.fingerprint)
            group = open_groups.setdefault(key, [])
            if group and _is_another_reading(group[-1], statement, commits):
                closed.append(group)
                group = open_groups[key] = []
            group.append(statement)
    yield from (group for group in (*closed, *open_groups.values()) if len(group) >= _SEVERAL)


def _commits(record: Record) -> list[float]:
    transactions = (each for hold in record.holds for each in hold.transactions)
    return [each.ended for each in transactions if each.outcome == "commit"]


def _is_another_reading(before: Statement, statement: Statement, commits: list[float]) -> bool:
    if statement.started - before.ended > POLLING_SECONDS:
        return True
    return any(before.ended <= each <= statement.started for each in commits)


def _is_comparable(statement: Statement) -> bool:
    is_asked_for = statement.object_load is None or statement.object_load.reason == "get"
    return (
        statement.fingerprint is not None
        and is_asked_for
        and statement.lazy_load is None
        and not statement.is_eager
        and statement.error is None
        and is_read(statement.sql)
    )


def _loops(record: Record, fewest: int) -> set[_Key]:
    """Statements that one line sends again and again, not always with the same parameters."""
    sent: dict[_Key, list[Statement]] = defaultdict(list)
    for statement in record.statements:
        sent[statement.sql, statement.site].append(statement)
    return {
        key
        for key, statements in sent.items()
        if len(statements) >= fewest and len({each.fingerprint for each in statements}) > 1
    }


def _finding(sql: str, site: CallSite | None, cause: Cause[list[Statement]]) -> Finding:
    statements = cause.worst
    milliseconds = seconds_of(statements) * 1e3
    load = statements[0].object_load
    what = (
        f"session.get({load.model}, …) of the same row"
        if load
        else "the same SELECT with the same parameters"
    )
    fix = ["read it once in the request and hand the result on; FastAPI calls a dependency once in a request"]
    if load:
        fix.append(
            "session.get answers from the session only while an object is referred to, and never for none"
        )
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"{what}: {len(statements)} times in one request",
        site=site,
        also=cause.also(site),
        routes=tuple(sorted(cause.routes)),
        evidence=(
            f"in {cause.times}, {milliseconds:.1f} ms together, with nothing written between",
            normalise(sql),
        ),
        fix=tuple(fix),
        expect=f"{len(statements)} → 1 statement in one request",
        data={
            "digest": Digests().of(sql).id,
            "statements": len(statements),
            "statements_after": 1,
            "seconds": seconds_of(statements),
            "requests": cause.requests,
        },
    )
