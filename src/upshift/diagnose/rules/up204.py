"""UP204: LIKE with a pattern that begins with a wildcard, which no B-tree serves.

The pattern is the text's own (`'%' || ? || '%'`, as SQLAlchemy's `contains` writes it) or a parameter; of a
parameter the record tells how it begins. Where the catalogue was read and the column has a trigram index,
there is nothing to say.
"""

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

CODE = "UP204"


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each statement and line with such a pattern."""
    causes: Causes[tuple[str, CallSite | None, tuple[str, ...]], Statement] = Causes()
    for record in observation.records:
        for statement in record.statements:
            columns = _open_columns(statement, observation)
            if columns:
                key = (normalise(statement.sql), statement.site, columns)
                causes.see(key, record, statement.seconds, statement)
    for (text, site, columns), cause in causes.by_key.items():
        yield _finding(observation, text, site, columns, cause)


def _open_columns(statement: Statement, observation: Observation) -> tuple[str, ...]:
    if "LIKE" not in statement.sql.upper():
        return ()
    shape = observation.shapes.of(statement.sql)
    if shape is None:
        return ()
    columns = (*shape.open_patterns, *(shape.patterns if statement.has_open_pattern else ()))
    served = {
        column
        for index in observation.indexes
        if index.is_trigram
        for column in columns
        if index.names(column)
    }
    return tuple(dict.fromkeys(column for column in columns if column not in served))


def _finding(
    observation: Observation,
    text: str,
    site: CallSite | None,
    columns: tuple[str, ...],
    cause: Cause[Statement],
) -> Finding:
    worst, named = cause.worst, ", ".join(columns)
    return Finding(
        code=CODE,
        severity=severity_by_time([worst], observation),
        title=f"LIKE '%…' on {named} reads every row",
        site=site,
        routes=tuple(sorted(cause.routes)),
        evidence=(f"in {cause.times}, {worst.seconds * 1e3:.1f} ms for {worst.rows or 0} rows", text),
        fix=(
            f"on PostgreSQL: CREATE EXTENSION pg_trgm; CREATE INDEX … USING gin ({columns[0]} gin_trgm_ops)",
            "or Model.column.startswith(text), which an index on the column serves (text_pattern_ops)",
            "or search words with the database's full text search (tsvector on PostgreSQL, FTS5 on SQLite)",
        ),
        expect="the rows that match are read, not all",
        data={
            "digest": Digests().of(worst.sql).id,
            "columns": list(columns),
            "seconds": worst.seconds,
            "requests": cause.requests,
        },
    )
