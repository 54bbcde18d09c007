"""Index advice for what was observed: in this process, or in a recording of another."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from upshift.errors import IndexAdviceError
from upshift.sql import consolidate, sync_engine_for
from upshift.sql.index_keys import read_index_keys
from upshift.sql.indexes.surplus import surplus_indexes
from upshift.sql.indexes.workload import observed_workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Engine

    from upshift.record import Record
    from upshift.sql import AdviceReport, IndexAdvice, StatementStatistics
    from upshift.sql.index_keys import IndexKeys
    from upshift.sql.indexes.surplus import SurplusIndex


def advise_on(
    statements: Iterable[StatementStatistics],
    engines: Sequence[Engine],
    *,
    records: Iterable[Record] = (),
    try_on_database: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[tuple[IndexAdvice, ...], tuple[str, ...]]:
    """Seek indexes for observed statements.

    Args:
        statements: what was observed.
        engines: the engines that it ran on. Which statement ran on which is not known, so each is asked about
            all; a database refuses to explain what names tables that it does not have.
        records: executions, for parameters besides those of the slowest one.
        try_on_database: try indexes on the tables themselves, in transactions that are rolled back.
        on_progress: told what is being done.

    Returns:
        The advised indexes, and in words what could not be looked at.

    Raises:
        DatabaseUnavailableError: a database cannot be reached any more.
        MissingExtraError: the extra that reads statements is not installed.
    """
    from upshift.sql.indexes.advisor import advise  # it needs an extra, which other commands do without

    workload = observed_workload(statements, records)
    advices: list[IndexAdvice] = []
    notes: list[str] = []
    refusals: list[dict[str, str]] = []
    for engine in {engine.url: engine for engine in engines}.values():
        try:
            report = advise(
                _reachable(engine),
                workload,
                paramstyle=engine.dialect.paramstyle,
                how="transaction" if try_on_database else "copy",
                on_progress=on_progress,
            )
        except IndexAdviceError as error:
            notes.append(f"no index advice for {engine.url.render_as_string()}: {error}")
            continue
        advices += report.advices
        notes += remarks(report)
        refusals.append({each.sql: each.reason for each in report.skipped if each.kind == "refused"})
    return consolidate(advices), (*notes, *refused(refusals))


def surplus_on(engines: Sequence[Engine]) -> tuple[tuple[SurplusIndex, ...], tuple[str, ...]]:
    """Look for indexes that could be dropped; return them, and in words what could not be looked at.

    Raises:
        DatabaseUnavailableError: a database cannot be reached any more.
    """
    found: list[SurplusIndex] = []
    notes: list[str] = []
    for engine in {engine.url: engine for engine in engines}.values():
        if engine.dialect.name in {"postgresql", "sqlite"}:
            try:
                found += surplus_indexes(_reachable(engine))
            except IndexAdviceError as error:
                notes.append(f"no look at the indexes of {engine.url.render_as_string()}: {error}")
    return tuple(found), tuple(notes)


def indexes_of(engines: Iterable[Engine]) -> tuple[IndexKeys, ...]:
    """Read the keys of all indexes of some engines' databases; of one that refuses, none."""
    found: list[IndexKeys] = []
    for engine in {engine.url: engine for engine in engines}.values():
        with suppress(IndexAdviceError, SQLAlchemyError):
            found += read_index_keys(_reachable(engine))
    return tuple(found)


def remarks(report: AdviceReport) -> list[str]:
    """What else a reader of index advice should know."""
    untried = dict.fromkeys(each.reason for each in report.skipped if each.kind == "not tried")
    return [*untried, *(f"not advised: {each.index}: {each.reason}" for each in report.declined)]


def refused(refusals: Sequence[Mapping[str, str]]) -> Iterator[str]:
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


def _reachable(engine: Engine) -> Engine:
    return sync_engine_for(AsyncEngine(engine) if engine.dialect.is_async else engine)
