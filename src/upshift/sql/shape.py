"""What of a SELECT's text bears on findings: what it counts, limits, compares, and how it narrows its rows.

Texts are understood by `upshift.sql.statement`, with sqlglot (extra `find`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlglot import exp

from upshift.sql.placeholders import Sample, number
from upshift.sql.statement import UnreadableStatementError, read_statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlglot.optimizer.scope import Scope

    from upshift.sql.indexes.index import DialectName

_COMPARISONS = (exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In)
_NO_FUNCTIONS = (exp.Connector, exp.Case, exp.If, exp.AggFunc, exp.Binary, exp.SubqueryPredicate)


class Wrapped(NamedTuple):
    """A column that is compared through a function, so that an index on it does not serve.

    Attributes:
        table: the table's name.
        column: the column's.
        expression: what is compared, such as `LOWER(email)`.
    """

    table: str
    column: str
    expression: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A SELECT, as far as findings ask.

    Attributes:
        counted: the filter whose rows it counts, where that is all it does; else None.
        paged: the filters of which it takes a page.
        is_whole: whether it returns every row of its filter: no LIMIT, no grouping, no list of values.
        open_patterns: columns compared by LIKE with a pattern that begins with a wildcard.
        patterns: columns compared by LIKE with a parameter, whose beginning the text does not tell.
        wrapped: columns that are compared through a function.

    A filter is the tables that a SELECT joins with its conditions, as text without values.
    """

    counted: str | None = None
    paged: frozenset[str] = frozenset()
    is_whole: bool = False
    open_patterns: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    wrapped: tuple[Wrapped, ...] = ()


def read_shape(sql: str) -> Shape | None:
    """Understand a statement; None where it is no SELECT that can be understood.

    Example:
        >>> read_shape("SELECT count(*) FROM book WHERE author_id = ?").counted
        'book WHERE author_id = ?'
    """
    for text, dialect in _readings(sql):
        try:
            statement = read_statement(text, dialect)
        except UnreadableStatementError:
            continue
        return _of_scopes(statement.scopes) if statement.is_select and statement.scopes else None
    return None


def _readings(sql: str) -> Iterator[tuple[str, DialectName]]:
    """The text as each database would read it; that of its placeholders first."""
    if "%(" in sql or "%s" in sql:
        yield number(Sample(sql), "pyformat").sql, "postgresql"
    elif "?" in sql:
        yield sql, "sqlite"
    else:
        yield sql, "postgresql"
        yield sql, "sqlite"


def _of_scopes(scopes: tuple[Scope, ...]) -> Shape:
    root = scopes[-1]
    return Shape(
        counted=_counted(root) or None,
        paged=frozenset(_filter(each) for each in scopes if _is_limited(each)) - {""},
        is_whole=_is_whole(root),
        open_patterns=tuple(name for each in scopes for name, is_open in _patterns(each) if is_open),
        patterns=tuple(name for each in scopes for name, is_open in _patterns(each) if is_open is None),
        wrapped=tuple(dict.fromkeys(each for scope in scopes for each in _wrapped(scope))),
    )


def _is_limited(scope: Scope) -> bool:
    select = scope.expression
    return bool(select.args.get("limit") or select.args.get("fetch"))


def _filter(scope: Scope) -> str:
    """The tables and conditions of a SELECT, without values and outer joins; "" where it has none itself."""

    def without_value(node: exp.Expression) -> exp.Expression:
        return exp.Placeholder() if isinstance(node, exp.Placeholder | exp.Literal) else node

    select = scope.expression
    source = select.args.get("from") or select.args.get("from_")
    parts = [source.this] if source else []
    parts += [join for join in select.args.get("joins") or () if join.side != "LEFT"]
    parts += [where] if (where := select.args.get("where")) else []
    return " ".join(part.copy().transform(without_value).sql() for part in parts)


def _counted(root: Scope) -> str | None:
    select = root.expression
    is_count = len(select.expressions) == 1 and isinstance(select.expressions[0].unalias(), exp.Count)
    if not is_count or select.args.get("group"):
        return None
    inner = [source for source in root.sources.values() if not isinstance(source, exp.Expression)]
    if not inner:
        return _filter(root)
    return _filter(inner[0]) if len(root.sources) == 1 and not _is_limited(inner[0]) else None


def _is_whole(root: Scope) -> bool:
    select = root.expression
    if not isinstance(select, exp.Select) or not root.sources or _is_limited(root):
        return False
    if select.args.get("group") or select.args.get("distinct"):
        return False
    if any(
        expression.find(exp.AggFunc) and not expression.find(exp.Window) for expression in select.expressions
    ):
        return False
    return not any(
        isinstance(each, exp.In) or (isinstance(each, exp.EQ) and each.find(exp.Any))
        for each in _conditions(root)
    ) and not any(_is_limited(each) for each in root.traverse())


def _conditions(scope: Scope) -> Iterator[exp.Expression]:
    """The conditions that all rows of a SELECT meet."""
    where = scope.expression.args.get("where")
    if where is not None:
        is_several = isinstance(where.this, exp.And)
        yield from (each.unnest() for each in where.this.flatten()) if is_several else (where.this,)


def _patterns(scope: Scope) -> Iterator[tuple[str, bool | None]]:
    """Each column that is compared by LIKE, and whether its pattern begins with a wildcard."""
    for each in _in_where(scope, exp.Like, exp.ILike):
        column = each.this.find(exp.Column)
        if column is not None:
            first = next(each.expression.find_all(exp.Literal, exp.Placeholder, bfs=False), None)
            if isinstance(first, exp.Literal):
                yield column.name, first.this.startswith(("%", "_"))
            elif first is not None:
                yield column.name, None


def _wrapped(scope: Scope) -> Iterator[Wrapped]:
    for each in _in_where(scope, *_COMPARISONS):
        side = each.this
        others = [value for key, value in each.args.items() if key != "this"]
        if not _is_function(side) or any(_has_column(other) for other in others):
            continue
        columns = list(side.find_all(exp.Column))
        if len(columns) == 1 and (table := _table_of(columns[0], scope)):
            bare = side.copy()
            for column in bare.find_all(exp.Column):
                column.set("table", None)
            yield Wrapped(table, columns[0].name, bare.sql())


def _in_where(scope: Scope, *kinds: type[exp.Expression]) -> Iterator[exp.Expression]:
    where = scope.expression.args.get("where")
    if where is not None:
        yield from where.find_all(*kinds)


def _is_function(side: object) -> bool:
    if not isinstance(side, exp.Func) or isinstance(side, _NO_FUNCTIONS):
        return False
    return not side.key.startswith("json")  # those have indexes of their own kind


def _has_column(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(each, exp.Expression) and each.find(exp.Column, exp.Query) for each in values)


def _table_of(column: exp.Column, scope: Scope) -> str | None:
    source = scope.sources.get(column.table)
    if source is None and not column.table and len(scope.sources) == 1:
        source = next(iter(scope.sources.values()))
    return source.name if isinstance(source, exp.Table) else None
