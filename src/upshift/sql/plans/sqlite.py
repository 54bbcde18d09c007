"""Reads SQLite's answer to `EXPLAIN QUERY PLAN` into a tree (https://sqlite.org/eqp.html).

It tells neither costs nor rows, and its format is meant for people: what cannot be told apart into a table
and an index is kept as the node's kind.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Any

from upshift.sql.plans.explain import ExplainRefusedError
from upshift.sql.plans.tree import MAX_NODES, PlanNode, PlanTree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upshift.sql.placeholders import Parameters, Sample

_READING = re.compile(
    r"""
    (?P<kind> SCAN | SEARCH ) \s+ (?:TABLE\s+)?
    (?! CONSTANT\ ROW | SUBQUERY\b | \d+-ROW\b | \( )
    (?P<relation> .+? )
    (?: \s+ AS\s+ (?P<alias> \S+ ) )?
    (?: \s+ USING\s+ (?: AUTOMATIC\s+ (?:PARTIAL\s+)? )? (?P<covering> COVERING\s+ )?
        (?: INDEX\s+ (?P<index> .+? ) | (?P<primary> INTEGER\ PRIMARY\ KEY | PRIMARY\ KEY ) ) )?
    (?: \s+ \( (?P<condition> .* ) \) )?
    (?P<join> \s+ LEFT-JOIN )?
    \Z
    """,
    re.VERBOSE,
)
_COUNTED = re.compile(r"uses (\d+)")


def plan_sqlite(connection: sqlite3.Connection, sample: Sample) -> PlanTree:
    """Plan a statement; it is not executed.

    SQLite plans without values, so where the sample has none the placeholders stand for NULL.

    Args:
        connection: of Python's own driver.
        sample: one statement.

    Raises:
        ExplainRefusedError: the database refused; its words are the message.

    Example:
        >>> from upshift.sql.placeholders import Sample
        >>> connection = sqlite3.connect(":memory:")
        >>> _ = connection.execute("CREATE TABLE t (a)")
        >>> [(node.kind, node.relation) for node in plan_sqlite(connection, Sample("SELECT * FROM t")).nodes]
        [('SCAN', 't')]
        >>> connection.close()
    """
    sql = f"EXPLAIN QUERY PLAN {sample.sql}"
    try:
        rows = connection.execute(sql, _values(connection, sql, sample.parameters)).fetchall()
    except (sqlite3.Error, ValueError, OverflowError) as error:
        raise ExplainRefusedError(str(error)) from error
    return PlanTree(database="sqlite", nodes=tuple(_nodes(rows)), version=sqlite3.sqlite_version)


def _values(connection: sqlite3.Connection, sql: str, parameters: Parameters) -> Any:  # noqa: ANN401 - the driver's
    if parameters:
        return parameters
    try:
        connection.execute(sql).close()
    except sqlite3.ProgrammingError as error:
        counted = _COUNTED.search(str(error))
        return (None,) * int(counted[1]) if counted else _Nulls()
    return ()


class _Nulls(dict[str, None]):
    """NULL for every named placeholder."""

    def __missing__(self, name: str) -> None:
        return None


def _nodes(rows: Iterable[tuple[int, int, int, str]]) -> Iterable[PlanNode]:
    depths = {0: 0}
    for node, parent, _, detail in list(rows)[:MAX_NODES]:
        depth = depths.get(parent, 0)
        depths[node] = depth + 1
        read = _READING.match(detail)
        if read is None:
            yield PlanNode(depth=depth, kind=detail)
            continue
        condition = read["condition"]
        yield PlanNode(
            depth=depth,
            kind=read["kind"],
            relation=read["relation"],
            alias=read["alias"] or read["relation"],
            index=read["index"] or read["primary"] or "",
            label="covering" if read["covering"] else "",
            conditions=(("Index Cond", condition),) if condition else (),
        )
