"""The workload's statements as advice deals with them: read, planned, and with the tables they reach."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from upshift.sql.indexes.advice import Skipped
from upshift.sql.indexes.candidates import is_narrow, merged, propose
from upshift.sql.indexes.constants import SEEN_OFTEN, constants_of
from upshift.sql.indexes.index import replaces
from upshift.sql.indexes.writes import Write, read_write
from upshift.sql.placeholders import number
from upshift.sql.plans.explain import ExplainRefusedError, Plan
from upshift.sql.statement import UnreadableStatementError, table_name

if TYPE_CHECKING:
    from upshift.sql.catalog import Table, TableName
    from upshift.sql.indexes.index import Index, Target
    from upshift.sql.indexes.trial import Trial
    from upshift.sql.indexes.workload import Work

_LEAST_ROWS = 1_000
_LEAST_BYTES = 2**20  # a table this large has more rows than old statistics may say
_ENTRY = 0.5  # planner cost of writing one row's entry: some comparisons, and a part of a page
_ENTRY_WIDTH = 0.05  # and for each column of it
_ENTRY_GIN = 5.0  # an entry for each of many parts


@dataclass(slots=True, eq=False)
class Case:
    """A statement under advice, and how it stands with the indexes chosen so far.

    Attributes:
        work: the statement.
        targets: the tables on which an index may help it, with the names it has for them.
        repeated: those of the targets that it names more than once, as when it joins a table to itself.
        candidates: the indexes that might help it.
        plan: its plan with the indexes chosen so far, for the first of its parameters.
        cost: its cost with them, the mean of all its parameters; at first the lesser of the table's own and
            its copy's.
        first: its plan before any index was chosen, and its cost then.
    """

    work: Work
    targets: dict[Target, TableName]
    repeated: frozenset[Target]
    candidates: list[Index]
    plan: Plan
    cost: float
    first: tuple[Plan, float]


class Cases:
    """The statements of one run that can be read and planned, in one trial.

    Attributes:
        cases: the statements, those that are fast enough as they are too, for an index may slow them.
        writes: what the workload writes, with the statements that do.
    """

    def __init__(self, trial: Trial, paramstyle: str, workload: list[Work]) -> None:
        self._trial = trial
        self._paramstyle = paramstyle
        self._tables: dict[TableName, Table | None] = {}
        self._skipped: dict[Skipped, None] = {}
        self.writes = [(write, work) for work in workload if (write := self._write(work))]
        self.cases = [case for work in workload if (case := self._open(work))]
        self._enclose()
        self._merge()

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The statements that could not be judged."""
        return tuple(self._skipped)

    def skip(self, sql: str, kind: Literal["unreadable", "refused", "not tried"], reason: str) -> None:
        """Note that a statement could not be judged."""
        self._skipped[Skipped(sql, kind, reason)] = None

    def table_of(self, index: Index) -> Table | None:
        """The table that an index is on."""
        named = (table for table in self._tables.values() if table and table.name == index.table)
        return next((table for table in named if index.schema in {None, table.schema}), None)

    def rows_written(self, index: Index) -> float:
        """The entries that the workload's writes make in the indexes of a table because of one of them."""
        return sum(
            work.calls * (1.0 if work.rows is None else work.rows) * self._entries(write, index)
            for write, work in self.writes
        )

    def upkeep(self, index: Index) -> float:
        """What the workload's writes cost more with an index, as the planner might put it."""
        width = _ENTRY_WIDTH * (len(index.columns) + len(index.include))
        return self.rows_written(index) * ((_ENTRY if index.method == "btree" else _ENTRY_GIN) + width)

    def replan(self, case: Case) -> float | None:
        """Plan a statement as things stand; return its cost, or None where the database refuses now."""
        planned = self.plans(case.work)
        if planned is not None:
            case.plan = planned[0]
            return planned[1]
        return None

    def plans(self, work: Work) -> tuple[Plan, float] | None:
        """The plan for the first parameters, with the indexes of them all, and the mean cost."""
        plans = []
        for sample in work.variants:
            with suppress(ExplainRefusedError):
                plans.append(self._trial.explain(sample))
        if not plans:
            return None
        used = frozenset[str]().union(*(plan.indexes for plan in plans))
        return Plan(plans[0].cost, plans[0].lines, used), sum(plan.cost for plan in plans) / len(plans)

    def _entries(self, write: Write, index: Index) -> float:
        table = self._tables.get(write.table) or self._look_up(write.table)
        on = self.table_of(index)
        if table is None or on is None or (table.schema, table.name) != (on.schema, on.name):
            return 0.0
        return write.entries(index, table, len(table.names))

    def _write(self, work: Work) -> Write | None:
        sql = work.sql
        if self._trial.dialect == "postgresql":
            sql = number(work.sample, self._paramstyle).sql
        return read_write(sql, self._trial.dialect)

    def _open(self, work: Work) -> Case | None:
        """Read and plan a statement; without candidates where it is fast enough, or none come to mind."""
        try:
            statement = self._trial.read(work.sample)
            # The database's own word for why it refuses; `plans` only leaves out what is refused.
            plan = self._trial.explain(work.sample)
            tables = {name: table for name in statement.tables if (table := self._usable(name, work, plan))}
        except UnreadableStatementError as error:
            self.skip(work.sql, "unreadable", str(error))
            return None
        except ExplainRefusedError as error:
            self.skip(work.sql, "refused", str(error))
            return None
        planned = self.plans(work)
        plan, cost = planned if planned is not None else (plan, plan.cost)
        targets = {(name.schema, table.name): name for name, table in tables.items()}
        candidates = []
        if cost >= self._trial.least_cost:
            constants = constants_of(work, self._paramstyle) if statement.dialect == "postgresql" else {}
            candidates = [
                index
                for index in propose(statement, tables, constants)
                # What ran once may hold a value of its own in its text.
                if work.calls >= SEEN_OFTEN or not any(each.test == "=" for each in index.where)
            ]
        named = Counter(
            name
            for scope in statement.scopes
            for each in scope.sources.values()
            if (name := table_name(each))
        )
        repeated = frozenset(target for target, name in targets.items() if named[name] > 1)
        return Case(work, targets, repeated, candidates, plan, cost, (plan, cost))

    def _usable(self, name: TableName, work: Work, plan: Plan) -> Table | None:
        """The table, if it is large enough for an index and can have one."""
        table = self._look_up(name)
        if table is None or (0 <= table.rows < _LEAST_ROWS and table.size < _LEAST_BYTES):
            return None
        if table.obstacle:
            if plan.cost >= self._trial.least_cost:
                self.skip(work.sql, "not tried", f"{name} {table.obstacle}")
            return None
        return table

    def _look_up(self, name: TableName) -> Table | None:
        if name not in self._tables:
            self._tables[name] = self._trial.table(name)
        return self._tables[name]

    def _enclose(self) -> None:
        """Have the tables made ready, and take the cheaper of the plans on the table and on its copy.

        Once one table of a statement is ready, all of them are: a statement is executed on copies only.
        """
        reasons: dict[TableName, str] = {}
        for case in self.cases:
            for target in dict.fromkeys(index.target for index in case.candidates):
                reason = self._ready(case.targets[target], reasons)
                if reason:
                    case.candidates = [index for index in case.candidates if index.target != target]
                    self.skip(case.work.sql, "not tried", f"{case.targets[target]}: {reason}")
        for case in self.cases:
            if case.candidates:
                for name in self._trial.read(case.work.sample).tables:
                    table = self._look_up(name)
                    if table is not None and not table.obstacle:
                        self._ready(name, reasons)
        for case in self.cases:
            cost = self.replan(case)
            if cost is not None:
                case.cost = min(case.cost, cost)
                case.first = case.plan, case.cost

    def _merge(self) -> None:
        """Let statements share what they would have included each for itself."""
        apart = dict.fromkeys(index for case in self.cases for index in case.candidates)
        tables = ((index, self.table_of(index)) for index in merged(apart))
        wide = [index for index, table in tables if table and is_narrow(index.include, table)]
        for case in self.cases:
            case.candidates += [
                each for each in wide if any(replaces(each, index) for index in case.candidates)
            ]

    def _ready(self, name: TableName, reasons: dict[TableName, str]) -> str:
        table = self._tables[name]
        if name not in reasons and table is not None:
            reasons[name] = self._trial.enclose(name, table)
        return reasons[name]
