"""Values fetched ahead, and the objects they wait in.

A waiting value sits in `InstanceState.callables`, the place where SQLAlchemy keeps a loader for one object's
attribute. The attribute stays unloaded, so the first read calls the loader; that is how a value that was
fetched ahead can still be thrown away, and how it is known to have been read.

Each object on a page passes through here, so this code counts its function calls.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.base import ATTR_WAS_SET, PASSIVE_NO_RESULT, PASSIVE_OFF, LoaderCallableStatus
from sqlalchemy.orm.collections import CollectionAdapter, InstrumentedList
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.util import await_only

from upshift.sql.loading.cohorts import Cohorts, Experience, Walk
from upshift.sql.loading.refresh import Refresh
from upshift.sql.loading.selectin import Slot, load_related

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from sqlalchemy.engine import Result
    from sqlalchemy.orm import Mapper, PassiveFlag, RelationshipProperty, Session
    from sqlalchemy.orm.state import InstanceState

    from upshift.sql.loading.shadow import Shadow

MAX_WALKS = 1_024
"""Walks that one session may have open; the oldest makes room."""

_Identity = tuple[type[Any], tuple[Any, ...], Any]


class Ahead(Walk):
    """A walk with the values that were fetched ahead for it.

    Its method `load` waits in the objects as their loader. A value is given once, and only if a lazy load
    would find the same: not to an object that has been modified or detached, not while the session has
    something to flush, and not when the value itself has left the session. Then it is loaded lazily instead.
    """

    __slots__ = ("_impl", "_key", "_list_class", "_loads", "_session", "_tidy_at", "_uselist", "_values")

    def __init__(  # noqa: PLR0913, PLR0917 - one call site
        self,
        place: Hashable,
        level: int,
        session: Session,
        state: InstanceState[Any],
        path: Any,
        loads: SessionLoads,
    ) -> None:
        super().__init__(place, level)
        self._loads = ref(loads)
        relationship: RelationshipProperty[Any] = path.prop
        self._session = ref(session)
        self._key = relationship.key
        self._uselist = relationship.uselist
        self._values: dict[InstanceState[Any], Any] = {}
        self._tidy_at = 1_000
        manager: Any = state.manager
        self._impl = manager[relationship.key].impl
        is_plain = relationship.uselist and self._impl.collection_factory is InstrumentedList
        self._list_class = state.class_ if is_plain and not self._impl.dispatch.init_collection else None

    def keep(self, slots: Iterable[Slot]) -> None:
        """Let the values of slots wait in their objects, except where something filled the attribute."""
        if self.is_over:
            return
        key, waiting, load = self._key, self._values, self.load
        for slot in slots:
            if key not in slot.dict:
                state = slot.state
                waiting[state] = slot.value
                if state.callables:
                    state.callables[key] = load
                else:  # the class's own, which is immutable
                    state.callables = {key: load}
        if len(waiting) > self._tidy_at:
            self._values = {state: value for state, value in waiting.items() if state.obj() is not None}
            self._tidy_at = 2 * len(self._values) + 1_000

    def load(self, state: InstanceState[Any], passive: PassiveFlag) -> Any:
        """Answer a read of the attribute, as SQLAlchemy calls it."""
        value: Any = self.take(state) if passive is PASSIVE_OFF else PASSIVE_NO_RESULT
        if value is PASSIVE_NO_RESULT:
            return self._lazily(state, passive)
        loads = self._loads()
        if loads is not None and loads.shadow is not None:
            with loads.plainly(state):
                lazy = self._lazily(state, passive)
            relationship = state.mapper.relationships[self._key]
            loads.shadow.compare(state, relationship, self._as_list(state, lazy), self._as_list(state, value))
            return lazy
        if state.class_ is not self._list_class:
            return value
        # A plain list is filled at once; SQLAlchemy would make a call for each object.
        collection = InstrumentedList(value)
        CollectionAdapter(self._impl, state, cast("Any", collection))
        state.dict[self._key] = collection
        return ATTR_WAS_SET

    def _lazily(self, state: InstanceState[Any], passive: PassiveFlag) -> Any:
        lazy: Any = state.manager[self._key].impl.callable_
        return lazy(state, passive)

    def _as_list(self, state: InstanceState[Any], value: Any) -> list[Any]:
        if value is ATTR_WAS_SET:
            value = state.dict[self._key]
        if isinstance(value, LoaderCallableStatus):
            return []
        return list(value) if self._uselist else [] if value is None else [value]

    def take(self, state: InstanceState[Any]) -> Any:
        """Return an object's value, or `PASSIVE_NO_RESULT` if there is none that holds. It waits no more."""
        value = self.discard(state)
        session = self._session()
        if value is PASSIVE_NO_RESULT or session is None:
            return PASSIVE_NO_RESULT
        session_id = session.hash_key
        # As `Session._is_clean()`: a lazy load would flush first.
        is_dirty = session.identity_map._modified or session._new or session._deleted
        if state.session_id != session_id or (is_dirty and (session.autoflush or state.modified)):
            return PASSIVE_NO_RESULT
        for one in value if self._uselist else () if value is None else (value,):
            if one._sa_instance_state.session_id != session_id:
                return PASSIVE_NO_RESULT
        self.used += 1
        return value

    def discard(self, state: InstanceState[Any]) -> Any:
        """Return what waits for an object, or `PASSIVE_NO_RESULT` if nothing does. It waits no more."""
        loaders = state.callables
        if loaders:  # else it is the class's own, which is immutable
            loaders.pop(self._key, None)
        return self._values.pop(state, PASSIVE_NO_RESULT)

    def end(self) -> None:
        """Throw away what waits: it is out of date."""
        self.is_over = True
        for state in tuple(self._values):
            self.discard(state)


