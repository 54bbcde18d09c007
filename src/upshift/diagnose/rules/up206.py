"""UP206: a result without a bound, that has become large.

A SELECT without LIMIT returns what the table has, and more each day. One that has a natural bound is left
alone: an aggregate, groups, a list of keys, a load of one object, a page; and so is a streamed response,
which is meant to be long. So is whatever has returned few rows until now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.causes import Cause, Causes
from upshift.diagnose.finding import Finding, Severity
from upshift.sql import Digests, normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite, Statement

CODE = "UP206"


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each statement and line that has returned many rows."""
    many = observation.settings.diagnose.unbounded_rows
    causes: Causes[tuple[str, CallSite | None], Statement] = Causes()
    for record in observation.records:
        for each in record.statements if not record.is_streamed else ():
            if (each.rows or 0) >= many and _is_unbounded(each, observation):
                causes.see((normalise(each.sql), each.site), record, each.rows or 0, each)
    for (text, site), cause in causes.by_key.items():
        yield _finding(text, site, cause)


def _is_unbounded(statement: Statement, observation: Observation) -> bool:
    if statement.is_eager or statement.object_load is not None:
        return False
    shape = observation.shapes.of(statement.sql)
    return shape is not None and shape.is_whole


def _finding(text: str, site: CallSite | None, cause: Cause[Statement]) -> Finding:
    worst = cause.worst
    rows = worst.rows or 0
    collection = worst.lazy_load.relationship if worst.lazy_load else None
    fix = (
        (f"select a page of {collection} with a query of its own; it is the whole collection",)
        if collection
        else ("take a page: .order_by(Model.id).limit(size), and the next one by where(Model.id > last_id)",)
    )
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        title=f"{rows:,} rows without a LIMIT",
        site=site,
        routes=tuple(sorted(cause.routes)),
        evidence=(f"in {cause.times}, at most {rows:,} rows in {worst.seconds * 1e3:.1f} ms", text),
        fix=(*fix, "or aggregate in SQL, where only sums of the rows are wanted"),
        expect="memory and time that do not grow with the table",
        data={
            "digest": Digests().of(worst.sql).id,
            "rows": rows,
            "seconds": worst.seconds,
            "requests": cause.requests,
        },
    )
