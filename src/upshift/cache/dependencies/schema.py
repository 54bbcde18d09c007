"""What mappings say of tables: their keys, how their columns compare, and what the database changes along.

A table is learned of when a statement names it, and with it all others of its `MetaData`, so that texts that
name them later are understood as well.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from upshift.cache.dependencies.names import bare_name
from upshift.cache.dependencies.rows import Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import MetaData, Table

_ACTIONS = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})
_ALIASES = frozenset({"rowid", "oid", "_rowid_"})
"""Names under which SQLite sets a key without its own name."""


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: its name in the database, in lower case.
        key: its name in parameters of SQLAlchemy's.
        kind: how it compares; None where that is not known.
    """

    name: str
    key: str
    kind: Kind | None


class _Known(NamedTuple):
    key: tuple[Column, ...]
    kinds: dict[str, Kind | None]


class _Reference(NamedTuple):
    child: str
    column: str
    """Of the parent, the name of the column that is referred to."""
    on_delete: bool
    on_update: bool


class Schema:
    """What is known of tables.

    Args:
        functions: names of functions that read tables, among others.

    Attributes:
        edition: goes up whenever more is known.
        functions: these names.
    """

    def __init__(self, functions: Iterable[str] = ()) -> None:
        self.edition = 0
        self.functions = frozenset(functions)
        self._lock = Lock()
        self._seen: WeakSet[Table] = WeakSet()
        self._known: dict[str, _Known] = {}
        self._references: dict[str, set[_Reference]] = {}

    def learn(self, table: Table) -> None:
        """Take in a table, and all others of its metadata."""
        if table in self._seen:
            return
        with self._lock:
            for each in (table, *_tables(table.metadata)):
                if each not in self._seen:
                    self._seen.add(each)
                    self._take_in(each)
            self.edition += 1

    def key(self, name: str) -> tuple[Column, ...]:
        """Return the columns of a table's key; empty where rows of it cannot be told by one."""
        known = self._known.get(name)
        return known.key if known is not None else ()

    def kind(self, name: str, column: str) -> Kind | None:
        """Return how a column compares; None where that is not known."""
        known = self._known.get(name)
        return known.kinds.get(column) if known is not None else None

    def sets_key(self, name: str, columns: frozenset[str]) -> bool:
        """Whether one of these columns, by name or by key, is a part of a table's key."""
        of_key = {part for column in self.key(name) for part in (column.name, column.key.lower())}
        return not (of_key | _ALIASES).isdisjoint(columns)

    def with_deleted(self, name: str) -> frozenset[str]:
        """Return the tables that the database changes when rows of a table are deleted."""
        return self._reached(each.child for each in self._references.get(name, ()) if each.on_delete)

    def with_updated(self, name: str, columns: frozenset[str] | None) -> frozenset[str]:
        """Return the tables that the database changes when columns are set; None for any columns."""
        names = None if columns is None or not _ALIASES.isdisjoint(columns) else frozenset(columns)
        return self._reached(
            each.child
            for each in self._references.get(name, ())
            if each.on_update and (names is None or each.column in names)
        )

    def with_changed(self, name: str) -> frozenset[str]:
        """Return the tables that the database changes with rows of a table, whatever is done to these."""
        return self.with_deleted(name) | self.with_updated(name, None)

    def _reached(self, children: Iterable[str]) -> frozenset[str]:
        # From there on by any action: what is set to NULL may be referred to as well.
        found, waiting = set[str](), list(children)
        while waiting:
            child = waiting.pop()
            if child not in found:
                found.add(child)
                waiting += (
                    each.child for each in self._references.get(child, ()) if each.on_delete or each.on_update
                )
        return frozenset(found)

    def _take_in(self, table: Table) -> None:
        name = bare_name(table.name)
        columns = {each: Column(each.name.lower(), each.key, kind_of(each.type)) for each in table.columns}
        key = tuple(columns[each] for each in table.primary_key)
        is_computed = any(each.computed is not None for each in table.primary_key)
        if is_computed or _replaces(table) or any(each.kind is None for each in key):
            key = ()
        kinds = {each.name: each.kind for each in columns.values()}
        known = self._known.get(name)
        if known is not None:  # of another mapping, or schema: only what both say is known
            key = key if known.key == key else ()
            kinds = {
                column: kind if known.kinds.get(column) == kind else None for column, kind in kinds.items()
            }
        self._known[name] = _Known(key, kinds)
        for foreign in table.foreign_keys:
            reference = _Reference(
                name,
                foreign.target_fullname.rpartition(".")[2].lower(),
                (foreign.ondelete or "").upper() in _ACTIONS,
                (foreign.onupdate or "").upper() in _ACTIONS,
            )
            if reference.on_delete or reference.on_update:
                parent = bare_name(foreign.target_fullname.rpartition(".")[0])
                self._references.setdefault(parent, set()).add(reference)


def _replaces(table: Table) -> bool:
    """Whether SQLite, as the mapping has it, deletes rows that are in the way of others."""
    parts = (*table.columns, *table.constraints)
    options = (option for part in parts for option in part.dialect_kwargs.items())
    return any("on_conflict" in name and str(value).upper() == "REPLACE" for name, value in options)


def _tables(metadata: MetaData) -> Iterator[Table]:
    # As a tuple: another thread may be defining one.
    yield from tuple(metadata.tables.values())
