"""Objects that a fetch brought, kept out of their session until they are read.

A session finds an object by its identity wherever it can: `session.get`, a lazy many-to-one and the old value
of an attribute that is set take what is there and send no statement, and a query for what is there leaves its
attributes and its loader options as they are. So an object that a plan brought and nobody has read would be
met by all of those, where lazily there was none: with the columns of an earlier moment, and filtered by the
options of another query. Nor would it be gone when its value is thrown away, if it stands in a ring of
objects that waits for the garbage collector.

So what is not read is not there. When a plan has been fetched, the objects that are new are taken out of the
session's identity map, and each comes in again when a value that it belongs to is read, with those that it
holds itself (of relationships that are always eager). If there is another object by its name then, it stays
out, and the value is loaded lazily. An object that was in the session already is held by its state, which
does not keep it alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.state import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.orm import RelationshipProperty, Session

    State = InstanceState[Any]


def set_aside(session: Session, number: int) -> set[State]:
    """Take the objects that came after an execution's number out of a session, and return their states."""
    identities: Any = session.identity_map
    brought: set[State] = set()
    for state in reversed(identities.all_states()):  # the latest come last
        if state.runid is None or state.runid <= number:
            break
        brought.add(state)
        identities.safe_discard(state)
    return brought


def held_weakly(value: Any, aside: set[State], *, uselist: bool) -> Any:  # noqa: ANN401 - a mapped value
    """Return a value with the states of those of its objects that are not aside in the place of them."""
    if not uselist:
        return value if value is None or value._sa_instance_state in aside else value._sa_instance_state
    if all(one._sa_instance_state in aside for one in value):
        return value
    return [one if (state := one._sa_instance_state) in aside else state for one in value]


def objects_of(value: Any, *, uselist: bool) -> Any:  # noqa: ANN401 - a mapped value
    """Return a value with its objects; those that are gone are left out."""
    if uselist:
        found = [one.obj() if isinstance(one, InstanceState) else one for one in value]
        return [one for one in found if one is not None]
    return value.obj() if isinstance(value, InstanceState) else value


def come_in(members: Iterable[Any], owner: State, relationship: RelationshipProperty[Any]) -> bool:
    """Let a value's objects into their owner's session, or return False where a lazy load finds others."""
    session: Any = owner.session
    identities = session.identity_map
    new: list[State] = []
    for one in members:
        state: Any = one if isinstance(one, InstanceState) else one._sa_instance_state
        there = identities.get(state.key)
        if there is None:
            if state is one or not _is_loaded_alike(state, owner, relationship):
                return False
            new.append(state)
        elif there is not state.obj():
            return False
    if new:
        new += _held_by(new)
        for state in new:
            there = identities.get(state.key)
            if there is not None and there is not state.obj():
                return False
        for state in new:
            identities.add(state)
    return True


def come_in_as_they_are(members: Iterable[Any], session: Session) -> list[Any]:
    """Let objects into a session, and return them; or those that are there by the same names."""
    identities: Any = session.identity_map
    given: list[Any] = []
    for one in members:
        state: Any = one._sa_instance_state
        there = identities.get(state.key)
        if there is None:
            there = one
            if state.session_id == session.hash_key and not state._deleted:
                for each in (state, *_held_by([state])):
                    if each.key not in identities:
                        identities.add(each)
        given.append(there)
    return given


def _is_loaded_alike(state: State, owner: State, relationship: RelationshipProperty[Any]) -> bool:
    """Tell whether an object has the loader options that a lazy load would have given it."""
    if not owner.load_options or not state.load_options:
        return not owner.load_options and not state.load_options
    path: Any = owner.load_path
    way = path[relationship].path
    return state.load_path.path[: len(way)] == way and len(state.load_path.path) == len(way) + 1


def _held_by(states: Iterable[State]) -> list[State]:
    """Return the states of the objects that others hold in their loaded relationships, however far."""
    todo = [state for state in states if _eager(state)]
    seen = set(states)
    found: list[State] = []
    while todo:
        state = todo.pop()
        for below in _members(state):
            if below not in seen:
                seen.add(below)
                found.append(below)
                todo.append(below)
    return found


def _eager(state: State) -> bool:
    return not state.dict.keys().isdisjoint(state.mapper.relationships.keys())


def _members(state: State) -> Iterator[State]:
    loaded = state.dict
    for key in state.mapper.relationships.keys():  # noqa: SIM118 - not a dict
        value = loaded.get(key)
        if value is not None:
            for one in value._sa_adapter if hasattr(value, "_sa_adapter") else (value,):
                yield one._sa_instance_state
