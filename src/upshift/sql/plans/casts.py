"""Casts of columns that keep an index from being used, as the conditions of a plan show them.

`WHERE id = 5.0` compares an integer column with a number that is none, so PostgreSQL compares
`id::numeric` with it, and an index on `id` knows nothing of that. The statement does not show it: the cast
is the planner's. Most casts in plans are harmless: a varchar is a text already, with the same bytes and the
same order (`castmethod` "b", binary coercible), and its index serves. Where another index has found the
rows, a filter with a cast is applied to few of them, and not told of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from upshift.sql.catalog import quoted
from upshift.sql.plans.names import NAME, unquoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upshift.sql.plans.tree import PlanNode, PlanTree

CONDITIONS = frozenset({"Filter", "Join Filter", "Hash Cond", "Merge Cond"})
"""Where a cast costs something: conditions that no index answers."""

MAX_CASTS = 20
"""Casts of one plan that the catalog is asked about."""

_TYPE = (
    r"(?:double precision|character varying|bit varying|(?:timestamp|time) with(?:out)? time zone"
    rf"|(?:{NAME}\.)?{NAME})(?:\(\d+(?:,\s*\d+)?\))?(?:\[\])?"
)
_COLUMN = rf"\((?:(?P<{{side}}alias>{NAME})\.)?(?P<{{side}}column>{NAME})\)::(?P<{{side}}type>{_TYPE})"
_COMPARED = re.compile(
    # An index answers these operators only, and ANY of a list; `<>` none does.
    rf"{_COLUMN.format(side='left_')}\)?\s+(?:=|<=|>=|<|>)\s|"
    rf"\s(?:=|<=|>=|<|>)\s+\(?{_COLUMN.format(side='right_')}"
)

_KNOWN = sa.text("""
    SELECT format_type(a.atttypid, a.atttypmod) AS column_type,
           format_type(to_regtype(:cast_to), NULL) AS cast_to,
           (SELECT ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
            WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum
            ORDER BY i.indnkeyatts, ic.relname LIMIT 1) AS index_name
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = to_regclass(:relation) AND a.attname = :column AND a.attnum > 0
      AND NOT EXISTS (
          SELECT FROM pg_cast k
          WHERE k.castsource = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
            AND k.casttarget = to_regtype(:cast_to) AND k.castmethod = 'b')
      AND to_regtype(:cast_to) <> CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
""")


@dataclass(frozen=True, slots=True)
class Cast:
    """A column that is cast before it is compared.

    Attributes:
        schema: the table's schema.
        relation: the table.
        column: the column.
        column_type: its type.
        cast_to: the type that it is cast to.
        index: an index that begins with the column, and would serve without the cast.
        is_written: whether the statement itself casts the column, so that the planner does not.
        condition: the condition, without values.
        rows: the rows of the table that are read for it, as the planner expects.
    """

    schema: str
    relation: str
    column: str
    column_type: str
    cast_to: str
    index: str
    is_written: bool
    condition: str
    rows: float


class _Compared(NamedTuple):
    """A column that is cast in a condition; `alias` is "" where the plan names no table."""

    alias: str
    column: str
    cast_to: str
    condition: str


def find_casts(connection: sa.Connection, tree: PlanTree, sql: str) -> tuple[Cast, ...]:
    """Find the casts of columns in a plan of PostgreSQL's that keep an index of theirs from being used.

    Args:
        connection: to the database that made the plan.
        tree: the plan, asked for with VERBOSE, so that each column stands with its table.
        sql: the statement, to tell which casts are its own.
    """
    scans = {node.alias: node for node in reversed(tree.nodes) if node.relation and not _is_narrowed(node)}
    seen: dict[tuple[str, str, str], Cast | None] = {}
    for each in _compared(tree):
        alias = each.alias or (next(iter(scans)) if len(scans) == 1 else "")
        key = (alias, each.column, each.cast_to)
        if alias in scans and key not in seen and len(seen) < MAX_CASTS:
            seen[key] = _known(connection, scans[alias], each, is_written=_is_written(each.column, sql))
    return tuple(cast for cast in seen.values() if cast is not None)


def _is_narrowed(scan: PlanNode) -> bool:
    """Whether another condition's index has found the rows already, so that a filter costs little."""
    return any(name in {"Index Cond", "Recheck Cond"} for name, _ in scan.conditions)


def _compared(tree: PlanTree) -> Iterator[_Compared]:
    for node in tree.nodes:
        for name, condition in node.conditions:
            if name in CONDITIONS:
                for match in _COMPARED.finditer(condition):
                    side = "left_" if match["left_column"] else "right_"
                    alias, column = match[f"{side}alias"] or "", match[f"{side}column"]
                    yield _Compared(unquoted(alias), unquoted(column), match[f"{side}type"], condition)


def _known(
    connection: sa.Connection, scan: PlanNode, compared: _Compared, *, is_written: bool
) -> Cast | None:
    """What the catalog tells of a cast; None where it is harmless, or no index begins with the column."""
    relation = ".".join(quoted(part) for part in (scan.schema, scan.relation) if part)
    names = {"relation": relation, "column": compared.column, "cast_to": compared.cast_to}
    found = connection.execute(_KNOWN, names).one_or_none()
    if found is None or found.index_name is None or found.cast_to is None:
        return None
    return Cast(
        schema=scan.schema,
        relation=scan.relation,
        column=compared.column,
        column_type=found.column_type,
        cast_to=found.cast_to,
        index=found.index_name,
        is_written=is_written,
        condition=compared.condition,
        rows=scan.rows or 0.0,
    )


def _is_written(column: str, sql: str) -> bool:
    name = rf'(?<![\w"])"?{re.escape(column)}"?'
    cast = rf"{name}\)*\s*::|CAST\s*\(\s*(?:[\w\"$]+\.)*{name}\s+AS\b"
    return re.search(cast, sql, re.IGNORECASE) is not None
