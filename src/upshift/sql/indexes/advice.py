"""What index advice says: an index, the statements it serves, and what the planner made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from upshift.errors import IndexAdviceError
from upshift.sql.indexes.index import Columns, Index, index_from_dict, replaces
from upshift.sql.indexes.migration import operation, operations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

How = Literal["copy", "transaction", "hypothetical"]
"""Where candidates are tried: on copies of the tables, on the tables in a rolled-back transaction, or in the
planner's mind only, as hypothetical indexes of HypoPG's."""

Unit = Literal["planner cost", "steps"]
"""What costs are counted in: PostgreSQL's planner's, or steps of SQLite's virtual machine."""

MeasuredIn = Literal["ms", "steps"]
"""What executions are measured in: milliseconds on PostgreSQL, steps of SQLite's virtual machine."""


@dataclass(frozen=True, slots=True)
class Served:
    """A statement that an index serves.

    Attributes:
        sql: the statement as it was captured.
        cost_before: without the index, but with the others that are advised.
        cost_after: with it.
        plan_before: the plan without it, a node a line.
        plan_after: the plan with it.
        calls: how often the statement ran while the workload was observed.
        measure_before: what executing it once took without the index, in the unit of the advice's figures;
            None where it was not executed.
        measure_after: with the index.
    """

    sql: str
    cost_before: float
    cost_after: float
    plan_before: tuple[str, ...]
    plan_after: tuple[str, ...]
    calls: int = 1
    measure_before: float | None = None
    measure_after: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What an index gave and cost when the workload was replayed on the copy.

    Attributes:
        unit: of the measures.
        gain: what the workload's statements took less with it, all calls together.
        upkeep: what keeping it up took, for all rows that the workload was seen to write.
        entry: what writing one row's entry takes; None where that could not be measured.
        size: its bytes on the copy; None where the database does not tell.
        sample: the part of the table's rows that the copy held.
    """

    unit: MeasuredIn
    gain: float
    upkeep: float
    entry: float | None = None
    size: int | None = None
    sample: float = 1.0


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index that the planner was seen to use.

    Attributes:
        index: the index.
        served: the statements it serves, one at least, the one that gains most first.
        unit: of the costs.
        verified: where it was tried.
        figures: what executing the workload with it and without came to; None where none of the statements
            that it serves could be executed, so that the planner alone speaks for it.
    """

    index: Index
    served: tuple[Served, ...]
    unit: Unit
    verified: How
    figures: Figures | None = None

    @property
    def name(self) -> str:
        """The index's name, which follows from its table and columns."""
        return self.index.name

    @property
    def table(self) -> str:
        """The table's name, unquoted."""
        return self.index.table

    @property
    def columns(self) -> Columns:
        """The key columns, in order."""
        return self.index.columns

    @property
    def create_sql(self) -> str:
        """`CREATE INDEX`, concurrently on PostgreSQL."""
        return self.index.create_sql

    @property
    def undo_sql(self) -> str:
        """`DROP INDEX`, concurrently on PostgreSQL."""
        return self.index.undo_sql

    @property
    def alembic(self) -> str:
        """The `upgrade` and `downgrade` of an Alembic migration."""
        return operations([self.index])

    @property
    def operation(self) -> str:
        """The Alembic operation that creates it, on one line; to be run outside a transaction."""
        return operation(self.index)

    @property
    def serves(self) -> tuple[str, ...]:
        """The texts of the statements that it serves."""
        return tuple(served.sql for served in self.served)

    @property
    def cost_before(self) -> float:
        """The cost of the statement that gains most, without the index."""
        return self.served[0].cost_before

    @property
    def cost_after(self) -> float:
        """The cost of the statement that gains most, with the index."""
        return self.served[0].cost_after

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as flat, JSON-ready data, with the SQL and the migration for readers."""
        described: dict[str, Any] = msgspec.to_builtins(self)
        index: dict[str, Any] = described.pop("index")
        names = ("name", "create_sql", "undo_sql", "alembic", "cost_before", "cost_after")
        return index | {name: getattr(self, name) for name in names} | described

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IndexAdvice:
        """Read back what `to_dict` gave. The SQL in it is not read but rebuilt.

        Raises:
            IndexAdviceError: the data describes no advice.
        """
        index = index_from_dict(data)
        try:
            read = msgspec.convert({**data, "index": msgspec.to_builtins(index)}, cls)
        except msgspec.ValidationError as error:
            raise IndexAdviceError(f"this is no index advice: {error}") from error
        if not read.served:
            raise IndexAdviceError("this is no index advice: it serves no statement")
        return read


@dataclass(frozen=True, slots=True)
class Skipped:
    """A statement that could not be judged, wholly or as to one of its tables.

    Attributes:
        sql: the statement as it was captured.
        kind: "unreadable" (no SELECT, UPDATE or DELETE that can be parsed), "refused" (the database would
            not explain it) or "not tried" (no index can be tried on its table).
        reason: why, in words for the reader.
    """

    sql: str
    kind: Literal["unreadable", "refused", "not tried"]
    reason: str


@dataclass(frozen=True, slots=True)
class Declined:
    """An index that the planner would use and that is not advised all the same.

    Attributes:
        index: the index.
        reason: why it is not worth having, with the figures.
    """

    index: Index
    reason: str


@dataclass(frozen=True, slots=True)
class AdviceReport:
    """What `upshift.sql.indexes.advisor.advise` found.

    Attributes:
        advices: the indexes; none makes another needless.
        skipped: the statements that could not be judged.
        declined: indexes that were tried, and proved not to be worth their upkeep.
    """

    advices: tuple[IndexAdvice, ...]
    skipped: tuple[Skipped, ...]
    declined: tuple[Declined, ...] = ()


def consolidate(advices: Iterable[IndexAdvice]) -> tuple[IndexAdvice, ...]:
    """Return one advice for each index to create, the one that serves most statements first.

    An index whose columns lead another advised index is left out: the wider one serves its statements.
    """
    merged: dict[Index, IndexAdvice] = {}
    for advice in sorted(advices, key=lambda advice: (-len(advice.columns), advice.name)):
        home = next((index for index in merged if replaces(index, advice.index)), advice.index)
        known = merged.get(home)
        served = {each.sql: each for each in (*(known.served if known else ()), *advice.served)}
        gaining = sorted(served.values(), key=lambda each: each.cost_after / max(each.cost_before, 1.0))
        merged[home] = replace(known or advice, served=tuple(gaining))
    return tuple(sorted(merged.values(), key=lambda advice: (-len(advice.served), advice.name)))
