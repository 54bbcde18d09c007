"""Fetches what a plan asks for, for the objects that a statement has just brought.

It happens where SQLAlchemy's own `selectinload` happens: when a chunk of rows has become objects, before the
application sees the first of them. Each relationship takes one SELECT for 500 objects, run by SQLAlchemy's
selectin loader with the options that the objects themselves were loaded with.

Each object on a page passes through here, so this code counts its function calls.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.base import PASSIVE_NO_RESULT

from upshift.sql.fetch_plans.waiting import Waiting, waiting_in
from upshift.sql.loading.preload import is_as_loaded, what_is_wanted
from upshift.sql.loading.selectin import Slot, asks_by_key, is_loadable, load_related

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Mapper, RelationshipProperty, Session
    from sqlalchemy.orm.state import InstanceState

    from upshift.sql.fetch_plans.plan import Node
    from upshift.sql.fetch_plans.waiting import WantedBy

    Lacking = list[tuple[InstanceState[Any], dict[str, Any]]]
    Fetched = list[tuple[InstanceState[Any], Any]]


class Fetch:
    """One node of a plan, for some objects of one session.

    Args:
        node: the node.
        session: the session.
        since: the number of the execution that it belongs to.
        is_async: whether the session is an asynchronous one's.

    Attributes:
        waiting: what was fetched; None where nothing had to be.
    """

    def __init__(self, node: Node, session: Session, since: int, *, is_async: bool) -> None:
        self._node = node
        self._session = session
        self._since = since
        self._is_async = is_async
        self._relationship: RelationshipProperty[Any] = node.relationship
        self.waiting: Waiting | None = None

    def run(self, objects: Iterable[Any]) -> list[Any]:
        """Fetch, and return the objects that the relationship leads to, for the nodes below."""
        relationship = self._relationship
        if not is_loadable(relationship):
            return []
        found: list[Any] = []
        wanted_by = what_is_wanted(relationship)
        since = 0 if wanted_by is not None or asks_by_key(relationship) else self._since
        lacking = self._lacking(objects, found, since)
        fetched = self._by_owner(lacking) if wanted_by is None else self._by_identity(lacking, wanted_by)
        if fetched:
            first = fetched[0][0]
            waiting = Waiting(self._node, self._session, first, wanted_by=wanted_by, is_async=self._is_async)
            waiting.keep(fetched)
            self.waiting = waiting
            found += [value for _, value in fetched]
        if not self._node.children:
            return []
        if relationship.uselist:
            found = list(chain.from_iterable(map(_members, found)))
        return list({id(one): one for one in found if one is not None}.values())

    def _lacking(self, objects: Iterable[Any], found: list[Any], since: int) -> Lacking:
        """Return the objects that lack the relationship and came since; what is there goes to `found`."""
        relationship = self._relationship
        key = relationship.key
        is_served: dict[type[Any], bool] = {}
        lacking: Lacking = []
        for one in objects:
            state, loaded = instance_state(one), instance_dict(one)
            if state.class_ not in is_served:
                # A query for a base class brings subclasses, which may know something else by this name.
                is_served[state.class_] = state.mapper.relationships.get(key) is relationship
            if not is_served[state.class_]:
                continue
            if key in loaded:
                found.append(loaded[key])
                continue
            waiting = waiting_in(state, key) if state.callables else None
            if waiting is None:
                if is_as_loaded(state, key) and (state.runid or 0) >= since:
                    lacking.append((state, loaded))
            elif (value := waiting.peek(state)) is not PASSIVE_NO_RESULT:
                found.append(value)
        return lacking

    def _by_owner(self, lacking: Lacking) -> Fetched:
        """Fetch what is asked for by who is asking."""
        slots = [Slot(state, loaded) for state, loaded in lacking]
        self._load(slots)
        return [(slot.state, slot.value) for slot in slots]

    def _by_identity(self, lacking: Lacking, wanted_by: WantedBy) -> Fetched:
        """Fetch what is asked for by its identity, once for all who ask for the same.

        A lazy load takes its object from the session if it is there; so does this.
        """
        identities, target = self._session.identity_map, self._relationship.mapper.class_
        names: dict[Mapper[Any], tuple[str, ...]] = {}
        missing: dict[Any, Slot] = {}
        known: dict[Any, Any] = {}
        askers: list[tuple[InstanceState[Any], Any]] = []
        for state, loaded in lacking:
            mapper = state.manager.mapper
            columns = names.get(mapper)
            if columns is None:
                columns = names[mapper] = self._foreign_key(mapper)
            key = loaded.get(columns[0]) if len(columns) == 1 else tuple(map(loaded.get, columns))
            if key not in known:
                want = wanted_by(state, loaded)
                there = None if want is None else identities.get(want)
                if want is None:  # nothing is asked for, or nobody can tell what
                    known[key] = PASSIVE_NO_RESULT
                elif there is None:
                    missing[key] = Slot(state, loaded)
                    known[key] = None
                else:
                    is_current = isinstance(there, target) and not instance_state(there).expired
                    known[key] = there if is_current else PASSIVE_NO_RESULT
            askers.append((state, key))
        self._load(list(missing.values()))
        known |= ((key, slot.value) for key, slot in missing.items())
        return [(state, known[key]) for state, key in askers if known[key] is not PASSIVE_NO_RESULT]

    def _load(self, slots: list[Slot]) -> None:
        """Fetch into slots, together for objects that were loaded alike."""
        groups: defaultdict[Any, list[Slot]] = defaultdict(list)
        for slot in slots:
            groups[id(slot.state.load_options), slot.state.load_path.path].append(slot)
        for group in groups.values():
            state = group[0].state
            path: Any = state.load_path if state.load_options else state.mapper._path_registry
            load_related(self._session, state, path[self._relationship], group, autoflush=False)

    def _foreign_key(self, mapper: Mapper[Any]) -> tuple[str, ...]:
        """Name the attributes by which a lazy load finds its object in the session."""
        loader: Any = self._relationship._get_strategy((("lazy", "select"),))
        columns = (loader._equated_columns[column] for column in self._relationship.mapper.primary_key)
        return tuple(mapper.get_property_by_column(column).key for column in columns)


def _members(collection: Any) -> Iterable[Any]:  # noqa: ANN401 - a list, set or dict of objects, or none
    return collection.values() if isinstance(collection, dict) else collection or ()
