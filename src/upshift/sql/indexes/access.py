"""How a statement reaches each table it names: what it is looked up by, joined on, bounded and ordered by.

One walk over the statement reduces each appearance of a table to an `Access`, from which
`upshift.sql.indexes.candidates` makes indexes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast, get_args

from sqlglot import exp

from upshift.sql.indexes.index import Condition, Function, IndexColumn
from upshift.sql.statement import table_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlglot.optimizer.scope import Scope

    from upshift.sql.catalog import Table, TableName
    from upshift.sql.indexes.index import Test
    from upshift.sql.statement import Statement

Constant = str | int | bool
"""A value that stands in a statement, or that every execution was seen to send."""

_FUNCTIONS = frozenset(get_args(Function))
_CONSTANT_TIMES = frozenset({"timestamp", "date"})  # of others the date depends on the session's time zone
_MAX_TEXT = 200


@dataclass(slots=True, eq=False)
class Access:
    """How one appearance of a table in a statement is reached; a table joined to itself appears twice.

    Keys are in the order in which the statement has them.

    Attributes:
        table: the table.
        schema: as the statement names it.
        equal: compared with values for equality.
        joined: compared with columns of other tables.
        bounded: bounds of a range, or a pattern with a beginning.
        ordered: the leading keys of ORDER BY.
        is_limited: whether a LIMIT ends the order.
        contained: keys of GIN indexes: what is searched for a part.
        constant: conditions that are the same in every execution.
        needed: the columns that the statement reads of it, in order; None where it reads them all.
    """

    table: Table
    schema: str | None
    equal: list[IndexColumn] = field(default_factory=list)
    joined: list[IndexColumn] = field(default_factory=list)
    bounded: list[IndexColumn] = field(default_factory=list)
    ordered: list[IndexColumn] = field(default_factory=list)
    is_limited: bool = False
    contained: list[IndexColumn] = field(default_factory=list)
    constant: list[Condition] = field(default_factory=list)
    needed: dict[str, None] | None = field(default_factory=dict)


def accesses(
    statement: Statement, tables: Mapping[TableName, Table], constants: Mapping[str, Constant]
) -> list[Access]:
    """Read how a statement reaches each of the tables.

    Args:
        statement: the statement, understood.
        tables: the tables to read about, by the names that the statement gives them.
        constants: placeholders that had the same value in every execution, by their names in `statement`.
    """
    reading = _Reading(statement, tables, constants)
    for scope in statement.scopes:
        if isinstance(scope.expression, exp.Select):
            reading.read(scope.expression, scope)
    return list(reading.found.values())


class _Reading:
    def __init__(
        self, statement: Statement, tables: Mapping[TableName, Table], constants: Mapping[str, Constant]
    ) -> None:
        self._dialect = statement.dialect
        self._tables = tables
        self._constants = constants
        self.found: dict[tuple[int, str], Access] = {}

    def read(self, select: exp.Select, scope: Scope) -> None:
        for condition in _conditions(select):
            self._note_lookup(condition, scope)
            self._note_bound(condition, scope)
            self._note_part(condition, scope)
            self._note_constant(condition, scope)
        self._note_order(select, scope)
        self._note_needed(select, scope)

    def _note_lookup(self, condition: exp.Expr, scope: Scope) -> None:
        match condition:
            case exp.EQ() | exp.NullSafeEQ():
                self._note_equal(condition.left, condition.right, scope)
                self._note_equal(condition.right, condition.left, scope)
            case exp.In():
                for column in _items(condition.this):
                    self._add_equal(column, scope, is_join=bool(condition.args.get("query")))
            case exp.Is(expression=exp.Null() | exp.Boolean()) if not condition.args.get("negate"):
                self._add_equal(condition.this, scope)
            case exp.Column() | exp.Not(this=exp.Column()):  # a boolean column by itself
                self._add_equal(condition if isinstance(condition, exp.Column) else condition.this, scope)
            case exp.Or():
                self._note_alternatives(list(condition.flatten()), scope)

    def _note_bound(self, condition: exp.Expr, scope: Scope) -> None:
        match condition:
            case exp.GT() | exp.GTE() | exp.LT() | exp.LTE():
                # Of a row comparison, `(a, b) > (1, 2)`, the first column bounds the scan.
                for side in (condition.left, condition.right):
                    for item in _items(side)[:1]:
                        self._add_bounded(item, scope)
            case exp.Between():
                self._add_bounded(condition.this, scope)
            case exp.Like() if not condition.args.get("negate") and _has_prefix(condition.expression):
                self._add_bounded(condition.this, scope, is_pattern=True)
            case exp.Escape(this=exp.Like()):
                self._note_bound(condition.this, scope)

    def _note_part(self, condition: exp.Expr, scope: Scope) -> None:
        """A search for a part of a text, an array or a document, which only a GIN index answers."""
        if self._dialect != "postgresql":
            return
        match condition:
            case exp.Escape():
                self._note_part(condition.this, scope)
            case exp.Like() | exp.ILike() if not condition.args.get("negate"):
                if found := self._resolve(condition.this, scope):
                    access, key = found
                    if access.table.has_trigrams and not _is_anchored(condition):
                        access.contained.append(_with_class(key, "gin_trgm_ops"))
            case exp.ArrayContainsAll() | exp.ArrayOverlaps():
                self._note_container(condition.this, scope)
            case exp.ArrayContainedBy():
                self._note_container(condition.expression, scope)

    def _note_container(self, container: exp.Expr, scope: Scope) -> None:
        found = self._resolve(container, scope)
        if found is None or found[1].function:
            return
        access, key = found
        kind = access.table.types.get(key.name, "")
        if kind == "jsonb":
            access.contained.append(_with_class(key, "jsonb_path_ops"))
        elif kind.startswith("_"):
            access.contained.append(key)

    def _note_equal(self, side: exp.Expr, other: exp.Expr, scope: Scope) -> None:
        """A column equal to a value is looked up; one equal to another table's column is joined."""
        others = (self._resolve(column, scope) for column in other.find_all(exp.Column))
        facing = {found[0] for found in others if found}
        for item in _items(side):
            found = self._resolve(item, scope)
            if found and found[0] not in facing:
                self._add_equal(item, scope, is_join=bool(facing))

    def _note_alternatives(self, alternatives: list[exp.Expr], scope: Scope) -> None:
        """`a = 1 OR a = 2` is a lookup like `a IN (1, 2)`; anything else joined by OR is left alone."""
        columns: set[exp.Expr | None] = set()
        for alternative in alternatives:
            is_lookup = isinstance(alternative, exp.EQ | exp.In)
            columns.update((_items(alternative.this) if is_lookup else []) or [None])
        column = columns.pop() if len(columns) == 1 else None
        if column is not None:
            self._add_equal(column, scope)

    def _note_constant(self, condition: exp.Expr, scope: Scope) -> None:
        """What a partial index could ask of its rows: a comparison with a value that never changes."""
        negated = bool(condition.args.get("negate"))
        column: exp.Expr = condition
        test: Test = "true"
        value: Constant | None = None
        match condition:
            case exp.Is(expression=exp.Null()):
                column, test = condition.this, "is not null" if negated else "is null"
            case exp.Not(this=exp.Is(expression=exp.Null())):
                column, test = condition.this.this, "is not null"
            case exp.Is(expression=exp.Boolean()) if not negated:
                column, test = condition.this, "is true" if condition.expression.this else "is false"
            case exp.Not(this=exp.Column()):
                column, test = condition.this, "false"
            case exp.EQ():
                value = self._value(condition.right)
                column, test = condition.left, "="
        if test == "=" and (value is None or isinstance(value, bool)):
            return
        if isinstance(column, exp.Column) and (found := self._resolve(column, scope)):
            found[0].constant.append(Condition(found[1].name, test, value))

    def _value(self, side: exp.Expr) -> Constant | None:
        while isinstance(side, exp.Cast | exp.Paren):
            side = side.this
        match side:
            case exp.Literal(is_string=True):
                value: Constant | None = side.this
            case exp.Literal():
                value = int(side.this) if side.this.isdecimal() else None
            case exp.Placeholder():
                value = self._constants.get(side.name)
            case _:
                value = None
        if isinstance(value, str) and (len(value) > _MAX_TEXT or "\\" in value or not value.isprintable()):
            return None
        return value

    def _note_order(self, select: exp.Select, scope: Scope) -> None:
        """The leading keys of ORDER BY that one table gives, unless rows are grouped before."""
        order = select.args.get("order")
        if order is None or select.args.get("group") or select.args.get("distinct"):
            return
        aliases = {item.alias: item.this for item in select.expressions if isinstance(item, exp.Alias)}
        access: Access | None = None
        for item in order.expressions:
            key = item.this
            if isinstance(key, exp.Column) and not key.table:
                key = aliases.get(key.name, key)
            found = self._resolve(key, scope)
            column = self._order_column(item, found[1]) if found else None
            if found is None or column is None or access not in {None, found[0]}:
                return
            access = found[0]
            access.ordered.append(column)
            access.is_limited = bool(select.args.get("limit"))

    def _order_column(self, item: exp.Ordered, key: IndexColumn) -> IndexColumn | None:
        is_descending, nulls_first = bool(item.args.get("desc")), bool(item.args.get("nulls_first"))
        if self._dialect == "postgresql":
            usual = is_descending  # PostgreSQL sorts NULLs as the largest values, SQLite as the smallest
            nulls = None if nulls_first == usual else nulls_first
            return IndexColumn(key.name, is_descending, nulls, function=key.function)
        if nulls_first == is_descending:
            return None
        return IndexColumn(key.name, is_descending, function=key.function)

    def _note_needed(self, select: exp.Select, scope: Scope) -> None:
        """Which columns the statement reads, for an index that carries them all."""
        for column in scope.columns:
            if found := self._resolve(column, scope):
                access, key = found
                if access.needed is not None:
                    access.needed[key.name] = None
        for star in select.expressions:
            if isinstance(star, exp.Star) or (isinstance(star, exp.Column) and star.is_star):
                for (owner, alias), access in self.found.items():
                    if owner == id(scope) and getattr(star, "table", "") in {"", alias}:
                        access.needed = None

    def _add_equal(self, side: exp.Expr, scope: Scope, *, is_join: bool = False) -> None:
        if found := self._resolve(side, scope):
            access, key = found
            keys = access.joined if is_join else access.equal
            if key not in keys:
                keys.append(key)

    def _add_bounded(self, side: exp.Expr, scope: Scope, *, is_pattern: bool = False) -> None:
        if found := self._resolve(side, scope):
            access, key = found
            needs_operators = is_pattern and self._dialect == "postgresql"
            access.bounded.append(_with_class(key, "text_pattern_ops") if needs_operators else key)

    def _resolve(self, side: exp.Expr, scope: Scope | None) -> tuple[Access, IndexColumn] | None:
        """The appearance of a table that a key belongs to, and the key as the table spells its column."""
        function: Function | None = None
        if not isinstance(side, exp.Column):
            function = self._function(side)
            if function is None:
                return None
            side = side.this
        column = cast("exp.Column", side)
        while scope is not None:
            for alias, source in scope.sources.items():
                name = table_name(source)
                table = self._tables.get(name) if name else None
                spelled = table.columns.get(column.name) if table else None
                if name and table and spelled and column.table in {"", alias}:
                    if function and not _is_fixed(function, table.types.get(spelled, "timestamp")):
                        return None
                    access = self.found.setdefault((id(scope), alias), Access(table, name.schema))
                    return access, IndexColumn(spelled, function=function)
            if column.table in scope.sources:
                return None
            scope = scope.parent
        return None

    def _function(self, side: exp.Expr) -> Function | None:
        """Which function of a column an expression is, of those that an index can sort by."""
        if not isinstance(side.this, exp.Column):
            return None
        is_postgres = self._dialect == "postgresql"
        name: str | None = None
        match side:
            case exp.Lower() | exp.Upper():
                name = side.key
            case exp.Cast() if is_postgres and side.to.this == exp.DataType.Type.DATE:
                name = "date"
            case exp.Date() if not is_postgres and not side.expressions:
                name = "date"
            case exp.TimestampTrunc() if is_postgres:
                unit = side.args.get("unit")
                told = self._value(unit) if isinstance(unit, exp.Placeholder) else getattr(unit, "name", "")
                name = str(told).lower()
        return cast("Function", name) if name in _FUNCTIONS else None


