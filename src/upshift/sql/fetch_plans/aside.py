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

from itertools import chain
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.state import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.orm import Mapper, RelationshipProperty, Session

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
    return [one if (state := one._sa_instance_state) in aside else state for one in value]


def objects_of(value: Any, *, uselist: bool) -> Any:  # noqa: ANN401 - a mapped value
    """Return a value with its objects; those that are gone are left out."""
    if uselist:
        found = [one.obj() if isinstance(one, InstanceState) else one for one in value]
        return [one for one in found if one is not None]
    return value.obj() if isinstance(value, InstanceState) else value


def names_of_relationships(mapper: Mapper[Any]) -> frozenset[str]:
    """Return the names of all relationships that an object of a class may have."""
    every = (each.relationships.keys() for each in mapper.self_and_descendants)
    return frozenset(chain.from_iterable(every))


def come_in(
    members: Iterable[Any],
    session: Session,
    owner: State,
    relationship: RelationshipProperty[Any],
    names: frozenset[str],
) -> bool:
    """Let a value's objects into a session, or return False where a lazy load finds others.

    Args:
        members: the objects, or states in the place of those that are not aside.
        session: the session of the owner.
        owner: whose value it is.
        relationship: of which relationship.
        names: those of the objects' own relationships (`names_of_relationships`).
    """
    identities: Any = session.identity_map
    find = identities._dict.get  # `fast_get_state` is a call more, and each object that is read comes here
    options = owner.load_options
    new: list[State] = []
    is_alone = True
    for one in members:
        state: Any = one if type(one) is InstanceState else one._sa_instance_state
        there = find(state.key)
        if there is state and (state is not one or state.obj() is not None):
            continue
        if state is one or (there is not None and not _is_free(there, state)):
            return False
        if (options or state.load_options) and not _is_loaded_alike(state, owner, relationship):
            return False
        if is_alone and not names.isdisjoint(one.__dict__):
            is_alone = False
        new.append(state)
    if not is_alone:
        held = _held_by(new)
        if not all(_is_free(find(state.key), state) for state in held):
            return False
        new += (state for state in held if find(state.key) is not state)
    for state in new:
        identities.add(state)  # which also notes one that was modified meanwhile
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


def _is_free(there: State | None, state: State) -> bool:
    """Tell whether no other object is there by a state's name."""
    return there is None or there is state or there.obj() is None


def _is_loaded_alike(state: State, owner: State, relationship: RelationshipProperty[Any]) -> bool:
    """Tell whether an object has the loader options that a lazy load would have given it, if not none."""
    if not owner.load_options or not state.load_options:
        return False
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
