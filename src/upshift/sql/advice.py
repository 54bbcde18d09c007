"""Index advice: which indexes would make captured statements at least twice as cheap, seen to do so.

The indexes are chosen in rounds, greedily, as index advisers have done since AutoAdmin (Chaudhuri and
Narasayya, "An Efficient Cost-Driven Index Selection Tool", VLDB 1997). In each round every candidate is
built alone on top of those already chosen, and every statement that reaches its table is planned again.
A candidate helps a statement if the plan uses it by name and costs at most half. Of those that help it
nearly as well as the best one, the round chooses so that few indexes serve all statements, narrow ones
first. Chosen indexes then stand while the next round looks for what else helps, as the second table of a
join needs an index of its own.

Two indexes that help only together are not found.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from upshift.errors import IndexAdviceError
from upshift.sql.candidates import propose
from upshift.sql.catalog import TableName
from upshift.sql.explain import ExplainRefusedError
from upshift.sql.index import covers
from upshift.sql.migration import operations
from upshift.sql.statement import UnreadableStatementError
from upshift.sql.trial import MAX_COPY_BYTES, postgres_trial
from upshift.sql.trial_sqlite import sqlite_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    import sqlalchemy as sa

    from upshift.sql.catalog import Table
    from upshift.sql.explain import Plan
    from upshift.sql.index import Index
    from upshift.sql.placeholders import Sample
    from upshift.sql.trial import How, Trial

MAX_STATEMENTS = 500
"""Distinct statements that are looked at in one go."""

MAX_CANDIDATES_A_TABLE = 24
"""Candidates that are built on one table in one round; those that most statements ask for come first."""

_MAX_ROUNDS = 4
_LEAST_ROWS = 1_000
_MOST_LEFT = 0.5  # of the cost that an index must have cut
_NEARLY = 1.3  # times the best cost is nearly the best,
_A_PAGE = 4.0  # and so is whatever costs one page read at random more (PostgreSQL's random_page_cost)


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index that the planner was seen to use for a statement, at half its cost or less.

    Attributes:
        index: the index, with its SQL.
        sql: the statement it serves, as it was captured.
        cost_before: without it, as things stand or with the indexes advised before it.
        cost_after: with it.
        unit: of the costs: "planner cost" on PostgreSQL, "steps" on SQLite.
        plan_before: the plan without it, a node a line.
        plan_after: the plan with it.
        verified: where it was tried.
    """

    index: Index
    sql: str
    cost_before: float
    cost_after: float
    unit: Literal["planner cost", "steps"]
    plan_before: tuple[str, ...]
    plan_after: tuple[str, ...]
    verified: How

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as JSON-ready data; `index_from_dict` reads the index back from it."""
        described: dict[str, Any] = msgspec.to_builtins(self)
        return (
            described.pop("index")
            | {
                "name": self.index.name,
                "create_sql": self.index.create_sql,
                "undo_sql": self.index.undo_sql,
                "alembic": operations([self.index]),
            }
            | described
        )


@dataclass(frozen=True, slots=True)
class Skipped:
    """A statement for which advice could not be sought, wholly or for one of its tables.

    Attributes:
        sql: the statement as it was captured.
        kind: "unreadable" (it is no SELECT, UPDATE or DELETE that can be parsed), "refused" (the database
            would not explain it) or "not tried" (its table cannot be copied).
        reason: why, for the reader.
    """

    sql: str
    kind: Literal["unreadable", "refused", "not tried"]
    reason: str


@dataclass(frozen=True, slots=True)
class AdviceReport:
    """What `advise` found.

    Attributes:
        advices: one for each index and statement it serves.
        skipped: the statements it could not judge.
    """

    advices: tuple[IndexAdvice, ...]
    skipped: tuple[Skipped, ...]


def advise(
    engine: sa.Engine,
    samples: Iterable[Sample],
    *,
    paramstyle: str | None = None,
    how: How = "copy",
    max_copy_bytes: int = MAX_COPY_BYTES,
    on_progress: Callable[[str], None] = lambda _: None,
) -> AdviceReport:
    """Seek indexes for captured statements; none of them is executed on the database.

    Args:
        engine: a synchronous engine; see `upshift.sql.engines.sync_engine_for`.
        samples: the statements; of equal texts the first is taken, and `MAX_STATEMENTS` texts at most.
        paramstyle: of the dialect they were captured on, where it is not the engine's own
            ("numeric_dollar" for asyncpg).
        how: where candidates are built; "transaction" keeps writers of the tables waiting, and is taken as
            "copy" on SQLite.
        max_copy_bytes: tables (on SQLite, databases) larger than this are not copied.
        on_progress: told what is being done, in a few words.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        IndexAdviceError: the database is neither PostgreSQL nor SQLite, or an SQLite one cannot be copied.
    """
    match engine.dialect.name:
        case "postgresql":
            style = paramstyle or engine.dialect.paramstyle
            place = postgres_trial(
                engine, style, how=how, max_copy_bytes=max_copy_bytes, on_progress=on_progress
            )
        case "sqlite":
            place = sqlite_trial(engine, max_copy_bytes=max_copy_bytes, on_progress=on_progress)
        case name:
            raise IndexAdviceError(f"index advice knows PostgreSQL and SQLite, not {name}")
    distinct = {sample.sql: sample for sample in reversed(list(samples))}
    with place as trial:
        return _Advising(trial, on_progress).advise(list(reversed(distinct.values()))[:MAX_STATEMENTS])


def consolidate(advices: Iterable[IndexAdvice]) -> dict[Index, tuple[IndexAdvice, ...]]:
    """Return the indexes to create, each with the advices it answers.

    An index whose columns are the leading ones of another advised index is left out, and its statements are
    served by the wider one.
    """
    advices = list(advices)
    served: dict[Index, list[IndexAdvice]] = {}
    for index in sorted({advice.index for advice in advices}, key=lambda index: (-len(index.columns), index.name)):
        wider = (kept for kept in served if _same_table(kept, index) and covers(kept.columns, index.columns))
        answered = served.setdefault(next(wider, index), [])
        answered += [advice for advice in advices if advice.index == index]
    return {index: tuple(answered) for index, answered in served.items()}


@dataclass(slots=True, eq=False)
class _Case:
    """A statement under advice, and how it stands with the indexes chosen so far."""

    sample: Sample
    reaches: frozenset[tuple[str | None, str]]
    candidates: list[Index]
    plan: Plan
    cost: float


class _Advising:
    """One run of `advise` in one trial."""

    def __init__(self, trial: Trial, on_progress: Callable[[str], None]) -> None:
        self._trial = trial
        self._on_progress = on_progress
        self._tables: dict[TableName, Table] = {}
        self._skipped: list[Skipped] = []
        self._standing: list[Index] = []
        self._hopeless: set[Index] = set()

    def advise(self, samples: list[Sample]) -> AdviceReport:
        self._on_progress(f"explaining {len(samples)} statements")
        cases = self._enclose([case for sample in samples if (case := self._open(sample))])
        advices: list[IndexAdvice] = []
        with ExitStack() as stack:
            for _ in range(_MAX_ROUNDS):
                gains = self._try(cases)
                chosen = choose(gains)
                for index in chosen:
                    stack.enter_context(self._trial.built(index))
                self._standing += chosen
                advices += self._judge(chosen, gains)
                if not chosen:
                    break
        return AdviceReport(tuple(advices), tuple(self._skipped))

    def _open(self, sample: Sample) -> _Case | None:
        """Read and plan a statement; None where it needs no index or cannot be judged."""
        try:
            statement = self._trial.read(sample)
            plan = self._trial.explain(sample)
        except UnreadableStatementError as error:
            return self._skip(sample, "unreadable", str(error))
        except ExplainRefusedError as error:
            return self._skip(sample, "refused", str(error))
        if plan.cost < self._trial.least_cost:
            return None
        ...
