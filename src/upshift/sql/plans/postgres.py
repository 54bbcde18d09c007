"""Reads PostgreSQL's answer to `EXPLAIN (FORMAT JSON)` into a tree.

What a node costs by itself is not in the answer. Its total includes the nodes below it, once for each time
that they are executed: the inner side of a nested loop once for each row of the outer side, a subplan once
for each row of the node that it belongs to. A Limit, however, costs less than what lies below it, for it
stops it. So the cost is handed down from the root: each node gives those below it what they take, at most
what it has, and keeps the rest. What the nodes keep adds up to the plan's cost.

Measured times are averages of one execution in one process (https://www.postgresql.org/docs/current/
using-explain.html). Times executions, and divided by the processes that ran them side by side, they are the
time that passed. A CTE is executed by the scan that reads it first, though it hangs elsewhere in the tree, so
its time is taken from that scan's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from upshift.sql.analysis.digest import normalise
from upshift.sql.plans.tree import MAX_NODES, PlanNode, PlanTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CONDITIONS = (
    "Index Cond",
    "Recheck Cond",
    "TID Cond",
    "Hash Cond",
    "Merge Cond",
    "Join Filter",
    "Filter",
    "One-Time Filter",
    "Order By",
    "Sort Key",
    "Presorted Key",
    "Group Key",
)
"""What is kept of a node's expressions, in the order of the database's own text."""

MAX_CONDITION = 500
"""Characters of a condition that are kept."""

_GATHERS = frozenset({"Gather", "Gather Merge"})
_PAGE = 8192
_LABELS = ("Join Type", "Strategy", "Partial Mode", "Scan Direction", "Subplan Name", "CTE Name", "Operation")
_USUAL = {"Inner", "Plain", "Simple", "Forward", "Sorted"}


@dataclass(slots=True)
class _Step:
    """A node on the way to becoming one: as the database has it, and its place among the others."""

    raw: Mapping[str, Any]
    depth: int
    processes: float
    is_cut_short: bool
    children: list[_Step] = field(default_factory=list)
    spent: float = 0.0
    own_cost: float = 0.0
    own_seconds: float = 0.0

    @property
    def kind(self) -> str:
        return str(self.raw.get("Node Type", "?"))

    @property
    def cost(self) -> float:
        return float(self.raw.get("Total Cost", 0.0))

    @property
    def rows(self) -> float:
        return float(self.raw.get("Plan Rows", 0.0))

    @property
    def seconds(self) -> float:
        one = float(self.raw.get("Actual Total Time", 0.0)) / 1e3
        return one * float(self.raw.get("Actual Loops", 0.0)) / self.processes

    @property
    def cte(self) -> str:
        """The name of the CTE that hangs here; "" where it is none."""
        name = str(self.raw.get("Subplan Name", ""))
        return name.removeprefix("CTE ") if name.startswith("CTE ") else ""


def read_postgres(document: Sequence[Mapping[str, Any]], *, is_generic: bool, version: str = "") -> PlanTree:
    """Read an answer to `EXPLAIN (FORMAT JSON)`, with or without ANALYZE, VERBOSE, BUFFERS and SETTINGS.

    Args:
        document: the answer, decoded.
        is_generic: whether GENERIC_PLAN was asked for.
        version: the server's version.

    Example:
        >>> scan = {"Node Type": "Seq Scan", "Relation Name": "t", "Total Cost": 90.0, "Plan Rows": 5,
        ...         "Filter": "(name = 'Ann'::text)"}
        >>> sort = {"Node Type": "Sort", "Total Cost": 100.0, "Plan Rows": 5, "Plans": [scan]}
        >>> tree = read_postgres([{"Plan": sort}], is_generic=False)
        >>> [(node.kind, node.own_cost) for node in tree.nodes], tree.nodes[1].conditions
        ([('Sort', 10.0), ('Seq Scan', 90.0)], (('Filter', '(name = ?)'),))
    """
    answer = document[0]
    steps = _steps(answer["Plan"])
    _share_costs(steps)
    is_executed = "Actual Loops" in answer["Plan"]
    if is_executed:
        _share_seconds(steps)
    return PlanTree(
        database="postgresql",
        nodes=tuple(_node(step, is_executed=is_executed) for step in steps),
        cost=steps[0].cost,
        is_generic=is_generic,
        is_executed=is_executed,
        seconds=_seconds(answer, "Execution Time") if is_executed else None,
        planning_seconds=_seconds(answer, "Planning Time"),
        settings={str(name): str(value) for name, value in answer.get("Settings", {}).items()},
        version=version,
    )


def _seconds(answer: Mapping[str, Any], name: str) -> float | None:
    return float(answer[name]) / 1e3 if name in answer else None


def _steps(root: Mapping[str, Any]) -> list[_Step]:
    """Every node before those below it; without recursion, for a plan may be as deep as a statement is."""
    steps: list[_Step] = []
    waiting = [_Step(root, 0, 1.0, is_cut_short=False)]
    while waiting and len(steps) < MAX_NODES:
        step = waiting.pop()
        steps.append(step)
        processes = step.processes
        if step.kind in _GATHERS:
            processes *= float(step.raw.get("Workers Launched", 0)) + 1.0
        for place, raw in enumerate(step.raw.get("Plans", ())):
            cut_short = _cuts_short(step, place, raw)
            step.children.append(_Step(raw, step.depth + 1, processes, is_cut_short=cut_short))
        waiting += reversed(step.children)
    return steps


def _cuts_short(step: _Step, place: int, child: Mapping[str, Any]) -> bool:
    """Whether a node's child may be asked for fewer rows than it has."""
    kind, raw = step.kind, step.raw
    if child.get("Parent Relationship") in {"SubPlan", "InitPlan"}:
        return not str(child.get("Subplan Name", "")).startswith("CTE ")  # EXISTS stops at the first row
    if kind in {"Limit", "Merge Join"}:
        return True
    if kind == "Nested Loop" and place == 1:
        return raw.get("Join Type") in {"Semi", "Anti"} or bool(raw.get("Inner Unique"))
    if kind in {"Sort", "Hash", "BitmapAnd", "BitmapOr", "Bitmap Heap Scan"}:
        return False  # these read all that there is before they give a row
    if kind == "Aggregate" and raw.get("Strategy") != "Sorted":
        return False
    return step.is_cut_short


