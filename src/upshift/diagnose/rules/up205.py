"""UP205: an indexed column is compared through a function, so its index does not serve.

It takes the database's catalogue to know which columns have an index, so it is found by `upshift find`
only. Where an index on the same expression exists there is nothing to say.
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
    from upshift.sql.shape import Wrapped

CODE = "UP205"


def find(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each statement and line that compares an indexed column so."""
    advised = {sql for advice in observation.advice for sql in advice.serves}
    causes: Causes[tuple[str, CallSite | None, Wrapped], Statement] = Causes()
    for record in observation.records if observation.indexes else ():
        for statement in record.statements:
            if statement.sql not in advised and not statement.is_eager:
                for wrapped in _unserved(statement, observation):
                    key = (normalise(statement.sql), statement.site, wrapped)
                    causes.see(key, record, statement.seconds, statement)
    for (text, site, wrapped), cause in causes.by_key.items():
        yield _finding(observation, text, site, wrapped, cause)


def _unserved(statement: Statement, observation: Observation) -> Iterator[Wrapped]:
    shape = observation.shapes.of(statement.sql)
    for wrapped in shape.wrapped if shape else ():
        own = [index for index in observation.indexes if index.table.lower() == wrapped.table.lower()]
        is_indexed = any(index.keys[0].lower() == wrapped.column.lower() for index in own)
        if is_indexed and not any(index.holds(wrapped.expression) for index in own):
            yield wrapped


def _finding(
    observation: Observation,
    text: str,
    site: CallSite | None,
    wrapped: Wrapped,
    cause: Cause[Statement],
) -> Finding:
    worst = cause.worst
    name = f"{wrapped.table}.{wrapped.column}"
    return Finding(
        code=CODE,
        severity=severity_by_time([worst], observation),
        title=f"{wrapped.expression} is compared, so the index on {name} does not serve",
        site=site,
        routes=tuple(sorted(cause.routes)),
        evidence=(f"in {cause.times}, {worst.seconds * 1e3:.1f} ms for {worst.rows or 0} rows", text),
        fix=(
            f"compare the bare column: of dates {wrapped.column} >= :day AND {wrapped.column} < :end",
            f"or CREATE INDEX … ON {wrapped.table} (({wrapped.expression}))",
        ),
        expect="the rows that match are read by an index, not all",
        data={
            "digest": Digests().of(worst.sql).id,
            "table": wrapped.table,
            "column": wrapped.column,
            "expression": wrapped.expression,
            "seconds": worst.seconds,
            "requests": cause.requests,
        },
    )
