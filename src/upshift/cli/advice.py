"""Index advice for what was observed in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncEngine

from upshift.errors import IndexAdviceError
from upshift.sql import Sample, consolidate, sync_engine_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Engine

    from upshift.sql import IndexAdvice, StatementStatistics


def advise_on(
    statements: Iterable[StatementStatistics],
    engines: Sequence[Engine],
    *,
    try_on_database: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[tuple[IndexAdvice, ...], tuple[str, ...]]:
    """Seek indexes for observed statements.

    Args:
        statements: what was observed.
        engines: the engines that it ran on. Which statement ran on which is not known, so each is asked about
            all; a database refuses to explain what names tables that it does not have.
        try_on_database: try indexes on the tables themselves, in transactions that are rolled back.
        on_progress: told what is being done.

    Returns:
        The advised indexes, and in words what could not be looked at.

    Raises:
        DatabaseUnavailableError: a database cannot be reached any more.
        MissingExtraError: the extra that reads statements is not installed.
    """
    from upshift.sql.indexes.advisor import advise  # it needs an extra, which other commands do without

    samples = [Sample(row.sql, row.parameters) for row in statements]
    advices: list[IndexAdvice] = []
    notes: list[str] = []
    refusals: list[dict[str, str]] = []
    for engine in {engine.url: engine for engine in engines}.values():
        try:
            reachable = sync_engine_for(AsyncEngine(engine) if engine.dialect.is_async else engine)
            report = advise(
                reachable,
                samples,
                paramstyle=engine.dialect.paramstyle,
                how="transaction" if try_on_database else "copy",
                on_progress=on_progress,
            )
        except IndexAdviceError as error:
            notes.append(f"no index advice for {engine.url.render_as_string()}: {error}")
            continue
        advices += report.advices
        notes += dict.fromkeys(each.reason for each in report.skipped if each.kind == "not tried")
        refusals.append({each.sql: each.reason for each in report.skipped if each.kind == "refused"})
    return consolidate(advices), (*notes, *_refused(refusals))


def _refused(refusals: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Tell of the statements that no database explained, the reasons being the first one's."""
    reasons = [
        reason
        for sql, reason in (refusals[0].items() if refusals else ())
        if all(sql in each for each in refusals)
    ]
    if len(reasons) == 1:
        yield f"no index advice for a statement that the database would not explain: {reasons[0]}"
    elif reasons:
        yield (
            f"no index advice for {len(reasons)} statements that the database would not explain;"
            f" of the first it says: {reasons[0]}"
        )
