"""The walks of a session: what to load next, for whom, and when to throw away what was loaded.

Each object on a page passes through here, so this code counts its function calls.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.base import PASSIVE_NO_RESULT
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.util import await_only

from upshift.sql.loading.ahead import Ahead, waiting_in
from upshift.sql.loading.cohorts import Cohorts, Experience, Walk
from upshift.sql.loading.refresh import Refresh
from upshift.sql.loading.selectin import Slot, asks_by_key, load_related, new_number

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from sqlalchemy.engine import Result
    from sqlalchemy.orm import Mapper, RelationshipProperty, Session
    from sqlalchemy.orm.state import InstanceState

    from upshift.sql.loading.shadow import Shadow

MAX_WALKS = 1_024
"""Walks that one session may have open; the oldest makes room."""

_Identity = tuple[type[Any], tuple[Any, ...], Any]


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
        self._written = 0  # the number of the last write; objects with smaller ones are older
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
            if (state.runid or 0) < self._written and not asks_by_key(relationship):
                return [], []
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
        """End all walks and throw away what waits: the session writes, or its transaction ended."""
        self._written = new_number()
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
