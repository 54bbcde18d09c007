"""One FROM with its WHERE: which of its tables are cut down to rows that are named.

What is said of a statement here is the same for what SQLAlchemy compiled and for a parsed text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from upshift.cache.dependencies.rows import Kind, Pin, pin_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from upshift.cache.dependencies.rows import Value
    from upshift.cache.dependencies.schema import Schema

    Place = tuple[Hashable, str]
    """A column of a table in a FROM: what the table is called there, and the column's name."""


@dataclass(slots=True)
class Scope:
    """One FROM with its WHERE.

    Attributes:
        tables: for what each table is called in it, the table's name.
        values: for columns, the values that they have in every row of the result.
        links: pairs of columns; in every row, the second is the first, or its table is filled up with NULL.
    """

    tables: dict[Hashable, str] = field(default_factory=dict)
    values: dict[Place, tuple[Value, ...]] = field(default_factory=dict)
    links: list[tuple[Place, Place]] = field(default_factory=list)

    def pin(self, place: Place, values: tuple[Value, ...]) -> None:
        """Say that a column has one of these values. What was said of it before stays: either is true."""
        self.values.setdefault(place, values)

    def link(self, one: Place, other: Place) -> None:
        """Say that two columns are equal."""
        self.links += ((one, other), (other, one))


def pins_of(scope: Scope, schema: Schema) -> dict[Hashable, Pin]:
    """Return, for each table of a FROM that is cut down to named rows, these rows."""
    values = dict(scope.values)
    more = True
    while more:
        more = False
        for one, other in scope.links:
            if one in values and other not in values and _are_alike(scope, schema, one, other):
                values[other] = values[one]
                more = True
    found = {}
    for alias, table in scope.tables.items():
        columns = tuple(
            (each.kind, values[alias, each.name])
            for each in schema.key(table)
            if each.kind is not None and (alias, each.name) in values
        )
        if columns and len(columns) == len(schema.key(table)):
            found[alias] = pin_of(table, columns)
    return found


def _are_alike(scope: Scope, schema: Schema, one: Place, other: Place) -> bool:
    """Whether what one column is equal to, the other is that is equal to it."""
    kinds: set[Kind | None] = {
        schema.kind(scope.tables[alias], column) if alias in scope.tables else None
        for alias, column in (one, other)
    }
    return len(kinds) == 1 and None not in kinds
