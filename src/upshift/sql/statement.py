"""A statement's text, understood: what kind it is, which tables it names, what its names refer to.

Parsing is sqlglot's (extra `find`). It is for advice, never on the way of a request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp, parse
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.optimizer.scope import Scope, traverse_scope

from upshift.errors import UpshiftError
from upshift.sql.catalog import TableName
from upshift.sql.placeholders import name_placeholders

if TYPE_CHECKING:
    from upshift.sql.indexes.index import DialectName

MAX_LENGTH = 64 * 1024
"""Characters of a statement that is still read; parsing that many takes about half a second."""

LANGUAGES = {"postgresql": "postgres", "sqlite": "sqlite"}
"""What sqlglot calls the databases."""
_KEYWORD = re.compile(
    r"(?:\s|\(|/\*.*?\*/|--[^\n]*\n)*+(?:SELECT|WITH|UPDATE|DELETE)\b", re.IGNORECASE | re.DOTALL
)


class UnreadableStatementError(UpshiftError):
    """The text is not one SELECT, UPDATE or DELETE that can be understood; the message says why."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that has been understood.

    Attributes:
        dialect: the database it is written for.
        is_select: whether nothing in it writes.
        tables: the tables it names; common table expressions are not among them.
        scopes: its SELECTs, each with what its names refer to. An UPDATE or DELETE stands there as the
            SELECT of the rows it changes.
    """

    dialect: DialectName
    is_select: bool
    tables: frozenset[TableName]
    scopes: tuple[Scope, ...]


def read_statement(sql: str, dialect: DialectName) -> Statement:
    """Understand the text of one statement.

    What passes is one statement, and an `EXPLAIN` put before it will not execute it: a text with a
    semicolon anywhere but at its end is refused, since a driver could send it as several.

    Args:
        sql: the text, with PostgreSQL's own placeholders (`$1`) or SQLite's.
        dialect: the database it is written for.

    Raises:
        UnreadableStatementError: it is none of SELECT, UPDATE and DELETE, or cannot be parsed.

    Example:
        >>> sorted(read_statement("SELECT * FROM a JOIN b ON b.a_id = a.id", "sqlite").tables)
        [TableName(name='a', schema=None), TableName(name='b', schema=None)]
    """
    if len(sql) > MAX_LENGTH:
        raise UnreadableStatementError(f"the statement is longer than {MAX_LENGTH:,} characters")
    if not _KEYWORD.match(sql):
        raise UnreadableStatementError("only SELECT, UPDATE and DELETE are explained")
    if ";" in sql.rstrip().removesuffix(";") or "\0" in sql:
        raise UnreadableStatementError("the text holds a semicolon, so it may be several statements")
    try:
        return _read(sql, dialect)
    except UnreadableStatementError:
        raise
    except RecursionError as error:
        raise UnreadableStatementError("the statement is nested too deeply") from error
    except Exception as error:
        # A parser given any text at all fails in any way at all; none of them is the caller's fault.
        raise UnreadableStatementError(f"the statement cannot be parsed ({type(error).__name__})") from error


def table_name(source: object) -> TableName | None:
    """The table that a scope's source is; None for a subquery, a function or another database's table."""
    if isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier) and not source.catalog:
        return TableName(source.name, source.db or None)
    return None


def _read(sql: str, dialect: DialectName) -> Statement:
    language = LANGUAGES[dialect]
    # sqlglot takes `$1,$2` for the start of a dollar-quoted string, so placeholders become names for it.
    roots = parse(name_placeholders(sql) if dialect == "postgresql" else sql, dialect=language)
    root = roots[0]
    if len(roots) != 1 or not isinstance(root, exp.Query | exp.Update | exp.Delete):
        raise UnreadableStatementError("only a single SELECT, UPDATE or DELETE is explained")
    if root.find(exp.Into):
        raise UnreadableStatementError("SELECT INTO creates a table")
    query = root if isinstance(root, exp.Query) else _as_select(root)
    scopes = tuple(traverse_scope(normalize_identifiers(query, dialect=language)))
    sources = (source for scope in scopes for source in scope.sources.values())
    return Statement(
        dialect=dialect,
        is_select=not root.find(exp.DML),
        tables=frozenset(name for source in sources if (name := table_name(source))),
        scopes=scopes,
    )


def _as_select(change: exp.Update | exp.Delete) -> exp.Select:
    select = exp.select("*").from_(change.this)
    for key, value in change.args.items():
        if isinstance(value, exp.Where | exp.With):
            select.set(key, value.copy())
        elif isinstance(value, exp.From):
            select = select.join(value.this, join_type="cross")
        elif key == "using" and value:
            for other in value if isinstance(value, list) else [value]:  # older sqlglot has but one
                select = select.join(other, join_type="cross")
    return select
