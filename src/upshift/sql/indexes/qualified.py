"""Statements that name tables with their schemas, as they have to be to reach copies of these tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from upshift.sql.catalog import quoted

if TYPE_CHECKING:
    from collections.abc import Collection

    from upshift.sql.catalog import TableName

_NAME = r"""(?:"(?:[^"]|"")*"|[A-Za-z_\u0080-\uffff][\w$]*)"""

# What is quoted as text, and comments, pass as they are.
_TOKENS = re.compile(
    rf"""(?P<text>'(?:[^']|'')*+(?:'|\Z)|\$(?P<tag>[A-Za-z_]*)\$.*?(?:\$(?P=tag)\$|\Z)|--[^\n]*|/\*.*?(?:\*/|\Z))
       |(?P<schema>{_NAME})\s*\.\s*(?P<table>{_NAME})""",
    re.DOTALL | re.VERBOSE,
)


def redirect(sql: str, tables: Collection[TableName]) -> str:
    """Return a statement that asks the temporary tables of these names instead.

    Example:
        >>> from upshift.sql.catalog import TableName
        >>> print(redirect("SELECT a.b, 'depot.stock' FROM Depot.stock", {TableName("stock", "depot")}))
        SELECT a.b, 'depot.stock' FROM pg_temp."stock"
    """
    known = {(name.schema, name.name) for name in tables if name.schema}

    def replace(match: re.Match[str]) -> str:
        if match["text"] is not None:
            return match[0]
        schema, table = _folded(match["schema"]), _folded(match["table"])
        return f"pg_temp.{quoted(table)}" if (schema, table) in known else match[0]

    return _TOKENS.sub(replace, sql) if known else sql


def _folded(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
