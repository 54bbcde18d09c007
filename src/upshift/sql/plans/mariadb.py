"""Reads MariaDB's and MySQL's answer to `EXPLAIN FORMAT=JSON` into a tree.

Both nest what they do in objects with names of their own, which differ between the two and between versions
(https://mariadb.com/kb/en/explain-format-json/, https://dev.mysql.com/doc/refman/8.4/en/explain-output.html).
So the reader knows what is the same in all of them: a `table` is read in the way that its `access_type` says,
a few names are steps worth showing, and whatever else holds those is passed through.

MySQL and MariaDB from 11.1 on tell costs; before that MariaDB tells rows only.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from upshift.sql.analysis.digest import normalise
from upshift.sql.plans.explain import ExplainRefusedError, refusal
from upshift.sql.plans.tree import MAX_NODES, PlanNode, PlanTree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from upshift.sql.placeholders import Sample

MAX_CONDITION = 500
"""Characters of a condition that are kept."""

MAX_DEPTH = 100
"""Levels of the document that are read; a statement nested deeper has a plan that nobody reads."""

_STEPS = {
    "filesort": "filesort",
    "temporary_table": "temporary table",
    "ordering_operation": "ordering",
    "grouping_operation": "grouping",
    "duplicates_removal": "duplicates removal",
    "block-nl-join": "block nested loop join",
    "union_result": "union",
    "materialized": "materialize",
    "materialized_from_subquery": "materialize",
    "expression_cache": "subquery cache",
    "window_functions_computation": "windows",
    "buffer_result": "buffer",
}
"""Objects that are shown as steps, and what they are called there."""

_CONDITIONS = ("index_condition", "attached_condition", "sort_key")
_READING = re.compile(r"[\s(]*(?:SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"%%|%s|%\(\w+\)s|\?")


def plan_mariadb(connection: sa.Connection, sample: Sample, *, seconds: float) -> PlanTree:
    """Plan a statement; it is not executed.

    The database plans for values, so where the sample has none the placeholders stand for NULL.

    Args:
        connection: a synchronous one, outside of any transaction, that nobody else uses.
        sample: one statement, with the driver's placeholders (`%s`).
        seconds: how long the database may take.

    Raises:
        ExplainRefusedError: the database refused; its words are the message.
        sqlalchemy.exc.DBAPIError: the connection broke.
    """
    if getattr(connection.dialect, "is_mariadb", False):
        limit, version = f"SET SESSION max_statement_time = {seconds}", "mariadb"
    else:
        limit, version = f"SET SESSION max_execution_time = {seconds * 1000:.0f}", "mysql"
    sql, parameters = f"EXPLAIN FORMAT=JSON {sample.sql}", sample.parameters or None
    if parameters is None:
        sql = _PLACEHOLDER.sub(lambda found: "%" if found[0] == "%%" else "NULL", sql)
    try:
        with connection.begin() as transaction:
            connection.exec_driver_sql(limit)
            # A statement that writes is refused in a transaction that must not, even if it is only planned.
            mode = " READ ONLY" if _READING.match(sample.sql) else ""
            connection.exec_driver_sql(f"START TRANSACTION{mode}")
            options = {"no_parameters": parameters is None}
            answer = connection.exec_driver_sql(sql, parameters, execution_options=options).scalar_one()
            transaction.rollback()
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        raise ExplainRefusedError(refusal(error)) from error
    told = ".".join(map(str, connection.dialect.server_version_info or ()))
    return read_mariadb(json.loads(answer), database=version, version=told)


def read_mariadb(document: Mapping[str, Any], *, database: Any = "mariadb", version: str = "") -> PlanTree:  # noqa: ANN401 - a name of `DatabaseName`
    """Read a plan.

    Args:
        document: the answer.
        database: "mariadb" or "mysql".
        version: the database's version.

    Example:
        >>> table = {"table_name": "sale", "access_type": "ref", "key": "by_day", "rows": 3}
        >>> tree = read_mariadb({"query_block": {"nested_loop": [{"table": table}]}})
        >>> [(node.kind, node.relation, node.index, node.rows) for node in tree.nodes]
        [('ref', 'sale', 'by_day', 3.0)]
    """
    nodes = tuple(node for node, _ in zip(_nodes(document, 0, 0), range(MAX_NODES), strict=False))
    block = document.get("query_block")
    cost = _cost(block, "query_cost") if isinstance(block, dict) else None
    return PlanTree(database=database, nodes=nodes, cost=cost, version=version)


def _nodes(value: object, depth: int, level: int) -> Iterator[PlanNode]:
    if level > MAX_DEPTH:
        return
    if isinstance(value, list):
        for each in value:
            yield from _nodes(each, depth, level + 1)
    elif isinstance(value, dict):
        for name, inner in value.items():
            node = _node(name, inner, depth)
            if node is not None:
                yield node
            yield from _nodes(inner, depth if node is None else depth + 1, level + 1)


def _node(name: str, inner: object, depth: int) -> PlanNode | None:
    if not isinstance(inner, dict):
        return None
    if name == "table":
        relation = _text(inner.get("table_name"))
        return PlanNode(
            depth=depth,
            kind=_text(inner.get("access_type")) or _text(inner.get("message")) or "table",
            relation="" if relation.startswith("<") else relation,
            alias=relation,
            index=_text(inner.get("key")),
            label="using index" if inner.get("using_index") is True else "",
            conditions=tuple(_conditions(inner)),
            cost=_cost(inner, "prefix_cost"),
            own_cost=_own_cost(inner),
            rows=_number(inner.get("rows", inner.get("rows_examined_per_scan"))),
        )
    if name in _STEPS:
        return PlanNode(depth=depth, kind=_STEPS[name], conditions=tuple(_conditions(inner)))
    return None


def _conditions(inner: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _CONDITIONS:
        if text := _text(inner.get(name)):
            yield name, normalise(text)[:MAX_CONDITION]


def _own_cost(table: Mapping[str, Any]) -> float | None:
    told = table.get("cost_info")
    if isinstance(told, dict):
        parts = [_number(told.get(name)) for name in ("read_cost", "eval_cost")]
        return sum(part or 0.0 for part in parts)
    return _number(table.get("cost"))


def _cost(inner: Mapping[str, Any], name: str) -> float | None:
    told = inner.get("cost_info")
    return _number(told.get(name)) if isinstance(told, dict) else _number(inner.get("cost"))


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
