"""Values fetched ahead, and the objects they wait in.

A waiting value sits in `InstanceState.callables`, the place where SQLAlchemy keeps a loader for one object's
attribute. The attribute stays unloaded, so the first read calls the loader; that is how a value that was
fetched ahead can still be thrown away, and how it is known to have been read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.base import PASSIVE_NO_RESULT, PASSIVE_OFF
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.util import await_only

from upshift.sql.cohorts import Cohorts, Experience, Walk
from upshift.sql.selectin import load_related

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from sqlalchemy.engine import Result
    from sqlalchemy.orm import PassiveFlag, RelationshipProperty, Session
    from sqlalchemy.orm.state import InstanceState

MAX_WALKS = 1_024
"""Walks that one session may have open; the oldest makes room."""


class Waiting:
    """A loader for one attribute of one object that has its value already.

    It gives the value once, and only if a lazy load would find the same: not to an object that has been
    modified or detached or copied into another session, not while the session has something to flush, and
    not when the value itself has left the session. Then it loads lazily instead.
    """

    __slots__ = ("key", "session_id", "value", "walk")

    def __init__(self, key: str, value: Any, walk: Walk, session_id: int | None) -> None:
        self.key = key
        self.value = value
        self.walk = walk
        self.session_id = session_id

    def __call__(self, state: InstanceState[Any], passive: PassiveFlag) -> Any:
        """Answer a read of the attribute, as SQLAlchemy calls it."""
        value = self.take(state) if passive is PASSIVE_OFF else PASSIVE_NO_RESULT
        if value is not PASSIVE_NO_RESULT:
            return value
        lazy: Any = state.manager[self.key].impl.callable_
        return lazy(state, passive)

    def take(self, state: InstanceState[Any]) -> Any:
        """Return the value, or `PASSIVE_NO_RESULT` if it does not hold for this object. It waits no more."""
        state.callables.pop(self.key, None)
        session = state.session
        if session is None or state.session_id != self.session_id:
            return PASSIVE_NO_RESULT
        self.walk.waiting.discard(state)
        value, self.value = self.value, PASSIVE_NO_RESULT
        if state.modified or (session.autoflush and not session._is_clean()):
            return PASSIVE_NO_RESULT
        objects = value if isinstance(value, list) else () if value is None else (value,)
        if any(instance_state(one).session_id != self.session_id for one in objects):
            return PASSIVE_NO_RESULT
        self.walk.used += 1
        return value

    def discard(self, state: InstanceState[Any]) -> None:
        """Throw the value away, also for copies of this loader that another session's objects may hold."""
        self.value = PASSIVE_NO_RESULT
        if state.callables.get(self.key) is self:
            del state.callables[self.key]


