"""Which tables and rows a statement reads and writes.

A statement that SQLAlchemy compiled is asked by its structure, once for each entry of its compiled cache. A
text is parsed, once for each text. What they say of rows is completed by the parameters of each execution.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from upshift.cache.dependencies.compiled import effect_of_compiled
from upshift.cache.dependencies.effects import UNREADABLE, Effect, Tables, resolved
from upshift.cache.dependencies.names import rows_tag, table_tag
from upshift.cache.dependencies.rows import Parameters
from upshift.cache.dependencies.schema import Schema
from upshift.cache.dependencies.texts import effect_of_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

logger = logging.getLogger("upshift.cache")

MAX_TEXTS = 2_048
"""Texts whose tables are remembered; the one unused for longest makes room."""


class StatementTables:
    """Tells what statements do to tables and rows, and remembers it.

    Args:
        views: for the name of each view or function, the tables that it reads.

    Attributes:
        schema: what is known of the tables that statements have named.

    Example:
        >>> sql = "UPDATE product SET price = 1 WHERE id IN (SELECT id FROM cart)"
        >>> tables = StatementTables().of_text(sql, "sqlite")
        >>> sorted(tables.read), sorted(tables.written)
        (['table:cart', 'table:product'], ['rows:product', 'table:product'])
    """

    def __init__(self, views: Mapping[str, Iterable[str]] | None = None) -> None:
        self.schema = Schema()
        self._views = _unfolded(
            {table_tag(view): frozenset(map(table_tag, tables)) for view, tables in (views or {}).items()}
        )
        self._compiled: WeakKeyDictionary[Any, tuple[int, Effect]] = WeakKeyDictionary()
        self._texts: OrderedDict[tuple[str, str], tuple[int, Effect]] = OrderedDict()

    def of_context(self, context: Any, sql: str) -> Effect:
        """Return what a statement that is about to be sent does, whatever its parameters are.

        Args:
            context: SQLAlchemy's execution context.
            sql: what is sent.
        """
        compiled = getattr(context, "compiled", None)
        if compiled is None:
            return self._of_text(sql, context.dialect.name)
        known = self._compiled.get(compiled)
        if known is not None and known[0] == self.schema.edition:
            return known[1]
        try:
            effect = effect_of_compiled(compiled, self.schema)
            effect = self._of_text(sql, context.dialect.name) if effect is None else self._with_views(effect)
        except Exception:
            logger.exception("a statement's tables cannot be told; it is taken for a write to everything")
            effect = UNREADABLE
        self._compiled[compiled] = (self.schema.edition, effect)
        return effect

    def complete(self, effect: Effect, context: Any, parameters: Any) -> Tables:
        """Return what an execution does.

        Args:
            effect: what its statement does.
            context: SQLAlchemy's execution context.
            parameters: what is sent with it; a list of such where it is sent several times.
        """
        if not effect.reads and not effect.writes:
            return effect.tables
        try:
            if effect.is_text:
                sets = parameters if context.executemany else (parameters,)
                return resolved(effect, Parameters(sets, {}))
            return resolved(effect, Parameters(context.compiled_parameters, context._expanded_parameters))
        except Exception:
            logger.exception("a statement's rows cannot be told; it is taken for a write to everything")
            return UNREADABLE.tables

    def of_text(self, sql: str, dialect: str, parameters: Any = ()) -> Tables:
        """Return what an execution of a text does."""
        return resolved(self._of_text(sql, dialect), Parameters((parameters,), {}))

    def _of_text(self, sql: str, dialect: str) -> Effect:
        key = (dialect, sql)
        known = self._texts.get(key)
        if known is not None and known[0] == self.schema.edition:
            return known[1]
        try:
            effect = self._with_views(effect_of_text(sql, dialect, self.schema))
        except Exception:  # the parser's; the database says what is wrong with the text
            logger.exception("a text's tables cannot be told; it is taken for a write to everything")
            effect = UNREADABLE
        self._texts[key] = (self.schema.edition, effect)
        if len(self._texts) > MAX_TEXTS:
            self._texts.popitem(last=False)
        return effect

    def _with_views(self, effect: Effect) -> Effect:
        if not self._views:
            return effect
        tables = effect.tables
        seen = tables.read.union(table_tag(each.table) for each in effect.reads)
        read = tables.read.union(*(self._views.get(tag, ()) for tag in seen))
        behind = frozenset[str]().union(*(self._views.get(tag, ()) for tag in tables.written))
        written = tables.written.union(behind, map(_rows_of, behind))
        return effect._replace(tables=tables._replace(read=read, written=written))


def _unfolded(views: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return for each view what it reads, by way of other views as well."""
    found: dict[str, frozenset[str]] = {}
    for view in views:
        seen, waiting = set[str](), [view]
        while waiting:
            new = views.get(waiting.pop(), frozenset()) - seen
            seen |= new
            waiting += new
        found[view] = frozenset(seen)
    return found


def _rows_of(tag: str) -> str:
    return rows_tag(tag.removeprefix("table:"))
