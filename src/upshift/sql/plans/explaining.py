"""Explains what was observed in one go, for a command that has the application's statements before it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from upshift.errors import DatabaseUnavailableError, IndexAdviceError
from upshift.sql.placeholders import Sample
from upshift.sql.plans.aside import aside_engine, deadline
from upshift.sql.plans.explain import ExplainRefusedError, first_line
from upshift.sql.plans.explanation import STATEMENT_SECONDS, explain_statement
from upshift.sql.plans.history import PlanHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from upshift.sql.analysis.statistics import StatementStatistics
    from upshift.sql.plans.explanation import Explanation
    from upshift.sql.plans.history import StatementPlans

MAX_STATEMENTS = 200
"""Statements that are explained, the most expensive."""

DEADLINE_SECONDS = 2 * STATEMENT_SECONDS
"""How long one of them may take before its connection is ended."""


def explain_statements(
    statements: Iterable[StatementStatistics],
    engines: Iterable[sa.Engine],
    *,
    analyze: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[StatementPlans, ...]:
    """Return the plans of observed statements, each from the first of the engines that can tell.

    What no engine explains is left out, and so are databases that have no plans to read.

    Args:
        statements: what was observed, the most expensive first.
        engines: the engines that they ran on. Which statement ran on which is not known; a database refuses
            what names tables that it does not have.
        analyze: execute SELECTs that change nothing, to measure them.
        on_progress: told what is being done.

    Raises:
        DatabaseUnavailableError: a database cannot be reached any more.
        MissingExtraError: `analyze` is asked for, and the extra that reads statements is not installed.
    """
    waiting = list(statements)[:MAX_STATEMENTS]
    history = PlanHistory()
    for engine in {engine.url: engine for engine in engines}.values():
        try:
            aside = aside_engine(engine)
        except (ExplainRefusedError, IndexAdviceError):
            continue
        on_progress(f"explaining {len(waiting)} statements")
        explained = set()
        for row in waiting:
            with suppress(ExplainRefusedError):
                explanation = _explain(aside, row, engine.dialect.paramstyle, analyze=analyze)
                history.add(row.digest, explanation, at=time.time(), seconds=row.seconds.mean)
                explained.add(row.digest)
        waiting = [row for row in waiting if row.digest not in explained]
    return history.statements()


def _explain(engine: sa.Engine, row: StatementStatistics, paramstyle: str, *, analyze: bool) -> Explanation:
    sample = Sample(row.sql, row.parameters)
    try:
        with deadline(engine, DEADLINE_SECONDS), engine.connect() as connection:
            return explain_statement(connection, sample, paramstyle=paramstyle, analyze=analyze)
    except (sa.exc.DBAPIError, OSError) as error:
        where = engine.url.render_as_string()
        raise DatabaseUnavailableError(f"lost the connection to {where}: {first_line(error)}") from error
