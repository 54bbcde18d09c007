"""Index advice: which indexes would make a workload cheaper than keeping them costs, and are seen to.

The statements are read and planned (`cases`), candidates are read from them (`candidates`), chosen for all
statements together by the planner's word (`search`, after Extend), and then proved by execution on a copy
(`proof`), where that is possible. What is advised has passed all of that.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from upshift.errors import IndexAdviceError, MissingExtraError
from upshift.sql.indexes.advice import AdviceReport, consolidate
from upshift.sql.indexes.workload import Work, as_workload

try:
    from upshift.sql.indexes.cases import Cases
    from upshift.sql.indexes.proof import HALF, Proof
    from upshift.sql.indexes.search import Search
    from upshift.sql.indexes.trial import MAX_COPY_BYTES, postgres_trial
    from upshift.sql.indexes.trial_sqlite import sqlite_trial
except ModuleNotFoundError as error:  # these read statements with sqlglot
    raise MissingExtraError("index advice", "find") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import sqlalchemy as sa

    from upshift.sql.indexes.advice import How
    from upshift.sql.placeholders import Sample

MAX_SECONDS = 120.0
"""How long candidates are tried; what was found by then is proved, which takes a little longer."""

_MOST_LEFT = 0.8  # of a statement's cost, where execution has the last word

__all__ = ["Work", "advise"]


def advise(  # noqa: PLR0913 - settings with defaults, named by their callers
    engine: sa.Engine,
    statements: Iterable[Sample | Work],
    *,
    paramstyle: str | None = None,
    how: How = "copy",
    max_copy_bytes: int = MAX_COPY_BYTES,
    max_seconds: float = MAX_SECONDS,
    on_progress: Callable[[str], None] = lambda _: None,
) -> AdviceReport:
    """Seek indexes for captured statements. None of them is executed on the application's own tables.

    Args:
        engine: a synchronous engine; see `upshift.sql.engines.sync_engine_for`.
        statements: the workload; a `Sample` is a statement that ran once.
        paramstyle: of the dialect they were captured on, where that is not the engine's own
            ("numeric_dollar" for asyncpg).
        how: where candidates are built on PostgreSQL; "transaction" keeps writers of the tables waiting.
        max_copy_bytes: of a larger table a sample is copied; a larger SQLite database is refused.
        max_seconds: after these no further candidate is tried.
        on_progress: told what is being done, in a few words.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        IndexAdviceError: the database is neither PostgreSQL nor SQLite, an SQLite one cannot be copied, or
            another run on it does not end.
    """
    style = paramstyle or engine.dialect.paramstyle
    match engine.dialect.name:
        case "postgresql":
            place = postgres_trial(engine, style, how, max_copy_bytes, on_progress)
        case "sqlite":
            place = sqlite_trial(engine, max_copy_bytes, on_progress)
        case name:
            raise IndexAdviceError(f"index advice knows PostgreSQL and SQLite, not {name}")
    workload = as_workload(statements)
    with place as trial, ExitStack() as standing:
        on_progress(f"explaining {len(workload)} statements")
        cases = Cases(trial, style, workload)
        deadline = time.monotonic() + max_seconds
        most_left = _MOST_LEFT if trial.how == "copy" else HALF
        chosen = Search(trial, cases, most_left, deadline, on_progress).run(standing)
        advices, declined = Proof(trial, cases, on_progress).run(chosen, standing)
    return AdviceReport(consolidate(advices), cases.skipped, tuple(declined))
