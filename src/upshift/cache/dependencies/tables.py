"""Which tables a statement reads and writes.

A statement that SQLAlchemy compiled is asked by its structure, once for each entry of its compiled cache. A
text is parsed by sqlglot (extra `find`), once for each text. What cannot be understood is taken for a write
to everything, unless it begins as a read does; and nothing that was computed from it is kept.

Tables are told apart by their bare names in lower case. Two of one name in different schemas are taken for
one, which costs hits and never a stale one; `public.product` and `product` are the same wherever the search
path says.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Table
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnClause, TextClause

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import MetaData
    from sqlalchemy.sql.elements import ClauseElement
    from sqlglot.expressions import Expr

EVERYTHING = "*"
"""The tag of everything that was computed from a database; who may have written anything writes it."""

logger = logging.getLogger("upshift.cache")

MAX_TEXTS = 2_048
"""Texts whose tables are remembered; the one unused for longest makes room."""

MAX_TEXT = 64 * 1024
"""Characters of a text that is still parsed."""

_LANGUAGES = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite"}
_DML = frozenset({"insert", "update", "delete"})
_LEADING = re.compile(r"(?:\s|\(|/\*.*?\*/|--[^\n]*\n)*+(\w+)", re.DOTALL)
_SILENT = frozenset({
    "analyze", "begin", "close", "commit", "deallocate", "discard", "end", "listen", "lock", "notify",
    "prepare", "release", "reset", "rollback", "savepoint", "set", "start", "unlisten", "vacuum",
})  # fmt: skip
"""First words of what neither reads rows nor changes any."""

_READS = frozenset({"desc", "describe", "fetch", "pragma", "select", "show", "table", "values"})
"""First words of reads. (A SELECT may call a function that writes: see A1 in `upshift.cache.tokens`.)"""


class Tables(NamedTuple):
    """What a statement does to tables.

    Attributes:
        read: tags of the tables it reads.
        written: tags of the tables that it changes, cascades that the mapping knows of included.
        is_understood: whether that is all.
    """

    read: frozenset[str]
    written: frozenset[str]
    is_understood: bool = True


UNREADABLE = Tables(frozenset(), frozenset({EVERYTHING}), is_understood=False)
_UNREADABLE_READ = Tables(frozenset(), frozenset(), is_understood=False)


def table_tag(name: str) -> str:
    """Return the tag of a table.

    Example:
        >>> table_tag("public.Product")
        'table:product'
    """
    bare = name.rpartition(".")[2].strip('"`').lower()
    return f"table:{bare}"


class StatementTables:
    """Tells the tables of statements, and remembers them.

    Args:
        views: for the name of each view or function, the tables that it reads.

    Example:
        >>> sql = "UPDATE product SET price = 1 WHERE id IN (SELECT id FROM cart)"
        >>> tables = StatementTables().of_text(sql, "sqlite")
        >>> sorted(tables.read), sorted(tables.written)
        (['table:cart', 'table:product'], ['table:product'])
    """

    def __init__(self, views: Mapping[str, Iterable[str]] | None = None) -> None:
        self._views = {
            table_tag(view): frozenset(map(table_tag, tables)) for view, tables in (views or {}).items()
        }
        self._compiled: WeakKeyDictionary[Any, Tables] = WeakKeyDictionary()
        self._texts: OrderedDict[tuple[str, str], Tables] = OrderedDict()
        self._cascades: WeakKeyDictionary[MetaData, dict[str, frozenset[str]]] = WeakKeyDictionary()

    def of_context(self, context: Any, sql: str) -> Tables:
        """Return the tables of a statement that is about to be sent.

        Args:
            context: SQLAlchemy's execution context.
            sql: what is sent.
        """
        compiled = getattr(context, "compiled", None)
        if compiled is None:
            return self.of_text(sql, context.dialect.name)
        known = self._compiled.get(compiled)
        if known is None:
            try:
                known = self._of_compiled(compiled, sql, context.dialect.name)
            except Exception:
                logger.exception("a statement's tables cannot be told; it is taken for a write to everything")
                known = UNREADABLE
            self._compiled[compiled] = known
        return known

    def of_text(self, sql: str, dialect: str) -> Tables:
        """Return the tables of a text."""
        key = (dialect, sql)
        known = self._texts.get(key)
        if known is None:
            known = self._texts[key] = self._with_views(_parsed(sql, dialect))
            if len(self._texts) > MAX_TEXTS:
                self._texts.popitem(last=False)
        return known

    def _of_compiled(self, compiled: Any, sql: str, dialect: str) -> Tables:
        state = getattr(compiled, "compile_state", None)
        statement: ClauseElement | None = getattr(state, "statement", None)
        if statement is None:
            statement = getattr(compiled, "statement", None)
        if statement is None:
            return self.of_text(sql, dialect)
        read, written = set(), set()
        for element in visitors.iterate(statement):
            if isinstance(element, TextClause) or _is_literal(element):
                return self.of_text(sql, dialect)
            if isinstance(element, Table):
                read.add(table_tag(element.name))
            elif element.__visit_name__ in _DML:
                written |= self._written(element)
        if not read and not written:
            return self.of_text(sql, dialect)  # DDL, functions that return tables, and what else there may be
        return self._with_views(Tables(frozenset(read), frozenset(written)))

    def _written(self, element: Any) -> set[str]:
        table = element.table
        tag = table_tag(table.name)
        if element.__visit_name__ == "insert" or not isinstance(table, Table):
            return {tag}
        return {tag, *self._cascades_of(table.metadata).get(tag, ())}

    def _cascades_of(self, metadata: MetaData) -> dict[str, frozenset[str]]:
        known = self._cascades.get(metadata)
        if known is None:
            known = self._cascades[metadata] = _cascades(metadata)
        return known

    def _with_views(self, tables: Tables) -> Tables:
        if not self._views:
            return tables
        behind = (self._views.get(tag, ()) for tag in tables.read)
        return tables._replace(read=tables.read.union(*behind))


def _is_literal(element: object) -> bool:
    return isinstance(element, ColumnClause) and element.is_literal and "select" in element.name.lower()


def _cascades(metadata: MetaData) -> dict[str, frozenset[str]]:
    """For each table, those that the database changes when rows of it are deleted or get another key."""
    children: dict[str, set[str]] = {}
    for table in metadata.tables.values():
        for key in table.foreign_keys:
            actions = {(key.ondelete or "").upper(), (key.onupdate or "").upper()}
            if actions & {"CASCADE", "SET NULL", "SET DEFAULT"}:
                parent = table_tag(key.target_fullname.rpartition(".")[0])
                children.setdefault(parent, set()).add(table_tag(table.name))
    reached: dict[str, frozenset[str]] = {}
    for parent in children:
        found: set[str] = set()
        waiting = [parent]
        while waiting:
            for child in children.get(waiting.pop(), ()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        reached[parent] = frozenset(found)
    return reached


def _parsed(sql: str, dialect: str) -> Tables:
    leading = _LEADING.match(sql)
    first = leading[1].lower() if leading is not None else ""
    if first in _SILENT and ";" not in sql.rstrip().rstrip(";"):
        return Tables(frozenset(), frozenset())
    unreadable = _UNREADABLE_READ if first in _READS and ";" not in sql else UNREADABLE
    if len(sql) > MAX_TEXT:
        return unreadable
    try:
        from sqlglot import ErrorLevel, parse
        from sqlglot.errors import SqlglotError
    except ModuleNotFoundError:
        return unreadable
    try:
        trees = parse(_without_marks(sql), read=_LANGUAGES.get(dialect), error_level=ErrorLevel.RAISE)
    except (SqlglotError, RecursionError, ValueError):
        return unreadable
    found = [_of_tree(tree) for tree in trees if tree is not None]
    if not found or None in found:
        return unreadable
    read = frozenset[str]().union(*(each.read for each in found if each))
    return Tables(read, frozenset[str]().union(*(each.written for each in found if each)))


def _of_tree(tree: Expr) -> Tables | None:
    """Return the tables of a parsed statement; None where it is of a kind that is not known here."""
    from sqlglot import exp

    changes = list(tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge))
    targets = [node.this.find(exp.Table) if node.this else None for node in changes]
    if isinstance(tree, (exp.Create, exp.Drop, exp.Alter, exp.TruncateTable)):
        targets += [*tree.find_all(exp.Table)] or [None]
    if None in targets or not (targets or isinstance(tree, exp.Query)):
        return None
    named = {each.alias_or_name.lower() for each in tree.find_all(exp.CTE)}
    tables = {each.name.lower() for each in tree.find_all(exp.Table)} - named
    return Tables(
        frozenset(map(table_tag, tables)),
        frozenset(table_tag(target.name) for target in targets if target is not None),
    )


def _without_marks(sql: str) -> str:
    """Put a number where a driver's parameter mark stands, which not every dialect's parser knows."""
    return re.sub(r"%\(\w+\)s|%s|\$\d+(?:::\w+)?", "1", sql)
