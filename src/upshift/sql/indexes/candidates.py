"""Which indexes might serve a statement: read from its text, to be judged by the planner.

A B-tree serves equalities on its leading columns and after them one range or an order
(https://use-the-index-luke.com/sql/where-clause/the-equals-operator/concatenated-keys), so each table of a
statement is reduced to its `_Access`: the columns it is looked up by, joined on, bounded by and ordered by.
The candidates are combinations of these in that order. They are guesses, and generous ones:
`upshift.sql.indexes.advisor` reports none that the planner was not seen to use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from sqlglot import exp

from upshift.sql.indexes.index import MAX_COLUMNS, Index, IndexColumn
from upshift.sql.statement import table_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlglot.optimizer.scope import Scope

    from upshift.sql.catalog import Table, TableName
    from upshift.sql.indexes.index import Columns
    from upshift.sql.statement import Statement

MAX_CANDIDATES = 24
"""Candidates of one statement."""


@dataclass(slots=True, eq=False)
class _Access:
    """How one appearance of a table in a statement is reached; a table joined to itself appears twice.

    Columns are in the order in which the statement has them.
    """

    table: Table
    schema: str | None
    equal: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    bounded: list[IndexColumn] = field(default_factory=list)
    ordered: list[IndexColumn] = field(default_factory=list)
    is_limited: bool = False


def propose(statement: Statement, tables: Mapping[TableName, Table]) -> list[Index]:
    """Return the indexes that might serve a statement and that no existing index makes needless.

    Args:
        statement: the statement, understood.
        tables: the tables to propose for, by the names that the statement gives them.

    Example:
        >>> from upshift.sql.catalog import Table, TableName
        >>> from upshift.sql.statement import read_statement
        >>> item = Table("item", "main", {"id": "id", "kind": "kind", "price": "price"}, (), rows=9_999)
        >>> statement = read_statement("SELECT * FROM item WHERE kind = ? ORDER BY price LIMIT 5", "sqlite")
        >>> for index in propose(statement, {TableName("item"): item}):
        ...     print(*index.columns)
        kind price
        kind
    """
    found = (
        Index(statement.dialect, access.table.name, columns, access.schema)
        for access in _Reading(statement, tables).accesses()
        for columns in _combinations(access)
        if not access.table.has_index(columns)
    )
    return list(islice(dict.fromkeys(found), MAX_CANDIDATES))


def _combinations(access: _Access) -> Iterator[Columns]:
    """Equalities, the most selective first, then the order or one range; and every leading part of these."""
    equal = sorted(access.equal, key=access.table.values, reverse=True)
    heads = [equal, *([column, *(name for name in equal if name != column)] for column in access.joined)]
    for head in heads:
        if access.table.has_key(head):
            continue
        tails = [[column] for column in access.bounded if column.name not in head]
        if head or access.is_limited:
            tails.insert(0, [column for column in access.ordered if column.name not in head])
        for tail in [*filter(None, tails), []]:
            width = min(len(head) + len(tail), MAX_COLUMNS)
            for length in range(width, 0, -1):
                yield (*map(IndexColumn, head[:length]), *_forwards(tail[: max(length - len(head), 0)]))


def _forwards(ordered: list[IndexColumn]) -> list[IndexColumn]:
    """An order that is descending throughout, as the ascending one that a backward scan reads."""
    if all(column == IndexColumn(column.name, descending=True) for column in ordered):
        return [IndexColumn(column.name) for column in ordered]
    return ordered


class _Reading:
    """One walk over a statement that fills in how each appearance of a table is reached."""

    def __init__(self, statement: Statement, tables: Mapping[TableName, Table]) -> None:
        self._dialect = statement.dialect
        self._tables = tables
        self._accesses: dict[tuple[int, str], _Access] = {}
        for scope in statement.scopes:
            if isinstance(scope.expression, exp.Select):
                for condition in _conditions(scope.expression):
                    self._note_lookup(condition, scope)
                    self._note_bound(condition, scope)
                self._note_order(scope.expression, scope)

    def accesses(self) -> Iterable[_Access]:
        return self._accesses.values()

    def _note_lookup(self, condition: exp.Expr, scope: Scope) -> None:
        match condition:
            case exp.EQ() | exp.NullSafeEQ():
                self._note_equal(condition.left, condition.right, scope)
                self._note_equal(condition.right, condition.left, scope)
            case exp.In():
                for column in _columns(condition.this):
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
                    for column in _columns(side)[:1]:
                        self._add_bounded(column, scope)
            case exp.Between():
                self._add_bounded(condition.this, scope)
            case exp.Like() if not condition.args.get("negate") and _has_prefix(condition.expression):
                self._add_bounded(condition.this, scope, is_pattern=True)
            case exp.Escape(this=exp.Like()):
                self._note_bound(condition.this, scope)

    def _note_equal(self, side: exp.Expr, other: exp.Expr, scope: Scope) -> None:
        """A column equal to a value is looked up; one equal to another table's column is joined."""
        others = (self._resolve(column, scope) for column in other.find_all(exp.Column))
        facing = {found[0] for found in others if found}
        for column in _columns(side):
            found = self._resolve(column, scope)
            if found and found[0] not in facing:
                self._add_equal(column, scope, is_join=bool(facing))

    def _note_alternatives(self, alternatives: list[exp.Expr], scope: Scope) -> None:
        """`a = 1 OR a = 2` is a lookup like `a IN (1, 2)`; anything else joined by OR is left alone."""
        columns: set[exp.Column | None] = set()
        for alternative in alternatives:
            is_lookup = isinstance(alternative, exp.EQ | exp.In)
            columns.update((_columns(alternative.this) if is_lookup else []) or [None])
        column = columns.pop() if len(columns) == 1 else None
        if column is not None:
            self._add_equal(column, scope)

    def _note_order(self, select: exp.Select, scope: Scope) -> None:
        """The leading columns of ORDER BY that one table gives, unless rows are grouped before."""
        order = select.args.get("order")
        if order is None or select.args.get("group") or select.args.get("distinct"):
            return
        aliases = {item.alias: item.this for item in select.expressions if isinstance(item, exp.Alias)}
        access: _Access | None = None
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

    def _order_column(self, item: exp.Ordered, name: str) -> IndexColumn | None:
        is_descending, nulls_first = bool(item.args.get("desc")), bool(item.args.get("nulls_first"))
        if self._dialect == "postgresql":
            usual = is_descending  # PostgreSQL sorts NULLs as the largest values, SQLite as the smallest
            return IndexColumn(name, is_descending, None if nulls_first == usual else nulls_first)
        return None if nulls_first == is_descending else IndexColumn(name, is_descending)

    def _add_equal(self, column: exp.Expr, scope: Scope, *, is_join: bool = False) -> None:
        if found := self._resolve(column, scope):
            access, name = found
            columns = access.joined if is_join else access.equal
            if name not in columns:
                columns.append(name)

    def _add_bounded(self, column: exp.Expr, scope: Scope, *, is_pattern: bool = False) -> None:
        if found := self._resolve(column, scope):
            access, name = found
            needs_operators = is_pattern and self._dialect == "postgresql"
            access.bounded.append(
                IndexColumn(name, operator_class="text_pattern_ops" if needs_operators else None)
            )

    def _resolve(self, column: exp.Expr, scope: Scope | None) -> tuple[_Access, str] | None:
        """The appearance of a table that a column belongs to, and the column as the table spells it."""
        if not isinstance(column, exp.Column):
            return None
        while scope is not None:
            for alias, source in scope.sources.items():
                name = table_name(source)
                table = self._tables.get(name) if name else None
                spelled = table.columns.get(column.name) if table else None
                if name and table and spelled and column.table in {"", alias}:
                    access = self._accesses.setdefault((id(scope), alias), _Access(table, name.schema))
                    return access, spelled
            if column.table in scope.sources:
                return None
            scope = scope.parent
        return None


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


def _columns(side: exp.Expr) -> list[exp.Column]:
    """The bare columns of one side of a comparison; a row `(a, b)` has several."""
    items = side.expressions if isinstance(side, exp.Tuple) else [side]
    return [item for item in items if isinstance(item, exp.Column)]


def _has_prefix(pattern: exp.Expr) -> bool:
    """Whether a LIKE pattern can start with characters that stand for themselves."""
    return not (isinstance(pattern, exp.Literal) and pattern.this.startswith(("%", "_")))
