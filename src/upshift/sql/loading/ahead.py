"""Values fetched ahead, and the objects they wait in.

A waiting value sits in `InstanceState.callables`, the place where SQLAlchemy keeps a loader for one object's
attribute. The attribute stays unloaded, so the first read calls the loader; that is how a value that was
fetched ahead can still be thrown away, and how it is known to have been read.

Each object on a page passes through here, so this code counts its function calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from sqlalchemy.orm.base import ATTR_WAS_SET, PASSIVE_NO_RESULT, PASSIVE_OFF, LoaderCallableStatus
from sqlalchemy.orm.collections import CollectionAdapter, InstrumentedList

from upshift.sql.loading.cohorts import Walk

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from sqlalchemy.orm import PassiveFlag, RelationshipProperty, Session
    from sqlalchemy.orm.state import InstanceState

    from upshift.sql.loading.preload import SessionLoads
    from upshift.sql.loading.selectin import Slot


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


def waiting_in(state: InstanceState[Any], key: str) -> Ahead | None:
    """Return the walk whose value waits in an object for this attribute, if one does."""
    walk = getattr(state.callables.get(key), "__self__", None)
    return walk if isinstance(walk, Ahead) else None
