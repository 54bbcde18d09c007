"""UP107: objects that a commit has expired are reloaded one by one.

A commit expires all objects of its session (`expire_on_commit`), as other transactions may change their
rows from then on. The next read of each of them is a SELECT.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from upshift.diagnose.causes import Cause, Causes, seconds_of
from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.places import place_of
from upshift.sql import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite, Record, Statement

CODE = "UP107"

_Key = tuple[str, "CallSite | None"]


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each class and line that reads expired objects of it."""
    causes: Causes[_Key, tuple[list[Statement], set[CallSite]]] = Causes()
    fewest = observation.settings.diagnose.repeated_statements
    for record in observation.records:
        for key, statements in _reloads(record).items():
            if len(statements) >= fewest:
                commits = _commits_before(record, statements[0])
                causes.see(key, record, len(statements), (statements, commits))
    for (model, site), cause in causes.by_key.items():
        yield _finding(model, site, cause)


def _reloads(record: Record) -> dict[_Key, list[Statement]]:
    reloads: dict[_Key, list[Statement]] = defaultdict(list)
    for statement in record.statements:
        if statement.object_load is not None and statement.object_load.reason == "expired":
            reloads[statement.object_load.model, statement.site].append(statement)
    return reloads


def _commits_before(record: Record, statement: Statement) -> set[CallSite]:
    transactions = [each for hold in record.holds for each in hold.transactions]
    return {each.site for each in transactions if each.site is not None and each.ended <= statement.started}


def _finding(
    model: str, site: CallSite | None, cause: Cause[tuple[list[Statement], set[CallSite]]]
) -> Finding:
    statements, commits = cause.worst
    count, seconds = len(statements), seconds_of(statements)
    evidence = [f"in {cause.times}, at most {count} of {seconds * 1e3:.1f} ms together"]
    evidence += [f"expired by the commit at {place_of(each)}" for each in sorted(commits)]
    evidence.append(normalise(statements[0].sql))
    return Finding(
        code=CODE,
        severity=Severity.ERROR,
        title=f"{count} objects of {model}, expired by a commit, are reloaded one by one",
        site=site,
        routes=tuple(sorted(cause.routes)),
        evidence=tuple(evidence),
        fix=(
            "read what the answer needs before the commit",
            "or sessionmaker(…, expire_on_commit=False), where changes of others need not be seen",
            (
                f"or reload them together: session.scalars(select({model}).where(…)"
                ".execution_options(populate_existing=True)).all()"
            ),
            "or Upshift(app, engine=engine, batching=True), which reloads them in batches",
        ),
        expect=f"{count} → at most 1 statement in one request",
        data={"model": model, "statements": count, "seconds": seconds, "requests": cause.requests},
    )
