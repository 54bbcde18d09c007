"""Mapped objects written: gathered with what they lead to, and told as groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.collections import collection_adapter

from upshift.cache.codec.mapped.columns import encode_columns
from upshift.errors import CodecError

if TYPE_CHECKING:
    from sqlalchemy.orm import RelationshipProperty
    from sqlalchemy.orm.state import InstanceState

    from upshift.cache.codec.mapped.plan import MapperPlan, Plans


class Group(msgspec.Struct, array_like=True, frozen=True):
    """Objects of one class of which the same is loaded, as they are written.

    Attributes:
        mapper: number of the mapper.
        numbers: numbers of the objects; where they follow each other the first one alone.
        columns: positions of the columns that are loaded.
        names: attributes that are not mapped, beyond those.
        codes: type of each column, and then of each of `names`.
        values: the columns and then what is not mapped.
        expired: positions of the columns that are loaded together when one of them is read.
        links: positions of the relationships that are loaded.
        targets: for each of them the numbers of the objects that it leads to, for each object.
        token: the shard that they come from, written with tags; empty where there are none.
    """

    mapper: int
    numbers: list[int]
    columns: list[int]
    names: list[str]
    codes: list[str]
    values: msgspec.Raw
    expired: list[int]
    links: list[int]
    targets: list[list[int | list[int] | None]]
    token: bytes


class Graph(msgspec.Struct, array_like=True, frozen=True):
    """The mapped objects of a value.

    Attributes:
        count: how many there are.
        mappers: name and fingerprint of each mapper.
        groups: the objects.
    """

    count: int
    mappers: list[tuple[str, bytes]]
    groups: list[Group]


class Gathering:
    """Takes in mapped objects, and what was loaded of their relationships with them.

    Args:
        plans: the plans of their mappers.
    """

    def __init__(self, plans: Plans) -> None:
        self._plans = plans
        self._numbers: dict[InstanceState[Any], int] = {}
        self._objects: list[Any] = []  # held, as their states do not hold them

    def __getitem__(self, number: int) -> Any:
        """Return an object that was taken in."""
        return self._objects[number]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._objects)

    def add(self, value: Any) -> int:
        """Take in an object; return its number."""
        state = instance_state(value)
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = len(self._objects)
            self._objects.append(value)
        return number

    def graph(self) -> Graph:
        """Return the objects as they are written, with all that they lead to.

        Raises:
            CodecError: one is not as the database has it, or has a value that cannot be written.
        """
        members: dict[Any, list[Any]] = {}
        linked: dict[Any, list[list[Any]]] = {}
        mappers: dict[MapperPlan, int] = {}
        for value in self._objects:  # it grows meanwhile, by what they lead to
            state, loaded = instance_state(value), instance_dict(value)
            plan = self._plans.of(state.mapper)
            mappers.setdefault(plan, len(mappers))
            _refuse_changed(plan, state)
            signature = _signature(plan, state, loaded)
            members.setdefault(signature, []).append(value)
            links = signature[3]
            if links:
                targets = [self._targets(loaded, plan.relationships[at]) for at in links]
                linked.setdefault(signature, []).append(targets)
        groups = [
            self._group(mappers[signature[0]], signature, values, linked.get(signature, []))
            for signature, values in members.items()
        ]
        return Graph(len(self._objects), [(plan.name, plan.fingerprint) for plan in mappers], groups)

    def _targets(
        self, loaded: dict[str, Any], relationship: RelationshipProperty[Any]
    ) -> int | list[int] | None:
        value = loaded[relationship.key]
        if relationship.uselist:
            return [self.add(each) for each in collection_adapter(value)]
        return None if value is None else self.add(value)

    def _group(self, mapper: int, signature: Any, values: list[Any], linked: list[list[Any]]) -> Group:
        plan, columns, expired, links, names, token = signature
        dicts = [instance_dict(value) for value in values]
        lists = [[each[plan.columns[at]] for each in dicts] for at in columns]
        lists += [[each[name] for each in dicts] for name in names]
        enums = [*(plan.enums[at] for at in columns), *(None for _ in names)]
        codes, written = encode_columns(lists, enums, plan.tagged)
        numbers = [self._numbers[instance_state(value)] for value in values]
        if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            numbers = numbers[:1]
        return Group(
            mapper=mapper,
            numbers=numbers,
            columns=list(columns),
            names=list(names),
            codes=codes,
            values=written,
            expired=list(expired),
            links=list(links),
            targets=[list(each) for each in zip(*linked, strict=True)],
            token=b"" if token is None else plan.tagged.encode(token),
        )


def _refuse_changed(plan: MapperPlan, state: InstanceState[Any]) -> None:
    reason = ""
    if state.key is None:
        reason = "is not in the database yet: flush it first"
    elif state._deleted:
        reason = "is deleted"
    elif state.modified:
        reason = "has changes that are not flushed"
    elif state.expired:
        reason = "was expired by a commit: return it before that, or with expire_on_commit=False"
    if reason:
        raise CodecError(f"a {plan.name} cannot be cached: it {reason}")


def _signature(plan: MapperPlan, state: InstanceState[Any], loaded: dict[str, Any]) -> Any:
    """Return what the objects of a group have in common."""
    columns = tuple(at for at, name in enumerate(plan.columns) if name in loaded)
    if not set(plan.key_at) <= set(columns):
        raise CodecError(f"a {plan.name} cannot be cached: its key is not loaded")
    expired: tuple[int, ...] = ()
    if len(columns) < len(plan.columns):
        expired = tuple(
            at for at in range(len(plan.columns)) if at not in columns and plan.is_expired(at, state)
        )
    links = tuple(at for at, each in enumerate(plan.relationships) if each.key in loaded)
    names: tuple[str, ...] = ()
    if len(loaded) > len(columns) + len(links) + 1:  # the one is its state
        names = tuple(name for name in loaded if not plan.knows(name))
    return plan, columns, expired, links, names, state.identity_token
