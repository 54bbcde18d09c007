"""One FROM of a parsed text with its WHERE, as `upshift.cache.dependencies.scopes` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from upshift.cache.dependencies.names import bare_name
from upshift.cache.dependencies.rows import Fixed, Given
from upshift.cache.dependencies.scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from sqlglot.expressions import Expr

    from upshift.cache.dependencies.marks import Marked
    from upshift.cache.dependencies.rows import Value
    from upshift.cache.dependencies.scopes import Place

_SAME = frozenset({"INT", "BIGINT", "SMALLINT", "UUID", "TEXT", "VARCHAR", "DATE"})
"""Types to which a driver casts a parameter without changing what it equals."""


def scope_of(
    sources: list[Any], joins: list[Any], statement: Expr, marked: Marked
) -> tuple[Scope, dict[Hashable, Any]]:
    """Return a FROM with its WHERE, and what each of its tables is in the tree."""
    from sqlglot import exp

    scope = Scope()
    named: dict[Hashable, Any] = {}
    all_sources = [*sources, *(each.this for each in joins)]
    is_only = len(all_sources) == 1 and not all_sources[0].args.get("joins")
    for source in all_sources:
        if isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
            alias = source.alias_or_name.lower()
            if alias in named or source.alias_column_names or is_of_cte(source):
                continue
            named[alias] = source
            scope.tables[alias] = bare_name(source.name)
    reader = _Conditions(scope, next(iter(named), "") if is_only else "", marked)
    where = statement.args.get("where")
    if where is not None:
        reader.take(where.this)
    for join in joins:
        on, side = join.args.get("on"), (join.side or "").upper()
        if on is not None and not side:
            reader.take(on)
        elif on is not None and side == "LEFT" and isinstance(join.this, exp.Table):
            reader.take_filled_up(on, join.this.alias_or_name.lower())
    return scope, named


class _Conditions:
    """Takes in what conditions say of the columns of a FROM.

    Args:
        scope: the FROM.
        only: what its table is called, where it has one alone, so that columns may be without.
        marked: whose marks of parameters they have.
    """

    def __init__(self, scope: Scope, only: str, marked: Marked) -> None:
        self._scope = scope
        self._only = only
        self._marked = marked

    def take(self, condition: Expr) -> None:
        """Take in a condition that all rows fulfil."""
        from sqlglot import exp

        for each in _conjuncts(condition):
            if isinstance(each, exp.EQ):
                one, other = self._place(each.this), self._place(each.expression)
                if one is not None and other is not None:
                    self._scope.link(one, other)
                elif one is not None or other is not None:
                    value = value_of(each.expression if one is not None else each.this, self._marked)
                    if value is not None:
                        self._scope.pin(one or other or ("", ""), (value,))
            elif isinstance(each, exp.In) and (place := self._place(each.this)) is not None:
                values = [value_of(one, self._marked) for one in each.expressions]
                known = tuple(one for one in values if one is not None)
                if known and len(known) == len(values):
                    self._scope.pin(place, known)

    def take_filled_up(self, condition: Expr, alias: str) -> None:
        """Take in what says which rows are joined to the others, that stay where there is none."""
        inner = Scope(self._scope.tables)
        _Conditions(inner, "", self._marked).take(condition)
        for place, values in inner.values.items():
            if place[0] == alias:
                self._scope.pin(place, values)
        self._scope.links += [pair for pair in inner.links if pair[1][0] == alias != pair[0][0]]

    def _place(self, element: Any) -> Place | None:
        from sqlglot import exp

        while isinstance(element, exp.Paren):
            element = element.this
        if not isinstance(element, exp.Column) or not isinstance(element.this, exp.Identifier):
            return None
        alias = element.table.lower() or self._only
        return (alias, element.name.lower()) if alias in self._scope.tables else None


def value_of(element: Any, marked: Marked) -> Value | None:
    """Return a value that a condition compares with; None where it is none that is known."""
    from sqlglot import exp

    while isinstance(element, (exp.Paren, exp.Cast)):
        kind = element.args.get("to")
        if kind is not None and (kind.expressions or kind.this.name not in _SAME):
            return None
        element = element.this
    if isinstance(element, exp.Placeholder):
        return Given(element.name) if element.name else None
    if not isinstance(element, exp.Literal):
        return None
    if element.is_string:
        return None if marked.prefix and marked.prefix in element.name else Fixed(element.name)
    name = marked.name(element.name)
    if name is not None:
        return Given(name)
    return Fixed(int(element.name)) if element.name.isdigit() and marked.prefix else None


def _conjuncts(condition: Any) -> Iterator[Any]:
    from sqlglot import exp

    waiting = [condition]
    while waiting:
        each = waiting.pop()
        if isinstance(each, exp.And):
            waiting += (each.this, each.expression)
        elif isinstance(each, exp.Paren):
            waiting.append(each.this)
        else:
            yield each


def is_of_cte(table: Any) -> bool:
    """Whether a name is that of a CTE. Before it is defined, and within that, it is a table's."""
    if table.args.get("db") is not None:
        return False
    name, node = table.name.lower(), table
    while (node := node.parent) is not None:
        with_ = node.args.get("with_") or node.args.get("with")
        if with_ is not None and name in _visible(with_, table):
            return True
    return False


def _visible(with_: Any, table: Any) -> set[str]:
    """Return the names of CTEs that may stand in the place of a table."""
    names = set()
    for each in with_.expressions:
        if _is_within(table, each) and not with_.args.get("recursive"):
            break
        names.add(each.alias_or_name.lower())
    return names


def _is_within(node: Any, other: Any) -> bool:
    while node is not None and node is not other:
        node = node.parent
    return node is other
