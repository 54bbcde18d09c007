"""UP203: all rows are counted for each page that is shown of them.

A page by LIMIT reads as many rows as it shows; the count beside it reads all that meet the conditions,
again for each page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from upshift.diagnose.causes import Cause, Causes
from upshift.diagnose.cost import severity_by_time
from upshift.diagnose.finding import Finding
from upshift.sql import Digests, normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.diagnose.observation import Observation
    from upshift.record import CallSite, Record, Statement

CODE = "UP203"

_LEAST_ROWS = 2  # of a page


class _Counted(NamedTuple):
    counting: Statement
    page: Statement


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each statement that counts what another of the same request takes a page of."""
    causes: Causes[tuple[str, CallSite | None], _Counted] = Causes()
    for record in observation.records:
        for pair in _pairs(record, observation):
            key = (normalise(pair.counting.sql), pair.counting.site)
            causes.see(key, record, pair.counting.seconds, pair, [pair.page.site])
    for (text, site), cause in causes.by_key.items():
        yield _finding(observation, text, site, cause)


def _pairs(record: Record, observation: Observation) -> Iterator[_Counted]:
    pages: dict[str, Statement] = {}
    for statement in record.statements:
        if (statement.rows or 0) < _LEAST_ROWS:
            continue  # the latest one, say
        if "LIMIT" in (text := statement.sql.upper()) or "FETCH" in text:
            shape = observation.shapes.of(statement.sql)
            pages.update(dict.fromkeys(shape.paged if shape else (), statement))
    for statement in record.statements if pages else ():
        if "COUNT(" in statement.sql.upper():
            shape = observation.shapes.of(statement.sql)
            if shape is not None and shape.counted in pages:
                yield _Counted(statement, pages[shape.counted])


def _finding(observation: Observation, text: str, site: CallSite | None, cause: Cause[_Counted]) -> Finding:
    count, page = cause.worst
    return Finding(
        code=CODE,
        severity=severity_by_time([count], observation),
        title=f"all rows are counted for one page of {page.rows or 0}",
        site=site,
        also=cause.also(site),
        routes=tuple(sorted(cause.routes)),
        evidence=(
            f"in {cause.times}; count {count.seconds * 1e3:.1f} ms, page {page.seconds * 1e3:.1f} ms",
            text,
        ),
        fix=(
            "ask for one row more than the page has, .limit(size + 1), and show whether there is a next page",
            "or keep the number for a while, or estimate it (on PostgreSQL from pg_class.reltuples)",
        ),
        expect=f"one statement and {count.seconds * 1e3:.1f} ms less for each page",
        data={
            "digest": Digests().of(count.sql).id,
            "seconds": count.seconds,
            "page_seconds": page.seconds,
            "requests": cause.requests,
        },
    )
