"""Values fetched ahead, and the objects they wait in.

A waiting value sits in `InstanceState.callables`, the place where SQLAlchemy keeps a loader for one object's
attribute. The attribute stays unloaded, so the first read calls the loader; that is how a value that was
fetched ahead can still be thrown away, and how it is known to have been read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.orm.base import PASSIVE_OFF
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.util import await_only

from upshift.sql.cohorts import Cohorts, Experience, Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from sqlalchemy.engine import Result
    from sqlalchemy.orm import PassiveFlag, RelationshipProperty, Session
    from sqlalchemy.orm.state import InstanceState

MAX_WALKS = 1_024
"""Walks that one session may have open; the oldest makes room."""


class Waiting:
    """A loader for one attribute of one object that has its value already.

    It gives the value once, to the object as it was when the value was fetched. To an object that has been
    modified, detached, merged into another session or unpickled it gives nothing and loads lazily instead.
    """

    __slots__ = ("key", "session_id", "value", "walk")

    def __init__(self, key: str, value: Any, walk: Walk | None, session_id: int | None) -> None:
        self.key = key
        self.value = value
        self.walk = walk
        self.session_id = session_id

    def __reduce__(self) -> tuple[type[Waiting], tuple[str, None, None, None]]:
        return Waiting, (self.key, None, None, None)

    def __call__(self, state: InstanceState[Any], passive: PassiveFlag) -> Any:
        """Answer a read of the attribute, as SQLAlchemy calls it."""
        if passive is PASSIVE_OFF:
            state.callables.pop(self.key, None)
            if self.walk is not None and state.session_id == self.session_id and not state.modified:
                self.walk.used += 1
                return self.value
        lazy: Any = state.manager[self.key].impl.callable_
        return lazy(state, passive)


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

    def walk(self, relationship: RelationshipProperty[Any], run: int, place: Callable[[], Hashable]) -> Walk:
        """Return the walk along the objects of one query, opening it where there is none."""
        self._cohorts.count_loads(1)
        key = (relationship, run)
        walk = self._walks.get(key)
        if walk is None:
            if len(self._walks) >= MAX_WALKS:
                self._end(self._walks.pop(next(iter(self._walks))))
            where = (relationship, place())
            walk = self._walks[key] = Walk(where, self._experience.first_level(where))
        return walk

    def siblings(
        self, session: Session, state: InstanceState[Any], relationship: RelationshipProperty[Any], walk: Walk
    ) -> Iterator[InstanceState[Any]]:
        """Yield the siblings for which lazy loads would send statements, in the order they were loaded.

        Of siblings that share a many-to-one's object the first is enough: the others find it in the session.
        """
        run = state.runid
        assert run is not None  # an object without a run was not loaded, and leads no walk
        objects = session.identity_map
        wanted_by = _what_is_wanted(relationship)
        wanted = {wanted_by(state)}
        while True:
            if not walk.mates:
                self._cohorts.refill(walk, run, objects)
                if not walk.mates:
                    return
            mate = walk.mates.pop()
            if (
                mate is not state
                and mate.runid == run
                and mate.load_options is state.load_options
                and mate.load_path is state.load_path
                and is_as_loaded(mate, relationship.key)
                and mate.session_id == state.session_id
            ):
                want = wanted_by(mate)
                if want is not None and want not in wanted and cast("Any", want) not in objects:
                    wanted.add(want)
                    yield mate

    def keep(self, state: InstanceState[Any], key: str, value: Any, walk: Walk) -> None:
        """Let a value wait in an object, unless something has filled the attribute meanwhile."""
        if key in state.dict or key in state.callables:
            return
        if "callables" not in state.__dict__:
            state.callables = {}
        state.callables[key] = Waiting(key, value, walk, state.session_id)
        walk.waiting.append(state)
        self._cohorts.count_loads(1)

    def forget(self) -> None:
        """End all walks and throw away what waits: the session wrote, or its transaction ended."""
        walks, self._walks = self._walks, {}
        self._cohorts = Cohorts()
        for walk in walks.values():
            self._end(walk)

    def _end(self, walk: Walk) -> None:
        self._experience.learn(walk.place, walk.used)
        for state in walk.waiting:
            for key, loader in tuple(state.callables.items()):
                if isinstance(loader, Waiting) and loader.walk is walk:
                    del state.callables[key]


def is_as_loaded(state: InstanceState[Any], key: str) -> bool:
    """Tell whether an object is as its query left it, and this attribute of it unread."""
    return not (
        key in state.dict
        or state.modified
        or state.expired
        or state.expired_attributes
        or key in state.callables
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
