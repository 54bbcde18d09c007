"""What stands in a replayed record for the mapped classes of the application, which is not there.

A lazy load knows by SQLAlchemy's own objects how its object was loaded. Rules read little of them: names,
keys, and which class inherits from which. These have that much, and one for each that was recorded, so that
they can be told apart and found equal as the others could.
"""

from __future__ import annotations

from typing import NamedTuple


class Table(NamedTuple):
    """A table by its name."""

    name: str


class Column(NamedTuple):
    """A column of a class's key."""

    table: Table
    name: str


class Entity:
    """Stands for a `Mapper` or, where it is aliased, for an `AliasedInsp`.

    Attributes:
        class_: a class of the same name that inherits as the mapped one does; it has nothing in it.
        primary_key: the columns of its key.
        mapper: of an alias, the entity that it is an alias of; else itself.
        is_aliased_class: whether it is an alias.
    """

    is_property = False

    def __init__(self, class_: type, primary_key: tuple[Column, ...], alias_of: Entity | None = None) -> None:
        self.class_ = class_
        self.primary_key = primary_key
        self.mapper: Entity = alias_of or self
        self.is_aliased_class = alias_of is not None


class Relationship:
    """Stands for a `RelationshipProperty`.

    Attributes:
        parent: the entity of the class that it is declared in.
        key: the attribute's name.
    """

    is_property = True

    def __init__(self, parent: Entity, key: str) -> None:
        self.parent = parent
        self.key = key
