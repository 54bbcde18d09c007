"""Values that were fetched with a statement's objects, and wait in them until they are read.

As in `upshift.sql.loading.preload`, a value waits in the state's loader callables, where SQLAlchemy looks
before it loads lazily. It is given only if a lazy load would find the same; how often that happens is what
the plan learns from.

What waits is not in the session (`upshift.sql.fetch_plans.aside`), so nothing else that the session does is
changed by it.

In an asynchronous session an attribute that is read outside of SQLAlchemy's greenlet cannot be loaded lazily
at all. There is no lazy value then to be equal to, and the read gets what an eager load in the statement
would have given: the value as it was when the objects were loaded, whatever the session has written since.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import ref

from sqlalchemy.orm.base import ATTR_WAS_SET, PASSIVE_NO_RESULT, PASSIVE_OFF
from sqlalchemy.orm.collections import CollectionAdapter, InstrumentedList
from sqlalchemy.util.concurrency import in_greenlet

from upshift.sql.fetch_plans.aside import (
    come_in,
    come_in_as_they_are,
    held_weakly,
    names_of_relationships,
    objects_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import PassiveFlag, Session
    from sqlalchemy.orm.state import InstanceState

    from upshift.sql.fetch_plans.plan import Node

    WantedBy = Callable[[InstanceState[Any], dict[str, Any]], Any]


class Waiting:
    """The values of one relationship for the objects of one result.

    Args:
        node: the node of the plan, which is told of the values that are read.
        session: the session.
        state: one of the objects.
        wanted_by: names the object that a lazy load would take from the session; None where it takes none.
        is_async: whether reads may happen where no lazy load is possible.
    """

    __slots__ = (
        "__weakref__",
        "_impl",
        "_is_async",
        "_is_over",
        "_is_weak",
        "_key",
        "_list_class",
        "_names",
        "_node",
        "_session",
        "_uselist",
        "_values",
        "_wanted_by",
    )

    def __init__(
        self,
        node: Node,
        session: Session,
        state: InstanceState[Any],
        *,
        wanted_by: WantedBy | None,
        is_async: bool,
    ) -> None:
        relationship = node.relationship
        self._node = node
        self._session = ref(session)
        self._key = relationship.key
        self._uselist = bool(relationship.uselist)
        self._wanted_by = wanted_by
        self._is_async = is_async
        self._is_over = False
        self._is_weak = False
        self._names = names_of_relationships(relationship.mapper)
        self._values: dict[InstanceState[Any], Any] = {}
        manager: Any = state.manager
        self._impl = manager[relationship.key].impl
        is_plain = relationship.uselist and self._impl.collection_factory is InstrumentedList
        self._list_class = state.class_ if is_plain and not self._impl.dispatch.init_collection else None

    def keep(self, fetched: Sequence[tuple[InstanceState[Any], Any]]) -> None:
        """Let values wait in their objects, and count them as fetched."""
        self.hold(fetched)
        self._node.count(len(fetched))

    def hold(self, fetched: Sequence[tuple[InstanceState[Any], Any]]) -> None:
        """Let values wait in their objects."""
        key, load = self._key, self.load
        for state, _ in fetched:
            if state.callables:
                state.callables[key] = load
            else:  # the class's own, which is immutable
                state.callables = {key: load}
        self._values = dict(fetched)

    def hold_weakly(self, aside: set[InstanceState[Any]]) -> None:
        """Hold only those objects that were set aside; the others are the session's, and may be gone."""
        uselist, values = self._uselist, self._values
        members = chain.from_iterable(values.values()) if uselist else values.values()
        self._is_weak = not aside.issuperset([one._sa_instance_state for one in members if one is not None])
        if self._is_weak:
            for state, value in values.items():
                values[state] = held_weakly(value, aside, uselist=uselist)

    def load(self, state: InstanceState[Any], passive: PassiveFlag) -> Any:  # noqa: ANN401 - a mapped value
        """Answer a read of the attribute, as SQLAlchemy calls it."""
        value: Any = self._take(state) if passive is PASSIVE_OFF else PASSIVE_NO_RESULT
        if value is PASSIVE_NO_RESULT:
            lazy: Any = state.manager[self._key].impl.callable_
            return lazy(state, passive)
        self._node.used += 1
        if state.class_ is not self._list_class:
            return value
        # A plain list is filled at once; SQLAlchemy would make a call for each object.
        collection: Any = InstrumentedList(value)
        CollectionAdapter(self._impl, state, collection)
        state.dict[self._key] = collection
        return ATTR_WAS_SET

    def peek(self, state: InstanceState[Any]) -> Any:  # noqa: ANN401 - a mapped value
        """Return what waits for an object, and let it wait."""
        value = self._values.get(state, PASSIVE_NO_RESULT)
        if value is PASSIVE_NO_RESULT or not self._is_weak:
            return value
        return objects_of(value, uselist=self._uselist)

    def _take(self, state: InstanceState[Any]) -> Any:  # noqa: ANN401 - a mapped value
        """Return an object's value, or `PASSIVE_NO_RESULT` where it has to be loaded. It waits no more."""
        del state.callables[self._key]  # it is through there that it was called
        value = self._values.pop(state, PASSIVE_NO_RESULT)
        session = self._session()
        if value is PASSIVE_NO_RESULT or session is None or state.session_id != session.hash_key:
            return PASSIVE_NO_RESULT
        if self._is_async and not in_greenlet():
            return self._as_it_is(value, session)
        # As `Session._is_clean()`: a lazy load would flush first.
        is_dirty = session.identity_map._modified or session._new or session._deleted
        if self._is_over or (is_dirty and (session.autoflush or state.modified)):
            return PASSIVE_NO_RESULT
        if value is None:
            return self._nothing(state, session)
        members = value if self._uselist else (value,)
        if not come_in(members, session, state, self._node.relationship, self._names):
            return PASSIVE_NO_RESULT
        return objects_of(value, uselist=self._uselist) if self._is_weak else value

    def _nothing(self, state: InstanceState[Any], session: Session) -> Any:  # noqa: ANN401 - a mapped value
        """Return None, unless what is wanted has come since, by a query whose criteria are others."""
        is_there = self._wanted_by is not None and self._wanted_by(state, state.dict) in session.identity_map
        return PASSIVE_NO_RESULT if is_there else None

    def _as_it_is(self, value: Any, session: Session) -> Any:  # noqa: ANN401 - a mapped value
        """Return a value as it was when it was fetched."""
        value = objects_of(value, uselist=self._uselist)
        if value is None or value is PASSIVE_NO_RESULT:
            return value
        given = come_in_as_they_are(value if self._uselist else (value,), session)
        return given if self._uselist else given[0]

    def discard(self, state: InstanceState[Any]) -> Any:  # noqa: ANN401 - a mapped value
        """Return what waits for an object, or `PASSIVE_NO_RESULT` if nothing does. It waits no more."""
        loaders = state.callables
        if loaders and waiting_in(state, self._key) is self:
            del loaders[self._key]
        return self._values.pop(state, PASSIVE_NO_RESULT)

    def write(self) -> None:
        """Note that the session writes: what waits is out of date, but for who cannot load it anew."""
        self._is_over = True
        session = self._session()
        if not self._is_async or session is None:
            self.end()
            return
        # As what an eager load brought they are in the session, which may expire them, for one.
        for state, value in self._values.items():
            if waiting_in(state, self._key) is self and state.session_id == session.hash_key:
                self._values[state] = self._as_it_is(value, session)

    def end(self) -> None:
        """Throw away what waits."""
        for state in tuple(self._values):
            self.discard(state)


def waiting_in(state: InstanceState[Any], key: str) -> Waiting | None:
    """Return whose value waits in an object for this attribute, if one does."""
    owner = getattr(state.callables.get(key), "__self__", None)
    return owner if isinstance(owner, Waiting) else None
