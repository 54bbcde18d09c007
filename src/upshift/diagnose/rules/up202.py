"""UP202: a page deep in a table by OFFSET, for which all rows before it are read and thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upshift.diagnose.causes import Cause, Causes
from upshift.diagnose.cost import severity_by_time
from upshift.diagnose.finding import Finding
from upshift.sql import Digests, normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite, Statement

CODE = "UP202"

LEAST_RATIO = 10
"""Rows skipped for each one returned; with fewer the page is as large as what is before it."""


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each statement that skipped many rows."""
    deep = observation.settings.diagnose.deep_offset_rows
    causes: Causes[tuple[str, CallSite | None], Statement] = Causes()
    for record in observation.records:
        for each in record.statements:
            if each.offset >= deep and each.offset >= LEAST_RATIO * (each.rows or 0):
                causes.see((normalise(each.sql), each.site), record, each.offset, each)
    for (text, site), cause in causes.by_key.items():
        yield _finding(observation, text, site, cause)


def _finding(observation: Observation, text: str, site: CallSite | None, cause: Cause[Statement]) -> Finding:
    worst = cause.worst
    return Finding(
        code=CODE,
        severity=severity_by_time([worst], observation),
        title=f"OFFSET {worst.offset:,}: as many rows are read and thrown away",
        site=site,
        routes=tuple(sorted(cause.routes)),
        evidence=(
            f"in {cause.times}; {worst.rows or 0} rows returned in {worst.seconds * 1e3:.1f} ms",
            text,
        ),
        fix=(
            "select(Model).where(Model.id > last_id).order_by(Model.id).limit(size): the next page by key",
            "or allow no page that deep; hardly anybody looks there but crawlers",
        ),
        expect=f"about {worst.offset:,} rows fewer read, and every page as fast as the first",
        data={
            "digest": Digests().of(worst.sql).id,
            "offset": worst.offset,
            "rows": worst.rows,
            "seconds": worst.seconds,
            "requests": cause.requests,
        },
    )
