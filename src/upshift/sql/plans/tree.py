"""A plan as a tree of nodes, each with what it costs by itself; of whichever database it is.

A tree is kept for as long as the history of its statement, so it holds no value that the statement was
planned for: in conditions every literal is a `?`, as in a digest.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the types when it decodes
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

MAX_NODES = 400
"""Nodes of a plan that are kept, from the top; a table with thousands of partitions has more."""

DatabaseName = Literal["postgresql", "sqlite", "mariadb", "mysql"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanNode:
    """One step of a plan.

    Attributes:
        depth: how far below the root it stands; the root's is 0.
        kind: what it does, in the database's words ("Index Scan", "SEARCH").
        relation: the table it reads, as the database spells it; "" where it reads none.
        schema: that table's schema; "" where the database does not tell.
        alias: what the statement calls the table.
        index: the index it uses; "" without one.
        label: what else the database says of it: the join's type, a subplan's name.
        conditions: name and text of each condition and sort key, without values.
        cost: the planner's cost of one execution with all below it; None where the database gives none.
        own_cost: the cost of all its executions, without those below it.
        rows: the rows the planner expects of one execution.
        actual_rows: the rows one execution gave, on average; None where it was not executed.
        loops: how often it was executed; None where the statement was not.
        seconds: the time of all its executions with all below it.
        own_seconds: the same without those below it.
        removed_rows: rows it read and dropped, in one execution on average.
        spill_bytes: what it wrote to disk for want of memory.
        is_cut_short: whether whoever asks it for rows may stop before the last; it may then give fewer than
            expected though the estimate was right.
    """

    depth: int
    kind: str
    relation: str = ""
    schema: str = ""
    alias: str = ""
    index: str = ""
    label: str = ""
    conditions: tuple[tuple[str, str], ...] = ()
    cost: float | None = None
    own_cost: float | None = None
    rows: float | None = None
    actual_rows: float | None = None
    loops: float | None = None
    seconds: float | None = None
    own_seconds: float | None = None
    removed_rows: float = 0.0
    spill_bytes: int = 0
    is_cut_short: bool = False

    @property
    def misestimate(self) -> float:
        """By what factor the rows differ from the estimate: above 1 where there were more, below where fewer.

        1 where nobody can tell: it was not executed, or may have been stopped before its last row.

        Example:
            >>> PlanNode(depth=0, kind="Seq Scan", rows=10, actual_rows=5000.0, loops=1).misestimate
            500.0
        """
        if self.rows is None or self.actual_rows is None or not self.loops:
            return 1.0
        factor = max(self.actual_rows, 1.0) / max(self.rows, 1.0)
        return max(factor, 1.0) if self.is_cut_short else factor


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTree:
    """How a database means to answer a statement, or how it did.

    Attributes:
        database: which kind of database it is.
        nodes: its nodes, each before those below it; at most `MAX_NODES`.
        cost: the planner's cost of the whole; None where the database gives none.
        is_generic: whether it was planned for any values, and not for some.
        is_executed: whether the statement was executed to measure it.
        seconds: how long that took; None where it was not.
        planning_seconds: how long planning took, where the database tells.
        settings: the planner's settings that differ from their defaults.
        version: the database's version.
    """

    database: DatabaseName
    nodes: tuple[PlanNode, ...]
    cost: float | None = None
    is_generic: bool = False
    is_executed: bool = False
    seconds: float | None = None
    planning_seconds: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @property
    def shape(self) -> str:
        """16 hexadecimal digits, equal for plans of the same steps on the same tables by the same indexes.

        Costs and rows are no part of it: they change with every row that is written.

        Example:
            >>> scan, cheaper = (PlanNode(depth=0, kind="Seq Scan", relation="t", cost=c) for c in (9.0, 1.0))
            >>> plans = [PlanTree(database="postgresql", nodes=(node,)) for node in (scan, cheaper)]
            >>> plans[0].shape == plans[1].shape
            True
        """
        steps = [
            f"{node.depth}\0{node.kind}\0{node.schema}\0{node.relation}\0{node.index}\0{node.label}"
            for node in self.nodes
        ]
        return blake2b("\n".join(steps).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def worst(self) -> int | None:
        """The position of the node that costs most by itself; None where no node stands out.

        Time decides where it was measured, else cost. SQLite and older MariaDB tell neither; there it is the
        first scan of a whole table, or else the first sort.
        """
        if self.cost is None and not self.is_executed:
            for wanted in (_scans_a_table, _sorts):
                found = next((place for place, node in enumerate(self.nodes) if wanted(node)), None)
                if found is not None:
                    return found
            return None
        owned = [(node.own_seconds if self.is_executed else node.own_cost) or 0.0 for node in self.nodes]
        most = max(owned, default=0.0)
        return owned.index(most) if most > 0.0 else None

    def share(self, node: PlanNode) -> float | None:
        """What part of the whole a node takes by itself; None where the database does not tell."""
        own, whole = (node.own_seconds, self.seconds) if self.is_executed else (node.own_cost, self.cost)
        if own is None or not whole:
            return None
        return min(own / whole, 1.0)


def _scans_a_table(node: PlanNode) -> bool:
    return node.kind in {"SCAN", "ALL"} and bool(node.relation) and not node.index


def _sorts(node: PlanNode) -> bool:
    return node.kind == "filesort" or node.kind.startswith("USE TEMP B-TREE")
