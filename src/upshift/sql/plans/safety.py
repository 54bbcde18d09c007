"""Whether a statement may be executed to measure it: decided from its plan and the catalog, not its text.

A plan tells what would really be executed. Views, row-level security and SQL functions have been put in
place of their names, and every expression stands in it (VERBOSE). So the plan of a statement is read first,
and the statement is executed only where

- no node writes, locks rows, or asks another server (a foreign table, an extension's own node);
- every function that is called is declared to change nothing: neither VOLATILE, as `nextval`,
  `pg_advisory_lock`, `set_config` and `dblink` are, nor PARALLEL UNSAFE, the catalog's other word for
  functions that change the state of the database or of the session
  (https://www.postgresql.org/docs/current/xfunc-volatility.html, …/parallel-safety.html);
- no operator or cast in the database is made of such a function of its user's.

Where several functions share a name, all of them have to be harmless. This comes on top of a transaction that
is read only, limited in time and rolled back: a function that is declared harmless and is not cannot write
there either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from upshift.sql.catalog import quoted
from upshift.sql.plans.names import NAME, unquoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CHANGING = {
    "ModifyTable": "it writes",
    "LockRows": "it locks rows",
    "Foreign Scan": "it asks another server",
    "Custom Scan": "an extension executes a part of it",
}
_NO_EXPRESSIONS = frozenset(
    {"Plans", "Node Type", "Relation Name", "Schema", "Alias", "Index Name", "Subplan Name", "CTE Name"}
)

_TEXT = re.compile(r"""E?'(?:[^'\\]|''|\\.)*+'""", re.DOTALL)
_CALL = re.compile(rf"(?P<name>{NAME})\s*\(")

# A name that stands before a parenthesis may be a keyword or a type: then no function has it.
_UNSAFE_FUNCTIONS = sa.text("""
    SELECT DISTINCT proname FROM pg_proc
    WHERE proname = ANY(:names) AND (provolatile = 'v' OR proparallel = 'u')
    ORDER BY proname
""")

# 16384 is FirstNormalObjectId: below it is what PostgreSQL itself brings.
_UNSAFE_OPERATORS = sa.text("""
    SELECT 'the operator ' || oprname FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
    WHERE p.oid >= 16384 AND p.provolatile = 'v'
    UNION ALL
    SELECT 'the cast to ' || format_type(casttarget, NULL) FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc
    WHERE p.oid >= 16384 AND p.provolatile = 'v'
    LIMIT 1
""")


def why_not_executed(connection: sa.Connection, plan: Mapping[str, Any]) -> str:
    """Why a statement is better not executed; "" where it may be.

    Args:
        connection: to the database that made the plan.
        plan: the root of its plan, asked for with VERBOSE.
    """
    names: set[str] = set()
    for node in _nodes(plan):
        kind = node.get("Node Type")
        if kind in _CHANGING:
            return _CHANGING[kind]
        for text in _expressions(node):
            names |= {unquoted(call["name"]) for call in _CALL.finditer(_TEXT.sub("", text))}
    unsafe = connection.scalars(_UNSAFE_FUNCTIONS, {"names": sorted(names)}).first() if names else None
    if unsafe is not None:
        return f"the function {unsafe} is volatile or parallel unsafe"
    made = connection.scalars(_UNSAFE_OPERATORS).first()
    return "" if made is None else f"{made} is made of a volatile function"


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    waiting = [plan]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.get("Plans", ())


def _expressions(node: Mapping[str, Any]) -> Iterator[str]:
    for name, value in node.items():
        if name not in _NO_EXPRESSIONS:
            if name == "Function Name":
                yield f"{quoted(str(value))}("
            yield from (
                each for each in (value if isinstance(value, list) else (value,)) if isinstance(each, str)
            )
