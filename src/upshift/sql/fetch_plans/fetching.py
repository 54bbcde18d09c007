"""Fetches what a plan asks for, for the objects that a statement has just brought.

It happens where SQLAlchemy's own `selectinload` happens: when a chunk of rows has become objects, before the
application sees the first of them. Each relationship takes one SELECT for 500 objects, run by SQLAlchemy's
selectin loader with the options that the objects themselves were loaded with.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.base import PASSIVE_NO_RESULT

from upshift.sql.fetch_plans.waiting import Waiting, waiting_in
from upshift.sql.loading.preload import _what_is_wanted, is_as_loaded
from upshift.sql.loading.selectin import Slot, is_loadable, load_related

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.orm import Mapper, RelationshipProperty, Session
    from sqlalchemy.orm.state import InstanceState

    from upshift.sql.fetch_plans.plan import Node
    from upshift.sql.fetch_plans.waiting import WantedBy

    States = dict[InstanceState[Any], None]


class Fetch:
    """One node of a plan, for some objects of one session.

    Args:
        node: the node.
        session: the session.
        is_async: whether the session is an asynchronous one's.

    Attributes:
        waiting: what was fetched; None where nothing had to be.
    """

    def __init__(self, node: Node, session: Session, *, is_async: bool) -> None:
        self._node = node
        self._session = session
        self._is_async = is_async
        self._relationship: RelationshipProperty[Any] = node.relationship
        self.waiting: Waiting | None = None

    def run(self, states: States) -> States:
        """Fetch, and return the states of what the relationship leads to, for the nodes below."""
        relationship = self._relationship
        if not is_loadable(relationship):
            return {}
        found: list[Any] = []
        slots = list(self._slots(states, found))
        known: list[Slot] = []
        wanted_by = _what_is_wanted(relationship)
        followers: list[tuple[Slot, Slot]] = []
        if wanted_by is not None:
            slots = self._by_identity(slots, wanted_by, known, followers)
        for group in _alike(slots):
            state = group[0].state
            path: Any = state.load_path if state.load_options else state.mapper._path_registry
            load_related(self._session, state, path[relationship], group, autoflush=False)
        for first, slot in followers:
            slot.value = first.value
        slots += known
        slots += (slot for _, slot in followers)
        if slots:
            self.waiting = Waiting(
                self._node, self._session, slots[0].state, wanted_by=wanted_by, is_async=self._is_async
            )
            self.waiting.keep(slots)
        found += (slot.value for slot in slots)
        if not relationship.uselist:
            return {instance_state(one): None for one in found if one is not None}
        return {instance_state(one): None for many in found for one in _members(many)}

    def _slots(self, states: States, found: list[Any]) -> Iterator[Slot]:
        """Yield slots for the objects that lack the relationship; what is there goes to `found`."""
        relationship = self._relationship
        key = relationship.key
        is_served: dict[type[Any], bool] = {}
        for state in states:
            if state.class_ not in is_served:
                # A query for a base class brings subclasses, which may know something else by this name.
                is_served[state.class_] = state.mapper.relationships.get(key) is relationship
            if not is_served[state.class_]:
                continue
            loaded = state.dict
            if key in loaded:
                found.append(loaded[key])
                continue
            waiting = waiting_in(state, key) if state.callables else None
            if waiting is None:
                if is_as_loaded(state, key):
                    yield Slot(state, loaded)
            elif (value := waiting.peek(state)) is not PASSIVE_NO_RESULT:
                found.append(value)

    def _by_identity(
        self,
        slots: Iterable[Slot],
        wanted_by: WantedBy,
        known: list[Slot],
        followers: list[tuple[Slot, Slot]],
    ) -> list[Slot]:
        """Return a slot for each object that has to be fetched.

        A lazy load takes its object from the session if it is there. Those go to `known` with their object;
        who wants the same as another goes to `followers` with that.
        """
        identities, target = self._session.identity_map, self._relationship.mapper.class_
        key_names: dict[Mapper[Any], tuple[str, ...]] = {}
        firsts: dict[Any, Slot] = {}
        missing: list[Slot] = []
        for slot in slots:
            mapper, loaded = slot.state.manager.mapper, slot.dict
            names = key_names.get(mapper)
            if names is None:
                names = key_names[mapper] = tuple(
                    mapper.get_property_by_column(column).key for column in self._foreign_key
                )
            key = loaded.get(names[0]) if len(names) == 1 else tuple(map(loaded.get, names))
            first = firsts.get(key)
            if first is not None:
                followers.append((first, slot))
                continue
            want = wanted_by(slot.state, loaded)
            if want is None:  # nothing is asked for, or nobody can tell what
                continue
            there = identities.get(want)
            if there is None:
                missing.append(slot)
            elif isinstance(there, target) and not instance_state(there).expired:
                slot.value = there
                known.append(slot)
            else:
                continue
            firsts[key] = slot
        return missing

    @property
    def _foreign_key(self) -> list[Any]:
        """The columns by which a lazy load finds its object in the session."""
        loader: Any = self._relationship._get_strategy((("lazy", "select"),))
        return [loader._equated_columns[column] for column in self._relationship.mapper.primary_key]


def _alike(slots: Iterable[Slot]) -> Iterable[list[Slot]]:
    """Group objects that were loaded alike: only those may be fetched for together."""
    groups: defaultdict[Any, list[Slot]] = defaultdict(list)
    for slot in slots:
        groups[id(slot.state.load_options), slot.state.load_path.path].append(slot)
    return groups.values()


def _members(collection: Any) -> Iterable[Any]:  # noqa: ANN401 - a list, set or dict of objects, or none
    return collection.values() if isinstance(collection, dict) else collection or ()
