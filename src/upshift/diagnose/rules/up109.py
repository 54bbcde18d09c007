"""UP109: rows inserted one statement each.

SQLAlchemy sends many rows with one statement (`executemany`, or one INSERT with many VALUES) when it has
them together: in one flush, or in one list of parameters. A flush or an execution for each row takes that
away.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from upshift.diagnose.causes import Cause, Causes, seconds_of
from upshift.diagnose.finding import Finding, Severity
from upshift.diagnose.writing import is_insert
from upshift.sql import Digests, normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite, Record, Statement

CODE = "UP109"

_Key = tuple[str, "CallSite"]


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each INSERT that one line sends again and again in one transaction."""
    causes: Causes[_Key, list[Statement]] = Causes()
    fewest = observation.settings.diagnose.repeated_statements
    for record in observation.records:
        for statements in _by_transaction(record):
            for key, inserts in _inserts(statements).items():
                if len(inserts) >= fewest:
                    causes.see(key, record, len(inserts), inserts)
    for (text, site), cause in causes.by_key.items():
        yield _finding(text, site, cause)


def _by_transaction(record: Record) -> Iterator[list[Statement]]:
    """The statements of each transaction; rows that are committed one by one are UP108's."""
    for hold in record.holds:
        for transaction in hold.transactions:
            yield hold.statements[transaction.first : transaction.after]


def _inserts(statements: Iterable[Statement]) -> dict[_Key, list[Statement]]:
    inserts: dict[_Key, list[Statement]] = defaultdict(list)
    for statement in statements:
        # With a driver that keeps no order SQLAlchemy itself sends a list of rows one by one.
        is_single = statement.executions == 1 and (statement.rows or 0) <= 1 and not statement.is_bulk
        if is_single and statement.site is not None and is_insert(statement.sql):
            inserts[normalise(statement.sql), statement.site].append(statement)
    return inserts


def _finding(text: str, site: CallSite, cause: Cause[list[Statement]]) -> Finding:
    count, seconds = len(cause.worst), seconds_of(cause.worst)
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"{count} rows inserted one by one in one request",
        site=site,
        routes=tuple(sorted(cause.routes)),
        evidence=(f"in {cause.times}, at most {count} INSERTs of {seconds * 1e3:.1f} ms together", text),
        fix=(
            "session.execute(insert(Model), rows) with a list of mappings: one statement for many rows",
            "or session.add_all(objects) and one flush: no flush, query or commit between the rows",
        ),
        expect=f"{count} → 1 statement in one request",
        data={
            "digest": Digests().of(text).id,
            "statements": count,
            "seconds": seconds,
            "requests": cause.requests,
        },
    )