class SessionLoads:
    """The walks of one session and the values that wait in its objects.

    Args:
        experience: where walks take their first batch size from and leave what they learned.
    """

    def __init__(self, experience: Experience) -> None:
        self._experience = experience
        self._walks: dict[Hashable, Walk] = {}
        self._cohorts = Cohorts()
        self._turn: asyncio.Lock | None = None
        self._holder: asyncio.Task[Any] | None = None

    def in_turn(self, load: Callable[[], Result[Any]]) -> Result[Any]:
        """Run `load` when no other task is loading through this session. Call it from within a greenlet.

        A load that causes another in the same task, from a user's event listener for example, keeps its turn.
        """
        task = asyncio.current_task()
        if self._holder is task:
            return load()
        if self._turn is None:
            self._turn = asyncio.Lock()
        await_only(self._turn.acquire())
        self._holder = task
        try:
            return load()
        finally:
            self._holder = None
            self._turn.release()

    def walk(
        self,
        relationship: RelationshipProperty[Any],
        state: InstanceState[Any],
        place: Callable[[], Hashable],
    ) -> Walk:
        """Return the walk along the objects that were loaded with this one, opening it if there is none."""
        self._cohorts.count_loads(1)
        key = (relationship, state.runid, state.load_path.path)
        walk = self._walks.get(key)
        if walk is None:
            if len(self._walks) >= MAX_WALKS:
                self._end([self._walks.pop(next(iter(self._walks)))])
            where = (relationship, place())
            walk = self._walks[key] = Walk(where, self._experience.first_level(where))
        return walk

    def load(
        self, session: Session, state: InstanceState[Any], path: Any, walk: Walk, *, autoflush: bool
    ) -> Any:
        """Load the next batch of a walk and let the siblings' values wait.

        Args:
            session: the session.
            state: the object whose attribute is being read.
            path: the loader path of its lazy load.
            walk: the walk that it is on.
            autoflush: flush the session first if it is set to.

        Returns:
            The value for `state`, or `PASSIVE_NO_RESULT` where a plain lazy load is as good.
        """
        walk.used += 1
        batch = self._batch(session, state, path.prop, walk)
        if not batch:
            return PASSIVE_NO_RESULT
        values = load_related(session, path, [states[0] for states in batch], autoflush=autoflush)
        for states, value in zip(batch, values, strict=True):
            # Who wants the same as the first finds it in the session, unless it does not exist.
            for each in states if value is None else states[:1]:
                if each is not state:
                    self._keep(each, path.prop.key, value, walk)
        return values[0]

    def _batch(
        self, session: Session, state: InstanceState[Any], relationship: RelationshipProperty[Any], walk: Walk
    ) -> list[list[InstanceState[Any]]]:
        """Return the states to load for: the asking one, then siblings in the order they were loaded.

        Siblings are those for which lazy loads would send statements. They are grouped by what they want: of
        those that share a many-to-one's object, the first speaks for all. A batch for one object is empty
        while the walk has not shown that more are wanted.
        """
        size = walk.next_size()
        run = state.runid
        assert run is not None  # an object without a run was not loaded, and leads no walk
        objects = session.identity_map
        wanted_by = _what_is_wanted(relationship)
        asked = wanted_by(state)
        if size == 1 or asked is None:
            return []
        batch = {asked: [state]}
        is_served = {state.class_: True}
        while len(batch) < size:
            if not walk.mates:
                self._cohorts.refill(walk, run, objects)
                if not walk.mates:
                    break
            mate = walk.mates.pop()
            if mate is state or mate.runid != run or not _has_same_origin(mate, state):
                continue
            if mate.class_ not in is_served:
                # A query for a base class brings subclasses, which may know something else by this name.
                is_served[mate.class_] = mate.mapper.relationships.get(relationship.key) is relationship
            if is_served[mate.class_] and is_as_loaded(mate, relationship.key):
                want = wanted_by(mate)
                if want in batch:
                    batch[want].append(mate)
                elif want is not None and cast("Any", want) not in objects:
                    batch[want] = [mate]
        return list(batch.values())

    def _keep(self, state: InstanceState[Any], key: str, value: Any, walk: Walk) -> None:
        """Let a value wait in an object, unless it is out of date or something has filled the attribute."""
        if walk.is_over or key in state.dict or key in state.callables:
            return
        if not state.callables:  # the class's empty and immutable one
            state.callables = {}
        state.callables[key] = Waiting(key, value, walk, state.session_id)
        walk.waiting.add(state)
        self._cohorts.count_loads(1)

    def forget(self) -> None:
        """End all walks and throw away what waits: the session wrote, or its transaction ended."""
        walks, self._walks = self._walks, {}
        self._cohorts = Cohorts()
        self._end(walks.values())

    def _end(self, walks: Iterable[Walk]) -> None:
        furthest: dict[Hashable, int] = {}
        for walk in walks:
            walk.is_over = True
            # A recursion walks every level of a tree from one line: its widest level is what it needs.
            furthest[walk.place] = max(walk.used, furthest.get(walk.place, 0))
            for state in walk.waiting:
                for loader in tuple(state.callables.values()):
                    if isinstance(loader, Waiting) and loader.walk is walk:
                        loader.discard(state)
        for place, used in furthest.items():
            self._experience.learn(place, used)


def discard_waiting(state: InstanceState[Any], keys: Iterable[str]) -> None:
    """Throw away what waits in an object for these attributes."""
    for key in keys:
        loader = state.callables.get(key)
        if isinstance(loader, Waiting):
            loader.discard(state)


def come_meanwhile(
    session: Session, state: InstanceState[Any], relationship: RelationshipProperty[Any]
) -> Any:
    """Return a value that came while its lazy load waited for its turn, or `PASSIVE_NO_RESULT`."""
    waiting = state.callables.get(relationship.key)
    if isinstance(waiting, Waiting):
        return waiting.take(state)
    wanted: Any = None if state.modified else _what_is_wanted(relationship)(state)
    found = session.identity_map.get(wanted)
    if isinstance(found, relationship.mapper.class_) and not instance_state(found).expired:
        return found
    return PASSIVE_NO_RESULT


def is_as_loaded(state: InstanceState[Any], key: str) -> bool:
    """Tell whether an object is as its query left it, and this attribute of it unread.

    Some of its columns may be expired; those of a subclass are when the query was for the base class.
    """
    return not (
        key in state.dict
        or state.modified
        or state.expired
        or key in state.callables
        or state.runid is None
        or state.key is None
        or state.key[2] is not None  # a sharded session keeps the shard here
    )


def _what_is_wanted(relationship: RelationshipProperty[Any]) -> Callable[[InstanceState[Any]], Hashable]:
    """Return what names the thing that a lazy load of an object's relationship would ask the database for.

    For a simple many-to-one that is the identity of its object, or None where the key is NULL or not loaded
    (then there is nothing to ask for, or nobody can tell). For everything else it is the asking state itself.
    """
    loader: Any = relationship._get_strategy((("lazy", "select"),))
    if relationship.direction is not MANYTOONE or not loader.use_get:
        return lambda state: state
    target = relationship.mapper
    columns = [loader._equated_columns[column] for column in target.primary_key]

    def identity(state: InstanceState[Any]) -> Hashable:
        mapper = state.manager.mapper
        values = tuple(state.dict.get(mapper.get_property_by_column(column).key) for column in columns)
        return None if None in values else target.identity_key_from_primary_key(values)

    return identity


def _has_same_origin(state: InstanceState[Any], other: InstanceState[Any]) -> bool:
    """Tell whether two objects of one query came from the same part of it, and are in one session still."""
    return (
        state.session_id == other.session_id
        and state.load_options is other.load_options
        and (state.load_path is other.load_path or state.load_path == other.load_path)
    )