def _is_fixed(function: Function, kind: str) -> bool:
    """Whether a function's value depends on the column alone, as an index demands."""
    return function in {"lower", "upper"} or kind in _CONSTANT_TIMES


def _with_class(key: IndexColumn, operator_class: str) -> IndexColumn:
    return IndexColumn(key.name, operator_class=operator_class, function=key.function)  # type: ignore[arg-type]


def _conditions(select: exp.Select) -> Iterator[exp.Expr]:
    """What WHERE and the joins demand of every row, one demand at a time."""
    pending = [join.args.get("on") for join in reversed(select.args.get("joins") or [])]
    where = select.args.get("where")
    pending.append(where.this if where else None)
    while pending:
        condition = pending.pop()
        if isinstance(condition, exp.And):
            pending += [condition.right, condition.left]
        elif isinstance(condition, exp.Paren):
            pending.append(condition.this)
        elif condition is not None:
            yield condition


def _items(side: exp.Expr) -> list[exp.Expr]:
    """One side of a comparison; a row `(a, b)` has several."""
    return list(side.expressions) if isinstance(side, exp.Tuple) else [side]


def _has_prefix(pattern: exp.Expr) -> bool:
    """Whether a LIKE pattern can start with characters that stand for themselves."""
    while isinstance(pattern, exp.DPipe):
        pattern = pattern.left
    return not (isinstance(pattern, exp.Literal) and pattern.this.startswith(("%", "_")))


def _is_anchored(condition: exp.Like | exp.ILike) -> bool:
    """Whether a pattern surely starts with characters that a B-tree can search by."""
    pattern = condition.expression
    return isinstance(condition, exp.Like) and isinstance(pattern, exp.Literal) and _has_prefix(pattern)