class SessionLoads:
    """The walks of one session and the values that wait in its objects.

    Args:
        experience: where walks take their first batch size from and leave what they learned.
        shadow: compares each value with that of the lazy load, which is what the application gets then.

    Attributes:
        plain: objects whose loads are left to SQLAlchemy at the moment, to compare with.
    """

    def __init__(self, experience: Experience, shadow: Shadow | None = None) -> None:
        self.shadow = shadow
        self.plain: set[InstanceState[Any]] = set()
        self._experience = experience
        self._walks: dict[Hashable, Ahead] = {}
        self._refreshes: dict[Mapper[Any], Refresh] = {}
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

    @contextmanager
    def plainly(self, state: InstanceState[Any]) -> Iterator[None]:
        """Leave the loads of one object to SQLAlchemy for the length of a `with` block."""
        self.plain.add(state)
        try:
            yield
        finally:
            self.plain.discard(state)

    def refresh(
        self,
        session: Session,
        state: InstanceState[Any],
        names: frozenset[str],
        place: Callable[[], Hashable],
    ) -> dict[str, Any] | None:
        """Return the row of an expired object that is read, or None where a plain refresh is as good."""
        walk = self._refreshes.get(state.mapper)
        if walk is None:
            where = (state.mapper, place())
            walk = Refresh(where, self._experience.first_level(where))
            self._refreshes[state.mapper] = walk
        return walk.row(session, state, names)

    def walk(
        self, session: Session, state: InstanceState[Any], path: Any, place: Callable[[], Hashable]
    ) -> Ahead:
        """Return the walk along the objects that were loaded with this one, opening it if there is none."""
        key = (path.prop, state.runid, state.load_path.path)
        walk = self._walks.get(key)
        if walk is None:
            if len(self._walks) >= MAX_WALKS:
                self._end([self._walks.pop(next(iter(self._walks)))])
            where = (path.prop, place())
            level = self._experience.first_level(where)
            walk = self._walks[key] = Ahead(where, level, session, state, path, self)
        return walk

    def load(
        self, session: Session, state: InstanceState[Any], path: Any, walk: Ahead, *, autoflush: bool
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
        batch, others = self._batch(session, state, path.prop, walk)
        self._cohorts.count_loads(len(batch) or 1)
        if not batch:
            return PASSIVE_NO_RESULT
        load_related(session, state, path, batch, autoflush=autoflush)
        walk.keep(batch[1:])
        # Who wants the same object as another finds it in the session, unless it does not exist.
        walk.keep(slot for first, slot in others if first.value is None)
        return batch[0].value

    def _batch(
        self,
        session: Session,
        state: InstanceState[Any],
        relationship: RelationshipProperty[Any],
        walk: Ahead,
    ) -> tuple[list[Slot], list[tuple[Slot, Slot]]]:
        """Return what to load, and siblings that want the same as one of those, paired with it.

        The asking object comes first, then siblings for which lazy loads would send statements, in the order
        they were loaded. A batch for one object is empty while the walk has not shown that more are wanted.
        """
        size = walk.next_size()
        first = Slot(state, state.dict)
        siblings = self._siblings(session, state, relationship, walk)
        wanted_by = what_is_wanted(relationship)
        if wanted_by is None:
            return ([first, *islice(siblings, size - 1)] if size > 1 else []), []
        asked = wanted_by(state, state.dict)
        if size == 1 or asked is None:
            return [], []
        batch = {asked: first}
        others: list[tuple[Slot, Slot]] = []
        for slot in siblings:
            want = wanted_by(slot.state, slot.dict)
            if want in batch:
                others.append((batch[want], slot))
            elif want is not None and want not in session.identity_map:
                batch[want] = slot
                if len(batch) == size:
                    break
        return list(batch.values()), others

    def _siblings(
        self,
        session: Session,
        state: InstanceState[Any],
        relationship: RelationshipProperty[Any],
        walk: Ahead,
    ) -> Iterator[Slot]:
        """Yield the objects that came with `state` from its query, and have not been read."""
        key, options, path = relationship.key, state.load_options, state.load_path
        is_served = {state.class_: True}
        while walk.mates or self._refill(walk, state, session):
            mate = walk.mates.pop()
            one = mate.obj()
            if one is None or mate is state:
                continue
            loaded: dict[str, Any] | None = instance_dict(one)
            if mate.expired:  # what is known of it waits beside it
                refresh = self._refreshes.get(mate.mapper)
                loaded = refresh.waiting(mate) if refresh is not None else None
            if loaded is None or key in loaded or key in mate.callables or mate.load_options is not options:
                continue
            if mate.load_path is not path and mate.load_path != path:
                continue
            if mate.class_ not in is_served:
                # A query for a base class brings subclasses, which may know something else by this name.
                is_served[mate.class_] = mate.mapper.relationships.get(key) is relationship
            if is_served[mate.class_]:
                yield Slot(mate, loaded)

    def _refill(self, walk: Walk, state: InstanceState[Any], session: Session) -> bool:
        """Give the walk its mates, first those that follow `state`: whoever reads one reads on from there."""
        if not self._cohorts.refill(walk, state.runid, session.identity_map):
            return False
        mates = walk.mates  # the next one is the last
        if state in mates:
            at = mates.index(state)
            walk.mates = mates[at:] + mates[:at]
        return True

    def forget(self) -> None:
        """End all walks and throw away what waits: the session wrote, or its transaction ended."""
        walks, self._walks = self._walks, {}
        self._cohorts = Cohorts()
        self._end(walks.values())
        self.forget_refreshes()

    def forget_refreshes(self) -> None:
        """End the walks along expired objects."""
        refreshes, self._refreshes = self._refreshes, {}
        self._end(refreshes.values())

    def _end(self, walks: Iterable[Ahead | Refresh]) -> None:
        furthest: dict[Hashable, int] = {}
        for walk in walks:
            walk.end()
            # A recursion walks every level of a tree from one line: its widest level is what it needs.
            furthest[walk.place] = max(walk.used, furthest.get(walk.place, 0))
        for place, used in furthest.items():
            self._experience.learn(place, used)


def waiting_in(state: InstanceState[Any], key: str) -> Ahead | None:
    """Return the walk whose value waits in an object for this attribute, if one does."""
    walk = getattr(state.callables.get(key), "__self__", None)
    return walk if isinstance(walk, Ahead) else None


def come_meanwhile(
    session: Session, state: InstanceState[Any], relationship: RelationshipProperty[Any]
) -> Any:
    """Return a value that came while its lazy load waited for its turn, or `PASSIVE_NO_RESULT`."""
    walk = waiting_in(state, relationship.key)
    if walk is not None:
        return walk.take(state)
    wanted_by = what_is_wanted(relationship)
    if wanted_by is None or state.modified:
        return PASSIVE_NO_RESULT
    found = session.identity_map.get(cast("Any", wanted_by(state, state.dict)))
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


def what_is_wanted(
    relationship: RelationshipProperty[Any],
) -> Callable[[InstanceState[Any], dict[str, Any]], _Identity | None] | None:
    """Return what names the object that a lazy load would ask the database for, None if it asks otherwise.

    A simple many-to-one asks for an object by its identity; or for nothing where the key is NULL, or nobody
    can tell for what where the key is not loaded. Everything else asks by who is asking.
    """
    loader: Any = relationship._get_strategy((("lazy", "select"),))
    if relationship.direction is not MANYTOONE or not loader.use_get:
        return None
    target = relationship.mapper
    columns = [loader._equated_columns[column] for column in target.primary_key]

    def identity(state: InstanceState[Any], loaded: dict[str, Any]) -> _Identity | None:
        mapper = state.manager.mapper
        values = tuple(loaded.get(mapper.get_property_by_column(column).key) for column in columns)
        return None if None in values else target.identity_key_from_primary_key(values)

    return identity
