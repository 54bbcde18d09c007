"""What a statement does that SQLAlchemy has compiled, told by its structure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Table
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    ColumnClause,
    Grouping,
    TextClause,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import CTE, Alias, Join, Select, Subquery, TableClause

from upshift.cache.dependencies.effects import effect_of
from upshift.cache.dependencies.names import bare_name
from upshift.cache.dependencies.rows import Given, Pin, kind_of, pin_of
from upshift.cache.dependencies.scopes import Scope, pins_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.sql.elements import ClauseElement
    from sqlalchemy.sql.selectable import FromClause

    from upshift.cache.dependencies.effects import Effect
    from upshift.cache.dependencies.schema import Schema
    from upshift.cache.dependencies.scopes import Place

_DML = frozenset({"insert", "update", "delete"})


def effect_of_compiled(compiled: Any, schema: Schema) -> Effect | None:
    """Return what a statement does; None where parts of it are text, or it names no table.

    Args:
        compiled: SQLAlchemy's compiled statement.
        schema: what is known of tables, and learns of those that the statement names.
    """
    state = getattr(compiled, "compile_state", None)
    statement: ClauseElement | None = getattr(state, "statement", None)
    if statement is None:
        statement = getattr(compiled, "statement", None)
    if statement is None:
        return None
    parts = list(visitors.iterate(statement))
    if any(isinstance(each, TextClause) or _is_literal(each) for each in parts):
        return None
    named = [each for each in parts if isinstance(each, TableClause)]
    changes: list[Any] = [each for each in parts if each.__visit_name__ in _DML]
    if not named and not changes:
        return None  # DDL, functions that return tables, and what else there may be
    for each in (*named, *(change.table for change in changes)):
        if isinstance(each, Table):
            schema.learn(each)
    functions = (getattr(each, "name", "") for each in parts if isinstance(each, FunctionElement))
    called = schema.functions.intersection(map(bare_name, functions))
    if changes:
        read = called.union(bare_name(each.name) for each in named)
        return _of_changes(compiled, statement, changes, read, schema)
    selects = [each for each in parts if isinstance(each, Select)]
    return _of_selects(compiled, selects, named, called, schema)


def _is_literal(element: object) -> bool:
    return isinstance(element, ColumnClause) and element.is_literal and "select" in element.name.lower()


def _of_selects(
    compiled: Any,
    selects: list[Select[Any]],
    named: list[TableClause],
    called: frozenset[str],
    schema: Schema,
) -> Effect:
    pins: list[Pin] = []
    whole = set(called)
    found: set[FromClause] = set()
    for select in selects:
        scope, leaves = _scope(compiled, select)
        pinned = pins_of(scope, schema)
        pins += pinned.values()
        found |= leaves
        whole |= {name for leaf, name in scope.tables.items() if leaf not in pinned}
    # What stands elsewhere than in the FROM of a SELECT is read as a whole.
    accounted = {leaf.element if isinstance(leaf, Alias) else leaf for leaf in found}
    return effect_of(whole | {bare_name(each.name) for each in named if each not in accounted}, pins)


def _scope(compiled: Any, select: Select[Any]) -> tuple[Scope, set[FromClause]]:
    scope = Scope()
    leaves: set[FromClause] = set()
    for each in select.get_final_froms():
        leaves |= _take_from(compiled, scope, each)
    if select.whereclause is not None:
        _take_where(compiled, scope, select.whereclause, leaves)
    return scope, leaves


def _take_from(compiled: Any, scope: Scope, source: FromClause) -> set[FromClause]:
    """Take in a part of a FROM, and return the tables in it."""
    if isinstance(source, Join):
        left = _take_from(compiled, scope, source.left)
        right = _take_from(compiled, scope, source.right)
        if not source.full:
            _take_on(compiled, scope, source, left, right)
        return left | right
    table = source.element if isinstance(source, Alias) else source
    if isinstance(table, TableClause):
        scope.tables[source] = bare_name(table.name)
        return {source}
    if not isinstance(source, (Subquery, CTE)):  # whose SELECTs are looked at alone
        for inner in visitors.iterate(source):
            if isinstance(inner, TableClause):
                scope.tables[inner, "within"] = bare_name(inner.name)
    return set()


def _take_on(compiled: Any, scope: Scope, join: Join, left: set[FromClause], right: set[FromClause]) -> None:
    if not join.isouter:
        if join.onclause is not None:
            _take_where(compiled, scope, join.onclause, left | right)
        return
    inner = Scope()
    if join.onclause is not None:
        _take_where(compiled, inner, join.onclause, left | right)
    for place, values in inner.values.items():
        if place[0] in right:
            scope.pin(place, values)
    scope.links += [(one, other) for one, other in inner.links if one[0] in left and other[0] in right]


def _take_where(compiled: Any, scope: Scope, condition: Any, leaves: set[FromClause]) -> None:
    for each in _conjuncts(condition):
        if not isinstance(each, BinaryExpression):
            continue
        one, other = each.left, each.right
        if each.operator is operators.eq:
            places = [place for side in (one, other) if (place := _place(side, leaves)) is not None]
            if len(places) == 2:  # noqa: PLR2004 - both sides
                scope.link(*places)
            elif len(places) == 1:
                column, value = (one, other) if _place(one, leaves) is not None else (other, one)
                _pin(compiled, scope, places[0], column, value)
        elif each.operator is operators.in_op and (place := _place(one, leaves)) is not None:
            _pin(compiled, scope, place, one, other)


def _conjuncts(condition: Any) -> Iterator[Any]:
    if isinstance(condition, Grouping):
        yield from _conjuncts(condition.element)
    elif isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        for each in condition.clauses:
            yield from _conjuncts(each)
    else:
        yield condition


def _place(element: Any, leaves: set[FromClause]) -> Place | None:
    if isinstance(element, Column) and element.table in leaves:
        return element.table, element.name.lower()
    return None


def _pin(compiled: Any, scope: Scope, place: Place, column: Any, value: Any) -> None:
    if isinstance(value, BindParameter) and kind_of(value.type) == kind_of(column.type):
        name = compiled.bind_names.get(value)
        if name is not None:
            scope.pin(place, (Given(name, is_many=bool(value.expanding)),))


def _of_changes(
    compiled: Any, statement: Any, changes: list[Any], named: frozenset[str], schema: Schema
) -> Effect:
    whole: set[str] = set()
    pins: list[Pin] = []
    generated = ""
    for change in changes:
        name = bare_name(change.table.name)
        kind = change.__visit_name__
        if kind == "insert":
            pin = _inserted(compiled, change, schema) if change is statement else None
            if change._prefixes:  # OR REPLACE
                whole |= schema.with_deleted(name)
            if (conflict := change._post_values_clause) is not None:
                whole |= schema.with_updated(name, _columns_upserted(conflict))
            if pin is None and change is statement and _may_be_generated(change, schema):
                generated = name
            elif pin is None:
                whole.add(name)
            else:
                pins.append(pin)
            continue
        if change._prefixes:  # OR REPLACE
            whole |= {name} | schema.with_deleted(name)
        columns = _columns_set(compiled, change) if kind == "update" else frozenset[str]()
        if kind == "update":
            whole |= schema.with_updated(name, columns)
        else:
            whole |= schema.with_deleted(name)
        found = _changed(compiled, change)
        pin = pins_of(found, schema).get(change.table) if found is not None else None
        if pin is None or schema.sets_key(name, columns):
            whole.add(name)
        else:
            pins.append(pin)
    return effect_of(named, (), whole, pins, generated)


def _changed(compiled: Any, change: Any) -> Scope | None:
    scope = Scope({change.table: bare_name(change.table.name)})
    if not isinstance(change.table, TableClause):
        return None
    for condition in change._where_criteria:
        _take_where(compiled, scope, condition, {change.table})
    return scope


def _columns_set(compiled: Any, change: Any) -> frozenset[str]:
    given = [*(change._values or ()), *(each[0] for each in getattr(change, "_ordered_values", None) or ())]
    keys = {getattr(each, "key", each) for each in given}
    keys |= {str(each) for each in compiled.column_keys or ()}
    names = {str(key).lower() for key in keys}
    by_key = {each.key: each.name for each in change.table.columns}
    names |= {by_key[key].lower() for key in keys if key in by_key}
    return frozenset(names | {each.name.lower() for each in compiled.update_prefetch})


def _is_plain(insert: Any, schema: Schema) -> bool:
    """Whether an INSERT changes no row but those that it brings."""
    if insert._prefixes or insert.select is not None or insert._multi_values:
        return False
    conflict = insert._post_values_clause
    if conflict is None or conflict.__visit_name__ == "on_conflict_do_nothing":
        return True
    if conflict.__visit_name__ != "on_conflict_do_update":
        return False
    key = schema.key(bare_name(insert.table.name))
    targets = {getattr(each, "name", each) for each in conflict.inferred_target_elements or ()}
    return (
        {str(each).lower() for each in targets} == {each.name for each in key}
        and conflict.inferred_target_whereclause is None
        and not schema.sets_key(bare_name(insert.table.name), _columns_upserted(conflict))
    )


def _columns_upserted(conflict: Any) -> frozenset[str]:
    # PostgreSQL and SQLite have pairs, MySQL a dict; a DO NOTHING has neither.
    pairs = getattr(conflict, "update_values_to_set", None) or getattr(conflict, "update", None) or ()
    columns = pairs if isinstance(pairs, dict) else (column for column, _ in pairs)
    return frozenset(str(getattr(each, "name", each)).lower() for each in columns)


def _inserted(compiled: Any, insert: Any, schema: Schema) -> Pin | None:
    name = bare_name(insert.table.name)
    key = schema.key(name)
    if not key or not _is_plain(insert, schema):
        return None
    columns = []
    for each in key:
        bound = compiled.binds.get(each.key)
        if bound is None or not bound._is_crud or each.kind is None:
            return None
        columns.append((each.kind, (Given(each.key),)))
    return pin_of(name, columns)


def _may_be_generated(insert: Any, schema: Schema) -> bool:
    """Whether the keys of what an INSERT brings are told when it is done."""
    name = bare_name(insert.table.name)
    return bool(schema.key(name)) and _is_plain(insert, schema) and insert._post_values_clause is None
