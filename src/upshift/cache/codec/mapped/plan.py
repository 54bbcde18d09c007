"""What is known of a mapper, found out once: its attributes in an order that every process has."""

from __future__ import annotations

import re
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

from sqlalchemy.orm.mapper import _all_registries

from upshift.cache.codec.mapped.columns import Columns
from upshift.cache.codec.mapped.filling import filling
from upshift.cache.codec.shape import fingerprint_of, hints_of, name_of, shape_of
from upshift.cache.codec.tagged import Tagged
from upshift.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import ColumnProperty, Mapper, RelationshipProperty
    from sqlalchemy.orm.state import InstanceState
    from sqlalchemy.types import TypeEngine

MAX_LAYOUTS = 64
"""Layouts of groups that a plan keeps: one for each set of loaded columns and of their types."""

_NOT_IN_OBJECTS = frozenset({"dynamic", "noload", "write_only"})
_PROXY = re.compile(r"_\w*Proxy\w*_\d+")
"""Names under which association proxies keep something in an object."""


class Layout(NamedTuple):
    """How the columns of a group are read.

    Attributes:
        columns: reads them.
        fill: makes the dicts of objects of them.
        key: which of them are the primary key.
    """

    columns: Columns
    fill: Callable[[list[Any], list[list[Any]]], list[dict[str, Any]]]
    key: list[int]


class MapperPlan:
    """A mapper as the codec sees it.

    Args:
        mapper: the mapper, configured.

    Attributes:
        mapper: the mapper.
        name: its class, with the module.
        fingerprint: changes with its attributes, their types and its key.
        columns: names of the attributes that hold columns, in order.
        enums: for each of them the enumeration that its values are members of, if so.
        key_at: where the attributes of the primary key are among the columns.
        relationships: those that leave what they loaded in the object, in order.
        tagged: writes and reads values whose types have no code.
    """

    def __init__(self, mapper: Mapper[Any]) -> None:
        self.mapper = mapper
        self.name = name_of(mapper.class_)
        self.columns = tuple(sorted(each.key for each in mapper.column_attrs))
        by_name = {each.key: each for each in mapper.column_attrs}
        hints = hints_of(mapper.class_)
        shape = shape_of(tuple[tuple(hints.get(name, Any) for name in self.columns)])  # type: ignore[misc]
        self.enums = tuple(_enum_of(by_name[name].columns[0].type, hints.get(name)) for name in self.columns)
        classes = dict.fromkeys((*shape.classes, *filter(None, self.enums)))
        keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        self.key_at = tuple(map(self.columns.index, keys))
        self.relationships: tuple[RelationshipProperty[Any], ...] = tuple(
            each for _, each in sorted(mapper.relationships.items()) if each.lazy not in _NOT_IN_OBJECTS
        )
        self._mapped = frozenset({*mapper.all_orm_descriptors.keys(), *mapper.attrs.keys()})
        advice = f"a type that {self.name} names in its Mapped[…] annotation can be, if it has fields"
        self.tagged = Tagged(tuple(classes), advice)
        self.fingerprint = fingerprint_of(
            self.name,
            f"{mapper.local_table} {mapper.polymorphic_identity!r} {self.key_at}",
            *(f"{name}: {_describe(by_name[name])}" for name in self.columns),
            *(f"{each.key}: {name_of(each.mapper.class_)} {each.uselist}" for each in self.relationships),
            shape_of(tuple[tuple(classes)]).fingerprint.hex(),  # type: ignore[misc]
            shape.fingerprint.hex(),
        )
        self._layouts: dict[tuple[tuple[int, ...], tuple[str, ...]], Layout] = {}

    def layout(self, positions: Sequence[int], codes: Sequence[str]) -> Layout:
        """Return what reads columns of these codes; those without a position are not mapped."""
        key = (tuple(positions), tuple(codes))
        known = self._layouts.get(key)
        if known is None:
            enums = [*(self.enums[at] for at in positions), *[None] * (len(codes) - len(positions))]
            known = Layout(
                Columns(codes, enums, self.tagged),
                filling([self.columns[at] for at in positions]),
                [positions.index(at) for at in self.key_at],
            )
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts.clear()
            self._layouts[key] = known
        return known

    def is_expired(self, at: int, state: InstanceState[Any]) -> bool:
        """Whether a column that is not loaded is loaded by a refresh, and not by a loader of its own."""
        name = self.columns[at]
        impl: Any = self.mapper.class_manager[name].impl
        has_own = impl.callable_ is not None and name not in state.expired_attributes
        return bool(impl.accepts_scalar_loader) and not has_own

    def knows(self, name: str) -> bool:
        """Whether what is under a name in an object's dict comes from the mapping, or can be made again."""
        return (
            name in self._mapped
            or name.startswith("_sa_")
            or _PROXY.fullmatch(name) is not None
            or isinstance(getattr(self.mapper.class_, name, None), cached_property)
        )


class Plans:
    """The plans of mappers, made when they are first asked for.

    Classes are found by name among those that are mapped in this process; nothing is imported for a name
    that a payload has.
    """

    def __init__(self) -> None:
        self._of_mapper: WeakKeyDictionary[Mapper[Any], MapperPlan] = WeakKeyDictionary()
        self._by_name: WeakValueDictionary[str, Mapper[Any]] = WeakValueDictionary()

    def of(self, mapper: Mapper[Any]) -> MapperPlan:
        """Return the plan of a mapper.

        Raises:
            CodecError: another mapped class has its name.
        """
        plan = self._of_mapper.get(mapper)
        if plan is None:
            mapper._check_configure()
            plan = MapperPlan(mapper)
            if self._mapper(plan.name) is not mapper:
                raise CodecError(
                    f"two mapped classes are named {plan.name}: rename one to cache them as bytes"
                )
            self._of_mapper[mapper] = plan
        return plan

    def named(self, name: str, fingerprint: bytes) -> MapperPlan:
        """Return the plan that a payload was written by.

        Raises:
            CodecError: there is none of that name and shape.
        """
        mapper = self._mapper(name)
        if mapper is None:
            raise CodecError(f"a kept value has a {name}, and no such class is mapped in this process")
        plan = self.of(mapper)
        if plan.fingerprint != fingerprint:
            raise CodecError(f"a kept value was written before {name} was changed")
        return plan

    def _mapper(self, name: str) -> Mapper[Any] | None:
        known = self._by_name.get(name)
        if known is None:
            # Not `registry.mappers`, which raises where any class is not mapped yet.
            managers = (each for registry in _all_registries() for each in tuple(registry._managers))
            mappers = (each.mapper for each in managers if each.is_mapped)
            known = next((mapper for mapper in mappers if name_of(mapper.class_) == name), None)
            if known is not None:
                self._by_name[name] = known
        return known


def _describe(attribute: ColumnProperty[Any]) -> str:
    columns = (f"{column} {type(column.type).__qualname__} {column.type!r}" for column in attribute.columns)
    return ", ".join(columns)


def _enum_of(column_type: TypeEngine[Any], hint: Any) -> type[Enum] | None:
    """Return the enumeration that a column's values are members of, as the type or the annotation has it."""
    kind = getattr(column_type, "enum_class", None)
    if kind is None:
        kinds = [each for each in shape_of(hint).classes if issubclass(each, Enum)]
        kind = kinds[0] if len(kinds) == 1 else None
    return kind
