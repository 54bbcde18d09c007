"""What a text does: parsed by sqlglot (extra `find`).

What cannot be understood is taken for a write to everything, unless it begins as a read does; and nothing
that was computed from it is kept.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from upshift.cache.dependencies.effects import NOTHING, UNREADABLE, UNREADABLE_READ, effect_of
from upshift.cache.dependencies.marks import without_marks
from upshift.cache.dependencies.names import SCHEMA, bare_name
from upshift.cache.dependencies.rows import Pin, pin_of
from upshift.cache.dependencies.scopes import pins_of
from upshift.cache.dependencies.text_scopes import is_of_cte, scope_of, value_of

if TYPE_CHECKING:
    from sqlglot.expressions import Expr

    from upshift.cache.dependencies.effects import Effect
    from upshift.cache.dependencies.marks import Marked
    from upshift.cache.dependencies.schema import Schema

MAX_TEXT = 64 * 1024
"""Characters of a text that is still parsed."""

MAX_SETTING = 1_000
"""Characters of a text in which it may set the isolation level."""

_LANGUAGES = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite"}
_LEADING = re.compile(r"(?:\s|\(|/\*.*?\*/|--[^\n]*\n)*+(\w+)", re.DOTALL)
_SILENT = frozenset({
    "analyze", "begin", "close", "commit", "deallocate", "discard", "end", "listen", "lock", "notify",
    "prepare", "release", "reset", "rollback", "savepoint", "set", "start", "unlisten", "vacuum",
})  # fmt: skip
"""First words of what neither reads rows nor changes any."""

_READS = frozenset({"desc", "describe", "fetch", "pragma", "select", "show", "table", "values"})
"""First words of reads. (A SELECT may call a function that writes: see A1 in `upshift.cache.tokens`.)"""

_TEMPORARY = r"create\s+(?:(?:local|global)\s+)?temp(?:orary)?\s+table\s+(?:if\s+not\s+exists\s+)?"
_TEMPORARY_TABLE = re.compile(_TEMPORARY + r"([\w.$\"]+)", re.IGNORECASE)
_ALTERS = re.compile(rf"(?:^|;)\s*(?!{_TEMPORARY})(?:alter|create)\b", re.IGNORECASE)
"""What may change how relations hang together."""

_COMMITS = frozenset({"commit", "end"})
_COMMITS_IN = {
    # The driver of Python sends no BEGIN before a SAVEPOINT, and to release the outermost one is a commit.
    "sqlite": frozenset({"release"}),
    "mysql": frozenset({
        "alter", "analyze", "begin", "cache", "call", "change", "check", "create", "drop", "execute", "flush",
        "grant", "install", "load", "lock", "optimize", "rename", "repair", "reset", "revoke", "set", "start",
        "stop", "truncate", "uninstall", "unlock", "xa",
    }),
}  # fmt: skip
"""First words of what commits, or may, what was written before it."""


def effect_of_text(sql: str, dialect: str, schema: Schema) -> Effect:
    """Return what a text does."""
    leading = _LEADING.match(sql)
    first = leading[1].lower() if leading is not None else ""
    may_commit = first in _COMMITS or first in _COMMITS_IN.get(_LANGUAGES.get(dialect, ""), ())
    effect = _effect_of_text(sql, first, dialect, schema)
    tables, told = effect.tables, sql[leading.start(1) :] if leading is not None else sql
    if dialect == "postgresql" and tables.written and _ALTERS.search(told):
        tables = tables._replace(written=tables.written | {SCHEMA})
    temporary = _TEMPORARY_TABLE.match(told)
    return effect._replace(
        tables=tables,
        is_text=True,
        may_commit=may_commit,
        sets_isolation="isolation" in sql[:MAX_SETTING].lower(),
        temporary=bare_name(temporary[1]) if temporary is not None else "",
    )


def _effect_of_text(sql: str, first: str, dialect: str, schema: Schema) -> Effect:
    if first == "commit" and "prepared" in sql.lower():
        return UNREADABLE
    if first in _SILENT and ";" not in sql.rstrip().rstrip(";"):
        return NOTHING
    found = _parsed(sql, dialect, schema) if len(sql) <= MAX_TEXT else []
    told = [each for each in found if each is not None]
    if not told or len(told) < len(found):
        return UNREADABLE_READ if first in _READS and ";" not in sql else UNREADABLE
    if len(told) == 1:
        return effect_of(*told[0])
    # Of several in one, the rows are not told apart.
    read = {name for each in told for name in each.all_read}
    return effect_of(read, written={name for each in told for name in each.all_written})


def _parsed(sql: str, dialect: str, schema: Schema) -> list[_Found | None]:
    try:
        from sqlglot import ErrorLevel, parse
        from sqlglot.errors import SqlglotError
    except ModuleNotFoundError:
        return []
    marked = without_marks(sql, dialect)
    try:
        trees = parse(marked.sql, read=_LANGUAGES.get(dialect), error_level=ErrorLevel.RAISE)
        return [_of_tree(tree, marked, schema) for tree in trees if tree is not None]
    except (SqlglotError, RecursionError, ValueError):
        return []


class _Found(NamedTuple):
    """What a parsed statement does, as `effect_of` takes it."""

    whole: set[str]
    reads: list[Pin]
    written: set[str]
    writes: list[Pin]

    @property
    def all_read(self) -> set[str]:
        return self.whole | {each.table for each in self.reads}

    @property
    def all_written(self) -> set[str]:
        return self.written | {each.table for each in self.writes}


def _of_tree(tree: Expr, marked: Marked, schema: Schema) -> _Found | None:
    """Return what a parsed statement does; None where it is of a kind that is not known here."""
    from sqlglot import exp

    changes = list(tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge))
    if isinstance(tree, exp.TruncateTable) and str(tree.args.get("option")).upper() == "CASCADE":
        return None  # it goes to every table that refers to this, as the mapping may not tell
    if isinstance(tree, (exp.Create, exp.Drop, exp.Alter, exp.TruncateTable)):
        names = {bare_name(each.name) for each in tree.find_all(exp.Table)}
        deleted = {each for name in names for each in schema.with_deleted(name)}
        return _Found(names, [], names | deleted, []) if names else None
    if not changes and not isinstance(tree, exp.Query):
        return None
    tables = [each for each in tree.find_all(exp.Table) if not is_of_cte(each)]
    called = {bare_name(each.name) for each in tree.find_all(exp.Anonymous)} & schema.functions
    whole = {bare_name(each.name) for each in tables} | called
    made = {bare_name(each.name) for into in tree.find_all(exp.Into) for each in into.find_all(exp.Table)}
    if not changes and not made:
        return _of_query(tree, tables, called, marked, schema)
    written, writes = set(made), list[Pin]()
    for change in changes:
        targets = _targets(change)
        if not targets:
            return None
        names = {bare_name(each.name) for each in targets}
        pin = None
        if change is tree and len(targets) == 1:
            pin = _changed(change, targets[0], marked, schema)
        if pin is None:
            written |= names
        else:
            writes.append(pin)
        written |= {each for name in names for each in _with_changed(change, name, schema)}
    return _Found(whole, [], written, writes)


def _of_query(tree: Expr, tables: list[Any], called: set[str], marked: Marked, schema: Schema) -> _Found:
    from sqlglot import exp

    reads: list[Pin] = []
    pinned: set[int] = set()
    for select in tree.find_all(exp.Select):
        from_ = select.args.get("from_") or select.args.get("from")
        if from_ is None:
            continue
        scope, named = scope_of([from_.this], select.args.get("joins") or [], select, marked)
        for alias, pin in pins_of(scope, schema).items():
            reads.append(pin)
            pinned.add(id(named[alias]))
    whole = {bare_name(each.name) for each in tables if id(each) not in pinned}
    return _Found(whole | called, reads, set(), [])


def _targets(change: Any) -> list[Any]:
    """Return the tables that a statement changes: with several, they may be changed all."""
    from sqlglot import exp

    targets = [*(change.args.get("tables") or ())]
    if change.this is not None:
        targets += change.this.find_all(exp.Table)
    return targets


def _changed(change: Any, target: Any, marked: Marked, schema: Schema) -> Pin | None:
    """Return the rows that a statement changes; None where they are not known."""
    from sqlglot import exp

    name = bare_name(target.name)
    if isinstance(change, exp.Insert):
        return _inserted(change, name, marked, schema)
    if isinstance(change, exp.Merge):
        return None
    if isinstance(change, exp.Update):
        columns = _columns_set(change)
        if columns is None or schema.sets_key(name, columns):
            return None
    from_ = change.args.get("from_") or change.args.get("from")
    others = [*([from_.this] if from_ is not None else ()), *(change.args.get("using") or ())]
    scope, named = scope_of([target, *others], [], change, marked)
    alias = target.alias_or_name.lower()
    return pins_of(scope, schema).get(alias) if named.get(alias) is target else None


def _inserted(insert: Any, name: str, marked: Marked, schema: Schema) -> Pin | None:
    from sqlglot import exp

    key, values, columns = schema.key(name), insert.expression, insert.this
    if not key or not isinstance(values, exp.Values) or not isinstance(columns, exp.Schema):
        return None
    if (insert.args.get("alternative") or "").upper() == "REPLACE" or not _finds_by_key(insert, name, schema):
        return None
    names = [each.name.lower() for each in columns.expressions]
    if any(names.count(each.name) != 1 for each in key):
        return None
    places = [names.index(each.name) for each in key]
    rows = [each.expressions for each in values.expressions if len(each.expressions) == len(names)]
    if len(rows) != len(values.expressions) or (len(rows) > 1 and len(key) > 1):
        return None  # the product of the columns would be more than the rows
    parts = [[value_of(row[place], marked) for row in rows] for place in places]
    found = [
        (each.kind, tuple(value for value in part if value is not None))
        for each, part in zip(key, parts, strict=True)
        if each.kind is not None and None not in part
    ]
    return pin_of(name, found) if len(found) == len(key) else None


def _finds_by_key(insert: Any, name: str, schema: Schema) -> bool:
    """Whether an INSERT changes no row of another key than those that it brings."""
    conflict = insert.args.get("conflict")
    if conflict is None or str(conflict.args.get("action")).upper() == "DO NOTHING":
        return True
    targets = {each.name.lower() for each in conflict.args.get("conflict_keys") or ()}
    set_columns = _columns_set(conflict)
    return (
        targets == {each.name for each in schema.key(name)}
        and set_columns is not None
        and not schema.sets_key(name, set_columns)
    )


def _columns_set(change: Any) -> frozenset[str] | None:
    """Return the columns that SET names; None where that is not known."""
    from sqlglot import exp

    found = [each.this if isinstance(each, exp.EQ) else None for each in change.expressions]
    if not all(isinstance(each, exp.Column) for each in found):
        return None
    return frozenset(each.name.lower() for each in found if each is not None)


def _with_changed(change: Any, name: str, schema: Schema) -> frozenset[str]:
    """Return the tables that the database changes with rows of this one."""
    from sqlglot import exp

    if isinstance(change, exp.Update):
        return schema.with_updated(name, _columns_set(change))
    if isinstance(change, exp.Insert):
        if (change.args.get("alternative") or "").upper() == "REPLACE":
            return schema.with_deleted(name)
        conflict = change.args.get("conflict")
        return frozenset() if conflict is None else schema.with_updated(name, _columns_set(conflict))
    if isinstance(change, exp.Delete):
        return schema.with_deleted(name)
    return schema.with_changed(name)