def _share_costs(steps: Iterable[_Step]) -> None:
    first = True
    for step in steps:
        if first:
            step.spent, first = step.cost, False
        times = step.spent / step.cost if step.cost > 0.0 else 0.0
        left = step.cost
        for place, child in enumerate(step.children):
            taken = min(child.cost * _executions(step, place, child), left)
            left -= taken
            child.spent = taken * times
        step.own_cost = left * times


def _executions(step: _Step, place: int, child: _Step) -> float:
    """How often the planner expects a node's child to be executed while the node is once."""
    if child.raw.get("Parent Relationship") == "SubPlan":
        return max(step.rows, 1.0)
    if step.kind == "Nested Loop" and place == 1:
        return max(step.children[0].rows, 1.0)
    return 1.0


def _share_seconds(steps: Sequence[_Step]) -> None:
    ctes = {step.cte: step.seconds for step in steps if step.cte}
    for step in steps:
        below = sum(child.seconds for child in step.children if not child.cte)
        if step.kind == "CTE Scan":
            below += ctes.pop(str(step.raw.get("CTE Name", "")), 0.0)
        step.own_seconds = max(step.seconds - below, 0.0)


def _node(step: _Step, *, is_executed: bool) -> PlanNode:
    raw = step.raw
    node = PlanNode(
        depth=step.depth,
        kind=f"Parallel {step.kind}" if raw.get("Parallel Aware") else step.kind,
        relation=str(raw.get("Relation Name", "")),
        schema=str(raw.get("Schema", "")),
        alias=str(raw.get("Alias", "")),
        index=str(raw.get("Index Name", "")),
        label=", ".join(str(raw[name]) for name in _LABELS if raw.get(name, "Plain") not in _USUAL),
        conditions=tuple(_conditions(raw)),
        cost=step.cost,
        own_cost=step.own_cost,
        rows=step.rows,
        is_cut_short=step.is_cut_short,
    )
    if not is_executed:
        return node
    return replace(
        node,
        actual_rows=float(raw.get("Actual Rows", 0.0)),
        loops=float(raw.get("Actual Loops", 0.0)),
        seconds=step.seconds,
        own_seconds=step.own_seconds,
        removed_rows=float(raw.get("Rows Removed by Filter", 0.0))
        + float(raw.get("Rows Removed by Join Filter", 0.0)),
        spill_bytes=_spill(raw),
    )


def _conditions(raw: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name in CONDITIONS:
        if name in raw:
            said = raw[name]
            text = ", ".join(map(str, said)) if isinstance(said, list) else str(said)
            yield name, normalise(text)[:MAX_CONDITION]


def _spill(raw: Mapping[str, Any]) -> int:
    if raw.get("Sort Space Type") == "Disk":
        return int(raw.get("Sort Space Used", 0)) * 1024
    if "Disk Usage" in raw:  # a hashed aggregate
        return int(raw["Disk Usage"]) * 1024
    if int(raw.get("Hash Batches", 1)) > 1 and raw.get("Node Type") == "Hash":
        return int(raw.get("Temp Written Blocks", 0)) * _PAGE
    return 0
