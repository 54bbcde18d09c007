"""Which tables and rows a statement reads and writes.

A statement that SQLAlchemy compiled is asked by its structure, once for each entry of its compiled cache. A
text is parsed, once for each text. What they say of rows is completed by the parameters of each execution.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from upshift.cache.dependencies.catalogue import Catalogue
from upshift.cache.dependencies.compiled import effect_of_compiled
from upshift.cache.dependencies.effects import UNREADABLE, Effect, Tables, resolved
from upshift.cache.dependencies.names import EVERYTHING, SCHEMA, bare_name, table_names
from upshift.cache.dependencies.relations import Relations, names_read
from upshift.cache.dependencies.rows import Parameters
from upshift.cache.dependencies.schema import Schema
from upshift.cache.dependencies.texts import effect_of_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.engine import Dialect

    from upshift.cache.dependencies.relations import Told

    _Remembered = tuple[int, Relations, Effect]

logger = logging.getLogger("upshift.cache")

MAX_TEXTS = 2_048
"""Texts whose tables are remembered; the one unused for longest makes room."""

MAX_NAMES = 10_000
"""Names that are remembered to be of no relation in a catalogue."""


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
        told = views or {}
        self._views = {bare_name(view): frozenset(map(bare_name, tables)) for view, tables in told.items()}
        self.schema = Schema(functions=self._views)
        self._relations = Relations(self._views)
        self._catalogues: dict[Dialect, Catalogue] = {}
        self._unrelated: set[str] = set()
        self._lock = Lock()
        self._compiled: WeakKeyDictionary[Any, _Remembered] = WeakKeyDictionary()
        self._texts: OrderedDict[tuple[object, str], _Remembered] = OrderedDict()

    def catalogue_of(self, dialect: Dialect) -> Catalogue | None:
        """Return the catalogue to which an engine leads, to be read by its transactions; None without one."""
        return self._catalogues.setdefault(dialect, Catalogue()) if dialect.name == "postgresql" else None

    def is_refuted_by(self, catalogue: Catalogue, told: Told) -> bool:
        """Whether values may have been kept that lack what a catalogue tells now."""
        if catalogue.told is None:
            return catalogue.is_late and bool(told.behind or told.above)
        return told.has_more_of(catalogue.told.names | self._unrelated, catalogue.told)

    def take(self, catalogue: Catalogue, told: Told, strange: Iterable[str]) -> None:
        """Take in what a catalogue tells.

        Args:
            catalogue: the catalogue.
            told: what it tells.
            strange: what of its `strange` was so before it was asked.
        """
        with self._lock:
            answered = catalogue.strange.intersection(strange)
            if told == catalogue.told and not answered:
                return
            catalogue.told = told
            catalogue.strange -= answered
            self._note_unrelated(answered - told.names)
            found = [each.told for each in tuple(self._catalogues.values()) if each.told is not None]
            self._relations = Relations(self._views, found)

    def expire(self) -> None:
        """Have the catalogues read again before the next transactions."""
        for each in tuple(self._catalogues.values()):
            each.is_expired = True

    def of_context(self, context: Any, sql: str) -> Effect:
        """Return what a statement that is about to be sent does, whatever its parameters are.

        Args:
            context: SQLAlchemy's execution context.
            sql: what is sent.
        """
        compiled = getattr(context, "compiled", None)
        if compiled is None:
            return self._of_text(sql, context.dialect.name, self._catalogues.get(context.dialect))
        known, relations = self._compiled.get(compiled), self._relations
        if known is not None and known[0] == self.schema.edition and known[1] is relations:
            return known[2]
        catalogue = self._catalogues.get(context.dialect)
        try:
            effect = effect_of_compiled(compiled, self.schema)
            if effect is None:
                effect = self._of_text(sql, context.dialect.name, catalogue)
            else:
                effect = self._extended(effect, relations, catalogue)
        except Exception:
            logger.exception("a statement's tables cannot be told; it is taken for a write to everything")
            effect = UNREADABLE
        self._compiled[compiled] = (self.schema.edition, relations, effect)
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
        return resolved(self._of_text(sql, dialect, None), Parameters((parameters,), {}))

    def _of_text(self, sql: str, dialect: str, catalogue: Catalogue | None) -> Effect:
        key, relations = (catalogue or dialect, sql), self._relations
        known = self._texts.get(key)
        if known is not None and known[0] == self.schema.edition and known[1] is relations:
            return known[2]
        try:
            effect = self._extended(effect_of_text(sql, dialect, self.schema), relations, catalogue)
        except Exception:  # the parser's; the database says what is wrong with the text
            logger.exception("a text's tables cannot be told; it is taken for a write to everything")
            effect = UNREADABLE
        self._texts[key] = (self.schema.edition, relations, effect)
        if len(self._texts) > MAX_TEXTS:
            self._texts.popitem(last=False)
        return effect

    def _extended(self, effect: Effect, relations: Relations, catalogue: Catalogue | None) -> Effect:
        """Return an effect with what it has by way of other relations than it names, known or not."""
        named = names_read(effect) | table_names(effect.tables.written)
        effect = relations.extended(effect, self.schema)
        if catalogue is None:
            return effect
        if effect.temporary:
            self._note_unrelated((effect.temporary,))
        if catalogue.told is None:
            catalogue.is_late = True
            return effect
        if SCHEMA in effect.tables.written:  # which has the catalogue read again
            return effect
        strange = named - catalogue.told.names - self._views.keys() - self._unrelated - {""}
        return self._of_strange(effect, strange, catalogue) if strange else effect

    def _of_strange(self, effect: Effect, strange: frozenset[str], catalogue: Catalogue) -> Effect:
        """Return the effect of a statement on relations that were made since a catalogue was read."""
        catalogue.strange |= strange
        catalogue.is_expired = True
        tables = effect.tables
        written = tables.written
        if not strange.isdisjoint(table_names(written)):
            written |= {EVERYTHING}
        return effect._replace(tables=tables._replace(written=written, is_understood=False))

    def _note_unrelated(self, names: Iterable[str]) -> None:
        if len(self._unrelated) > MAX_NAMES:  # of temporary tables, each with another
            self._unrelated.clear()
        self._unrelated.update(names)
