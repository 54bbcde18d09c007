"""What index advice says: an index, the statements it serves, and what the planner made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from upshift.errors import IndexAdviceError
from upshift.sql.indexes.index import Columns, Index, covers, index_from_dict
from upshift.sql.indexes.migration import operation, operations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

How = Literal["copy", "transaction"]
"""Where candidates are tried: on copies of the tables, or on the tables in a rolled-back transaction."""

Unit = Literal["planner cost", "steps"]
"""What costs are counted in: PostgreSQL's planner's, or steps of SQLite's virtual machine."""


@dataclass(frozen=True, slots=True)
class Served:
    """A statement that an index serves.

    Attributes:
        sql: the statement as it was captured.
        cost_before: without the index: as things stand, or with the indexes advised before it.
        cost_after: with it, at most half of `cost_before`.
        plan_before: the plan without it, a node a line.
        plan_after: the plan with it.
    """

    sql: str
    cost_before: float
    cost_after: float
    plan_before: tuple[str, ...]
    plan_after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index that the planner was seen to use.

    Attributes:
        index: the index.
        served: the statements it serves, one at least, the one that gains most first.
        unit: of the costs.
        verified: where it was tried.
    """

    index: Index
    served: tuple[Served, ...]
    unit: Unit
    verified: How

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
class AdviceReport:
    """What `upshift.sql.indexes.advisor.advise` found.

    Attributes:
        advices: the indexes; none makes another needless.
        skipped: the statements that could not be judged.
    """

    advices: tuple[IndexAdvice, ...]
    skipped: tuple[Skipped, ...]


def consolidate(advices: Iterable[IndexAdvice]) -> tuple[IndexAdvice, ...]:
    """Return one advice for each index to create, the one that serves most statements first.

    An index whose columns lead another advised index is left out: the wider one serves its statements.
    """
    merged: dict[Index, IndexAdvice] = {}
    for advice in sorted(advices, key=lambda advice: (-len(advice.columns), advice.name)):
        home = next((index for index in merged if _replaces(index, advice.index)), advice.index)
        served = {each.sql: each for each in merged[home].served} if home in merged else {}
        for each in advice.served:
            served.setdefault(each.sql, each)
        gaining = sorted(served.values(), key=lambda each: each.cost_after / max(each.cost_before, 1.0))
        merged[home] = replace(advice, index=home, served=tuple(gaining))
    return tuple(sorted(merged.values(), key=lambda advice: (-len(advice.served), advice.name)))


def _replaces(wider: Index, index: Index) -> bool:
    is_same_table = (wider.dialect, wider.target) == (index.dialect, index.target)
    return is_same_table and covers(wider.columns, index.columns)
