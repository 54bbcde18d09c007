"""Tables of which the planner expected far more or fewer rows than there were, and what it knows of them.

Only scans of tables are told of: an estimate that is off there is off in all joins above it, and it is there
that statistics help. A node that may have been stopped early is not blamed for giving few rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec reads the types when it decodes
from typing import TYPE_CHECKING

import sqlalchemy as sa

from upshift.sql.catalog import quoted
from upshift.sql.plans.names import NAME, unquoted

if TYPE_CHECKING:
    from upshift.sql.plans.tree import PlanNode, PlanTree

CONDITIONS = frozenset({"Filter", "Index Cond", "Recheck Cond"})
"""The conditions that decide how many rows a scan gives."""

FACTOR = 10.0
"""How far estimate and actual rows have to be apart."""

LEAST_ROWS = 1_000
"""Rows, expected or actual and of all executions together, below which no plan goes wrong for them."""

LEAST_SHARE = 0.1
"""The part of the whole time that the scan, or what is made of its rows, has to take."""

_COLUMNS = re.compile(rf"(?P<alias>{NAME})\.(?P<column>{NAME})(?!\s*\()")

_STATISTICS = sa.text("""
    SELECT s.n_live_tup, s.n_mod_since_analyze,
           greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at,
           EXISTS (
               SELECT FROM pg_statistic_ext e
               WHERE e.stxrelid = s.relid AND (
                   SELECT array_agg(a.attname::text) FROM pg_attribute a
                   WHERE a.attrelid = s.relid AND a.attnum = ANY(e.stxkeys)) @> CAST(:columns AS text[])
           ) AS has_extended
    FROM pg_stat_all_tables s WHERE s.relid = to_regclass(:relation)
""")


@dataclass(frozen=True, slots=True)
class Misestimate:
    """A scan of a table that gave far more or fewer rows than the planner expected.

    Attributes:
        schema: the table's schema.
        relation: the table.
        columns: the columns that its conditions name, sorted.
        condition: the conditions, without values.
        planned_rows: rows expected of one execution.
        actual_rows: rows that one execution gave, on average.
        loops: how often it was executed.
        live_rows: rows in the table, as the database counts them.
        modified_rows: rows written since the table was analysed.
        analyzed_at: when it was; None where it never was.
        has_extended: whether there are extended statistics on all these columns together.
    """

    schema: str
    relation: str
    columns: tuple[str, ...]
    condition: str
    planned_rows: float
    actual_rows: float
    loops: float
    live_rows: int
    modified_rows: int
    analyzed_at: datetime | None
    has_extended: bool

    @property
    def factor(self) -> float:
        """How far they are apart, as a number above 1."""
        more = max(self.actual_rows, 1.0) / max(self.planned_rows, 1.0)
        return max(more, 1.0 / more)


def find_misestimates(connection: sa.Connection, tree: PlanTree) -> tuple[Misestimate, ...]:
    """Find the scans of an executed plan of PostgreSQL's whose rows differ much from the estimate.

    Args:
        connection: to the database that executed it.
        tree: the plan, measured.
    """
    if not tree.is_executed:
        return ()
    found = (
        _known(connection, node)
        for place, node in enumerate(tree.nodes)
        if node.relation and _is_far_off(node) and _matters(tree, place)
    )
    return tuple(misestimate for misestimate in found if misestimate is not None)


def _is_far_off(node: PlanNode) -> bool:
    factor = node.misestimate
    most = max(node.rows or 0.0, node.actual_rows or 0.0) * (node.loops or 0.0)
    return most >= LEAST_ROWS and not 1.0 / FACTOR <= factor <= FACTOR


def _matters(tree: PlanTree, place: int) -> bool:
    """Whether much time is spent in the node, or in the node that works on its rows."""
    node = tree.nodes[place]
    above = next((each for each in reversed(tree.nodes[:place]) if each.depth < node.depth), node)
    most = max(node.seconds or 0.0, above.seconds or 0.0)
    return most >= LEAST_SHARE * (tree.seconds or 0.0)


def _known(connection: sa.Connection, node: PlanNode) -> Misestimate | None:
    conditions = " AND ".join(text for name, text in node.conditions if name in CONDITIONS)
    columns = tuple(
        sorted({unquoted(each["column"]) for each in _COLUMNS.finditer(conditions) if _is_of(each, node)})
    )
    relation = ".".join(quoted(part) for part in (node.schema, node.relation) if part)
    known = connection.execute(_STATISTICS, {"relation": relation, "columns": list(columns)}).one_or_none()
    if known is None:
        return None
    return Misestimate(
        schema=node.schema,
        relation=node.relation,
        columns=columns,
        condition=conditions,
        planned_rows=node.rows or 0.0,
        actual_rows=node.actual_rows or 0.0,
        loops=node.loops or 0.0,
        live_rows=known.n_live_tup,
        modified_rows=known.n_mod_since_analyze,
        analyzed_at=known.analyzed_at,
        has_extended=known.has_extended,
    )


def _is_of(match: re.Match[str], node: PlanNode) -> bool:
    return unquoted(match["alias"]) == node.alias
