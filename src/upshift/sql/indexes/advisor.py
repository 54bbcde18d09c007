"""Index advice: which indexes would make captured statements at least twice as cheap, and are seen to.

Indexes are chosen in rounds, greedily, as index advisers have done since AutoAdmin (Chaudhuri and Narasayya,
"An Efficient, Cost-Driven Index Selection Tool for Microsoft SQL Server", VLDB 1997). In a round every
candidate is built by itself on top of those already chosen, and every statement that reaches its table is
planned again. A candidate helps a statement when the plan names it and costs at most half. Among those that
help it about as well as the best, `choose` takes few indexes for all statements together, narrow ones first.
The chosen ones stand while the next round looks for more, as the second table of a join may need its own.

Two indexes that help only together are not found.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from upshift.errors import IndexAdviceError, MissingExtraError
from upshift.sql.indexes.advice import AdviceReport, IndexAdvice, Served, Skipped, consolidate
from upshift.sql.indexes.index import Index, Target, covers
from upshift.sql.plans.explain import ExplainRefusedError

try:
    from upshift.sql.indexes.candidates import propose
    from upshift.sql.indexes.trial import MAX_COPY_BYTES, postgres_trial
    from upshift.sql.indexes.trial_sqlite import sqlite_trial
    from upshift.sql.statement import UnreadableStatementError
except ModuleNotFoundError as error:  # these read statements with sqlglot
    raise MissingExtraError("index advice", "find") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    import sqlalchemy as sa

    from upshift.sql.catalog import Table, TableName
    from upshift.sql.indexes.advice import How
    from upshift.sql.indexes.trial import Trial
    from upshift.sql.placeholders import Sample
    from upshift.sql.plans.explain import Plan

MAX_STATEMENTS = 500
"""Distinct statements that are looked at in one run."""

MAX_CANDIDATES = 24
"""Candidates that are built on one table in one round; those that most statements ask for come first."""

_MAX_ROUNDS = 4
_LEAST_ROWS = 1_000
_LEAST_BYTES = 2**20  # a table this large has more rows than old statistics may say
_MOST_LEFT = 0.5  # of the cost that an index must have cut
_NEARLY = 1.3  # times the best cost is about as good

_Key = TypeVar("_Key", bound="Hashable")


def advise(  # noqa: PLR0913 - settings with defaults, named by their callers
    engine: sa.Engine,
    samples: Iterable[Sample],
    *,
    paramstyle: str | None = None,
    how: How = "copy",
    max_copy_bytes: int = MAX_COPY_BYTES,
    on_progress: Callable[[str], None] = lambda _: None,
) -> AdviceReport:
    """Seek indexes for captured statements. None of them is executed on the application's database.

    Args:
        engine: a synchronous engine; see `upshift.sql.engines.sync_engine_for`.
        samples: the statements; of equal texts the first is taken, and `MAX_STATEMENTS` texts at most.
        paramstyle: of the dialect they were captured on, where that is not the engine's own
            ("numeric_dollar" for asyncpg).
        how: where candidates are built on PostgreSQL; "transaction" keeps writers of the tables waiting.
        max_copy_bytes: tables (on SQLite, databases) larger than this are not copied.
        on_progress: told what is being done, in a few words.

    Raises:
        DatabaseUnavailableError: the database cannot be reached, or went away.
        IndexAdviceError: the database is neither PostgreSQL nor SQLite, or an SQLite one cannot be copied.
    """
    match engine.dialect.name:
        case "postgresql":
            style = paramstyle or engine.dialect.paramstyle
            place = postgres_trial(engine, style, how, max_copy_bytes, on_progress)
        case "sqlite":
            place = sqlite_trial(engine, max_copy_bytes, on_progress)
        case name:
            raise IndexAdviceError(f"index advice knows PostgreSQL and SQLite, not {name}")
    distinct: dict[str, Sample] = {}
    for sample in samples:
        if len(distinct) < MAX_STATEMENTS:
            distinct.setdefault(sample.sql, sample)
    with place as trial:
        return _Advising(trial, on_progress).advise(list(distinct.values()))


def choose(gains: Mapping[Index, Mapping[_Key, float]], negligible: float = 0.0) -> list[Index]:
    """Choose few indexes so that every statement has one that serves it about as well as its best.

    A greedy set cover: again and again the index that serves most statements still waiting; among equals the
    one with fewest columns.

    Args:
        gains: for each index the statements it helps, with their costs under it.
        negligible: costs that differ by no more than this are about the same.

    Example:
        >>> from upshift.sql.indexes.index import Index, IndexColumn
        >>> narrow, wide = (Index("sqlite", "t", tuple(map(IndexColumn, names))) for names in ("a", "ab"))
        >>> choose({narrow: {"p": 10, "q": 900}, wide: {"p": 9, "q": 10}}) == [wide]
        True
        >>> choose({narrow: {"p": 10, "q": 11}, wide: {"p": 9, "q": 10}}) == [narrow]
        True
    """
    best: dict[_Key, float] = {}
    for costs in gains.values():
        for statement, cost in costs.items():
            best[statement] = min(cost, best.get(statement, cost))
    good = {
        index: {
            statement
            for statement, cost in costs.items()
            if cost <= max(best[statement] * _NEARLY, best[statement] + negligible)
        }
        for index, costs in gains.items()
    }
    chosen: list[Index] = []
    waiting = set(best)
    while waiting:
        index = min(good, key=lambda index: (-len(good[index] & waiting), len(index.columns), index.name))
        chosen.append(index)
        waiting -= good.pop(index)
    return chosen


Gains = dict[Index, dict["_Case", float]]
"""For each index that was built, the statements it helps and their costs under it."""


@dataclass(slots=True, eq=False)
class _Case:
    """A statement under advice, and how it stands with the indexes chosen so far.

    Attributes:
        sample: the statement.
        targets: the tables on which an index may still help it, with the names it has for them.
        candidates: the indexes that might help it.
        plan: its plan with the indexes chosen so far.
        cost: its cost with them; at first the lesser of the table's own and its copy's.
    """

    sample: Sample
    targets: dict[Target, TableName]
    candidates: list[Index]
    plan: Plan
    cost: float

    def wants(self, index: Index, gains: Gains) -> bool:
        """Whether the index may help: not if a longer one that begins with its columns did not."""
        return index in self.candidates and not any(
            self not in gains[longer] and covers(longer.columns, index.columns)
            for longer in self.candidates
            if longer in gains and longer.target == index.target
        )

    def settle(self, target: Target) -> None:
        """Look for no further index on a table."""
        self.targets.pop(target, None)
        self.candidates = [index for index in self.candidates if index.target != target]


class _Advising:
    """One run of `advise`, in one trial."""

    def __init__(self, trial: Trial, on_progress: Callable[[str], None]) -> None:
        self._trial = trial
        self._on_progress = on_progress
        self._tables: dict[TableName, Table | None] = {}
        self._skipped: dict[Skipped, None] = {}

    def advise(self, samples: list[Sample]) -> AdviceReport:
        self._on_progress(f"explaining {len(samples)} statements")
        cases = [case for sample in samples if (case := self._open(sample))]
        self._enclose(cases)
        advices: list[IndexAdvice] = []
        with ExitStack() as standing:
            for _ in range(_MAX_ROUNDS):
                gains = self._try(cases)
                chosen = choose(gains, self._trial.negligible)
                if not chosen:
                    break
                for index in chosen:
                    with suppress(IndexAdviceError):  # it was built before: only a lock can be in the way now
                        standing.enter_context(self._trial.built(index))
                advices += self._conclude(cases, gains, chosen)
                names = {index.name for index in chosen}
                cases = [case for case in cases if not names.isdisjoint(case.plan.indexes)]
        return AdviceReport(consolidate(advices), tuple(self._skipped))

    def _skip(self, sample: Sample, kind: Literal["unreadable", "refused", "not tried"], reason: str) -> None:
        self._skipped[Skipped(sample.sql, kind, reason)] = None

    def _open(self, sample: Sample) -> _Case | None:
        """Read and plan a statement; None where it is fast enough, or no index comes to mind for it."""
        try:
            statement = self._trial.read(sample)
            plan = self._trial.explain(sample)
            if plan.cost < self._trial.least_cost:
                return None
            tables = {name: table for name in statement.tables if (table := self._usable(name, sample))}
        except UnreadableStatementError as error:
            self._skip(sample, "unreadable", str(error))
            return None
        except ExplainRefusedError as error:
            self._skip(sample, "refused", str(error))
            return None
        targets = {(name.schema, table.name): name for name, table in tables.items()}
        return _Case(sample, targets, propose(statement, tables), plan, plan.cost)

    def _usable(self, name: TableName, sample: Sample) -> Table | None:
        """The table, if it is large enough for an index and can have one."""
        if name not in self._tables:
            self._tables[name] = self._trial.table(name)
        table = self._tables[name]
        if table is None or (0 <= table.rows < _LEAST_ROWS and table.size < _LEAST_BYTES):
            return None
        if table.obstacle:
            self._skip(sample, "not tried", f"{name} {table.obstacle}")
            return None
        return table

    def _enclose(self, cases: list[_Case]) -> None:
        """Have the tables made ready, and take the cheaper of the plans on the table and on its copy."""
        reasons: dict[TableName, str] = {}
        for case in cases:
            for target in dict.fromkeys(index.target for index in case.candidates):
                name = case.targets[target]
                table = self._tables[name]
                if name not in reasons and table is not None:
                    reasons[name] = self._trial.enclose(name, table)
                if reasons[name]:
                    case.settle(target)
                    self._skip(case.sample, "not tried", f"{name}: {reasons[name]}")
        for case in cases:
            with suppress(ExplainRefusedError):
                case.cost = min(case.cost, self._trial.explain(case.sample).cost)

    def _try(self, cases: list[_Case]) -> Gains:
        """Build each candidate by itself and see which statements it helps."""
        gains: Gains = {}
        for index in self._candidates(cases):
            wanting = [case for case in cases if case.wants(index, gains)]
            if not wanting:
                continue
            self._on_progress(f"trying ({', '.join(map(str, index.columns))}) on {index.table}")
            try:
                with self._trial.built(index):
                    costs = {case: self._cost_with(index, case) for case in cases}
            except IndexAdviceError as error:  # a value too long for a B-tree, a lock not to be had
                for case in wanting:
                    self._skip(case.sample, "not tried", str(error))
                continue
            gains[index] = {case: cost for case, cost in costs.items() if cost is not None}
        return gains

    def _candidates(self, cases: list[_Case]) -> list[Index]:
        """What to build in this round: the most wanted, at most `MAX_CANDIDATES` a table; long ones first."""
        wanted = Counter(
            index for case in cases if case.cost >= self._trial.least_cost for index in case.candidates
        )
        built: Counter[Target] = Counter()
        candidates = []
        for index, _ in wanted.most_common():
            built[index.target] += 1
            if built[index.target] <= MAX_CANDIDATES:
                candidates.append(index)
        return sorted(candidates, key=lambda index: -len(index.columns))

    def _cost_with(self, index: Index, case: _Case) -> float | None:
        """The statement's cost, if its plan uses the index and is at most half as dear as it stands."""
        if index.target not in case.targets or case.cost < self._trial.least_cost:
            return None
        with suppress(ExplainRefusedError):
            plan = self._trial.explain(case.sample)
            if index.name in plan.indexes and plan.cost <= case.cost * _MOST_LEFT:
                return plan.cost
        return None

    def _conclude(self, cases: list[_Case], gains: Gains, chosen: list[Index]) -> Iterator[IndexAdvice]:
        """With all chosen indexes in place, advise each for the statements whose plans do use it."""
        for case in cases:
            with suppress(ExplainRefusedError):
                plan = self._trial.explain(case.sample)
                served = Served(case.sample.sql, case.cost, plan.cost, case.plan.lines, plan.lines)
                for index in chosen:
                    if case in gains[index] and index.name in plan.indexes:
                        yield IndexAdvice(index, (served,), self._trial.unit, self._trial.how)
                        case.settle(index.target)
                case.plan, case.cost = plan, min(plan.cost, case.cost)
