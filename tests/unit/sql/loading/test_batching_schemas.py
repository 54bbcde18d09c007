"""Random schemas, filled and walked at random: batched reads see what lazy reads see.

`test_batching_property.py` walks one schema in every way and writes to it. Here the schema is what varies:
the kinds of keys and of relationships, where they lead, which of them are ordered, and which classes have a
subclass with a table of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    and_,
    create_engine,
    event,
    select,
)
from sqlalchemy.orm import Session, registry, relationship, with_loader_criteria
from sqlalchemy.pool import StaticPool

from upshift.sql import Batching

KEYS = {"integer": (Integer,), "text": (String,), "composite": (Integer, String)}
KINDS = ("many to one", "one to many", "both ways", "one to one", "many to many")
ROWS = 24
MOST_LINKS = 5


class Link(NamedTuple):
    """A relationship to map, or two that lead both ways.

    The ends are numbers of classes, modulo how many there are; of the same number it leads back to its class.
    """

    kind: str
    ends: tuple[int, int]
    is_ordered: bool


class Schema(NamedTuple):
    """Classes, by the kind of their key and whether they have a subclass, and what links all of them."""

    classes: list[tuple[str, bool]]
    links: list[Link]


class Entity:
    """A mapped class with a table, which is joined with its parent's where it has a parent."""

    def __init__(self, name: str, key: str, parent: Entity | None, metadata: Any) -> None:
        self.key, self.parent = key, parent
        self.cls = type(name, (parent.cls if parent else object,), {})
        self.table = Table(name, metadata)
        for number, kind in enumerate(KEYS[key]):
            self.table.append_column(Column(f"k{number}", kind, primary_key=True))
        self.columns = list(self.table.c)
        if parent is None:
            for column in (Column("number", Integer), Column("tenant", Integer), Column("kind", String)):
                self.table.append_column(column)
        else:
            self.table.append_constraint(ForeignKeyConstraint(self.columns, parent.columns))
        self.order = [(parent or self).table.c.number.desc(), *self.columns]
        self.rows = range(1, ROWS, 2) if parent else range(ROWS)
        self.properties: dict[str, Any] = {}

    @property
    def relationships(self) -> list[str]:
        return [*(self.parent.relationships if self.parent else ()), *self.properties]

    def key_of(self, row: int | None) -> tuple[Any, ...]:
        if row is None:
            return (None,) * len(self.columns)
        return {"integer": (row + 1,), "text": (f"t{row}",), "composite": (row // 3, f"s{row % 3}")}[self.key]

    def map(self, mapping: registry) -> None:
        how: dict[str, Any] = {"polymorphic_identity": self.cls.__name__}
        if self.parent is None:
            how["polymorphic_on"] = self.table.c.kind
        else:
            how |= inherits(self, self.parent)
        mapping.map_imperatively(self.cls, self.table, properties=self.properties, **how)


def inherits(entity: Entity, parent: Entity) -> dict[str, Any]:
    return {"inherits": parent.cls, "inherit_condition": equal(entity.columns, parent.columns)}


def equal(left: list[Any], right: list[Any]) -> Any:
    return and_(*(one == other for one, other in zip(left, right, strict=True)))


class Reference(NamedTuple):
    """Columns that lead to an entity's key."""

    columns: list[Any]
    target: Entity
    is_unique: bool

    def values(self, row: int | None, pick: Iterator[int | None]) -> dict[str, Any]:
        """Return the values of the columns in one row: the key of a row that the next pick says."""
        picked = next(pick)
        if self.is_unique:
            picked = None if picked is None or row >= len(self.target.rows) else row
        target = None if picked is None else self.target.rows[picked % len(self.target.rows)]
        names = (column.name for column in self.columns)
        return dict(zip(names, self.target.key_of(target), strict=True))


class Model:
    """A schema, mapped onto a database in memory."""

    def __init__(self, schema: Schema) -> None:
        self.mapping = registry()
        self.entities: list[Entity] = []
        self.references: dict[Table, list[Reference]] = {}
        self.unordered: set[str] = set()
        for number, (key, has_subclass) in enumerate(schema.classes):
            entity = self._add(f"c{number}", key, None)
            if has_subclass:
                self._add(f"c{number}sub", key, entity)
        between = [self._link(f"l{number}", link) for number, link in enumerate(schema.links)]
        self.between = [table for table in between if table is not None]
        for entity in self.entities:
            entity.map(self.mapping)
        self.mapping.configure()
        self.by_class = {entity.cls: entity for entity in self.entities}
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        self.mapping.metadata.create_all(self.engine)

    def close(self) -> None:
        self.engine.dispose()
        self.mapping.dispose()

    def _add(self, name: str, key: str, parent: Entity | None) -> Entity:
        entity = Entity(name, key, parent, self.mapping.metadata)
        self.entities.append(entity)
        return entity

    def _link(self, name: str, link: Link) -> Table | None:
        # The later one holds the foreign key, so that no two tables need each other.
        first, second = sorted(end % len(self.entities) for end in link.ends)
        target, holder = self.entities[first], self.entities[second]
        if not link.is_ordered:
            self.unordered |= {f"{name}_one", f"{name}_other"}
        if link.kind == "many to many":
            return self._link_by_table(name, link, holder, target)
        columns = self._lead(holder.table, f"{name}_", target, is_unique=link.kind == "one to one")
        how = {"primaryjoin": equal(columns, target.columns), "foreign_keys": columns}
        is_mutual = link.kind in {"both ways", "one to one"}
        if link.kind != "one to many":
            back = f"{name}_other" if is_mutual else None
            one = relationship(target.cls, remote_side=target.columns, back_populates=back, **how)
            holder.properties[f"{name}_one"] = one
        if link.kind != "many to one":
            how |= {
                "uselist": link.kind != "one to one",
                "order_by": holder.order if link.is_ordered else False,
            }
            back = f"{name}_one" if is_mutual else None
            other = relationship(holder.cls, remote_side=columns, back_populates=back, **how)
            target.properties[f"{name}_other"] = other
        return None

    def _link_by_table(self, name: str, link: Link, holder: Entity, target: Entity) -> Table:
        between = Table(name, self.mapping.metadata)
        here = self._lead(between, "one_", holder, primary_key=True)
        there = self._lead(between, "other_", target, primary_key=True)
        ends = (("one", holder, here, "other", target, there), ("other", target, there, "one", holder, here))
        for side, entity, own, back, other, others in ends:
            entity.properties[f"{name}_{side}"] = relationship(
                other.cls,
                secondary=between,
                primaryjoin=equal(own, entity.columns),
                secondaryjoin=equal(others, other.columns),
                order_by=other.order if link.is_ordered else False,
                back_populates=f"{name}_{back}",
            )
        return between

    def _lead(
        self, table: Table, prefix: str, target: Entity, *, is_unique: bool = False, primary_key: bool = False
    ) -> list[Any]:
        columns = [
            Column(f"{prefix}{each.name}", each.type, primary_key=primary_key) for each in target.columns
        ]
        for column in columns:
            table.append_column(column)
        table.append_constraint(ForeignKeyConstraint(columns, target.columns))
        self.references.setdefault(table, []).append(Reference(columns, target, is_unique))
        return columns

    def fill(self, picks: list[int | None]) -> None:
        """Insert the rows, each leading to those that the picks say."""
        pick = cycle(picks)
        with self.engine.begin() as connection:
            for entity in self.entities:
                rows = [self._row(entity, number, row, pick) for number, row in enumerate(entity.rows)]
                connection.execute(entity.table.insert(), rows)
            for table in self.between:
                pairs = [self._led(table, None, pick) for _ in range(2 * ROWS)]
                whole = {tuple(pair.items()) for pair in pairs if None not in pair.values()}
                for pair in sorted(whole):
                    connection.execute(table.insert(), dict(pair))

    def _row(self, entity: Entity, number: int, row: int, pick: Iterator[int | None]) -> dict[str, Any]:
        keys = zip((column.name for column in entity.columns), entity.key_of(row), strict=True)
        values = {**dict(keys), **self._led(entity.table, number, pick)}
        if entity.parent is None:
            subclasses = (each for each in self.entities if each.parent is entity and row in each.rows)
            kind = next(subclasses, entity).cls.__name__
            values |= {"number": row * 7 % 5, "tenant": row // 2 % 2, "kind": kind}
        return values

    def _led(self, table: Table, row: int | None, pick: Iterator[int | None]) -> dict[str, Any]:
        references = self.references.get(table, ())
        return {name: value for each in references for name, value in each.values(row, pick).items()}


def read(model: Model, met: list[Any], first: int, second: int) -> Any:
    """Read a relationship of an object that was met, and meet what it leads to."""
    one = met[first % len(met)]
    names = model.by_class[type(one)].relationships
    if not names:
        return None
    name = names[second % len(names)]
    value = getattr(one, name)
    many = value if isinstance(value, list) else [value]
    met += [each for each in many if each is not None]
    told = [identity(model, each) for each in many]
    return name, sorted(told) if name in model.unordered and value is not one else told


def identity(model: Model, one: Any) -> tuple[Any, ...]:
    if one is None:
        return ()
    keys = (column.name for column in model.by_class[type(one)].columns)
    return type(one).__name__, *(getattr(one, key) for key in keys)


class Walk(NamedTuple):
    """The objects of one class, some of them, and steps from one object to another."""

    root: int
    limit: int
    steps: list[tuple[int, int]]
    is_filtered: bool = False


def play(model: Model, walk: Walk, *, batched: bool) -> list[Any]:
    """Return what each step of a walk reads, and then all relationships of all that was met."""
    root = model.entities[walk.root % len(model.entities)]
    objects = select(root.cls).order_by(*root.order).limit(walk.limit)
    if walk.is_filtered:
        # Subclasses too: SQLAlchemy asks for their objects without the criteria of the parent. What only some
        # statements hide is seen where something brought it into the session before.
        hidden = [each.cls for each in model.entities if model.entities[0] in {each, each.parent}]
        objects = objects.options(*(with_loader_criteria(each, each.tenant == 0) for each in hidden))
    with closing(Batching([model.engine] if batched else [])) as batching, Session(model.engine) as session:
        assert batching.active
        met = list(session.scalars(objects))
        steps = walk.steps if met else []
        seen = [read(model, met, *step) for step in steps]
        everything = [(number, each) for number in range(len(met)) for each in range(MOST_LINKS * 2)]
        seen += [read(model, met, *step) for step in everything]
        assert batching.faults == 0
        return seen


classes = st.tuples(st.sampled_from(list(KEYS)), st.booleans())
ends = st.tuples(st.integers(0, 5), st.integers(0, 5))
links = st.builds(Link, st.sampled_from(KINDS), ends, st.booleans())
schemas = st.builds(
    Schema, st.lists(classes, min_size=1, max_size=3), st.lists(links, min_size=3, max_size=MOST_LINKS)
)
picks = st.lists(st.none() | st.integers(0, 40), min_size=1, max_size=41)
steps = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=30)
walks = st.builds(Walk, st.integers(0, 5), st.integers(2, ROWS), steps, st.booleans())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(schemas, picks, walks)
def test_batched_reads_see_what_lazy_reads_see_in_any_schema(schema, picks, walk):
    with closing(Model(schema)) as model:
        model.fill(picks)
        lazy = play(model, walk, batched=False)

        assert play(model, walk, batched=True) == lazy


@pytest.mark.parametrize("ends", [(0, 0), (0, 1), (0, 2), (1, 2), (1, 3)], ids=str)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_relationship_takes_fewer_statements(kind, key, ends):
    schema = Schema([(key, True), (key, True)], [Link(kind, ends, is_ordered=True)])
    walk = Walk(root=ends[kind == "many to one"], limit=6, steps=[])
    sent: list[str] = []
    with closing(Model(schema)) as model:
        model.fill([(7 * number + 5) % ROWS for number in range(ROWS)])
        event.listen(model.engine, "before_cursor_execute", lambda _c, _u, sql, *_: sent.append(sql))
        lazy = play(model, walk, batched=False)
        count = len(sent)

        assert play(model, walk, batched=True) == lazy
        assert len(sent) - count < count
