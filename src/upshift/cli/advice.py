"""Index advice for what was observed in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncEngine

from upshift.errors import IndexAdviceError
from upshift.sql import Sample, consolidate, sync_engine_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

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
    from upshift.sql.advisor import advise  # it needs an extra, which other commands do without

    samples = [Sample(row.sql, row.parameters) for row in statements]
    advices: list[IndexAdvice] = []
    notes: list[str] = []
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
    return consolidate(advices), tuple(notes)
