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

    from sqlalchemy.orm import RelationshipProperty, Session
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
            elif (waiting := waiting_in(state, key)) is not None:
                value = waiting.peek(state)
                if value is not PASSIVE_NO_RESULT:
                    found.append(value)
            elif is_as_loaded(state, key):
                yield Slot(state, loaded)

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
        firsts: dict[Any, Slot] = {}
        for slot in slots:
            want = wanted_by(slot.state, slot.dict)
            if want is None:  # nothing is asked for, or nobody can tell what
                continue
            if want in firsts:
                followers.append((firsts[want], slot))
                continue
            there = identities.get(want)
            if there is None:
                firsts[want] = slot
            elif isinstance(there, target) and not instance_state(there).expired:
                slot.value = there
                known.append(slot)
        return list(firsts.values())


def _alike(slots: Iterable[Slot]) -> Iterable[list[Slot]]:
    """Group objects that were loaded alike: only those may be fetched for together."""
    groups: defaultdict[Any, list[Slot]] = defaultdict(list)
    for slot in slots:
        groups[id(slot.state.load_options), slot.state.load_path.path].append(slot)
    return groups.values()


def _members(collection: Any) -> Iterable[Any]:  # noqa: ANN401 - a list, set or dict of objects, or none
    return collection.values() if isinstance(collection, dict) else collection or ()
