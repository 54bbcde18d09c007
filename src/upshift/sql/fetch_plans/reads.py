"""Which objects had a relationship read, told by the descriptor of the attribute.

A value that was loaded eagerly lies in its object, and nothing tells whether it was read before the session
wrote: then a lazy load's value stays as it is, while one that nobody has read yet would be loaded after the
write. So while plans load a relationship directly, its descriptor notes who is asked, by session. Reading an
attribute is a Python function of SQLAlchemy's already; this one takes its place, and costs two look-ups more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.event.api import _event_key

from upshift.sql.uses.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import RelationshipProperty, Session
    from sqlalchemy.orm.state import InstanceState

    States = set[InstanceState[Any]]


class Reads:
    """Notes the objects that one relationship is read of.

    Args:
        relationship: the relationship; its class has no subclasses.
        before_mutation: called with the session of an object before its relationship is set, or changed by a
            change of the other side.

    Attributes:
        open: by session, the objects that it was read of.
    """

    def __init__(
        self, relationship: RelationshipProperty[Any], before_mutation: Callable[[Session | None], None]
    ) -> None:
        self.open: dict[int, States] = {}
        self._before_mutation = before_mutation
        self._watch = Watch(relationship, lambda *_: None, self._noting, self._on_set)
        self._listeners: list[tuple[Any, str, Callable[..., Any]]] = []
        for reverse in relationship._reverse_property:
            attribute = getattr(reverse.parent.class_, reverse.key)
            for name in ("append", "remove") if reverse.uselist else ("set",):
                self._listeners.append((attribute, name, self._on_mutation))
        for target, name, listener in self._listeners:
            # Before SQLAlchemy's own, which changes this side; `event.listen` has no way to say so here.
            _event_key(target, name, listener).base_listen(insert=True)

    def stop(self) -> None:
        """Leave the attribute to SQLAlchemy again."""
        self._watch.stop()
        for target, name, listener in self._listeners:
            event.remove(target, name, listener)

    def _on_set(self, one: Any) -> None:  # noqa: ANN401 - a mapped object
        # SQLAlchemy takes the old value from the object or the session, and tells only afterwards.
        state = one.__dict__.get("_sa_instance_state")
        if state is not None and state.session_id is not None:
            self._before_mutation(state.session)

    def _on_mutation(self, _state: object, value: Any, *rest: Any, **_key: object) -> Any:  # noqa: ANN401
        for each in (value, *rest):  # old value too, where it is one that is set
            state = getattr(each, "_sa_instance_state", None)
            if state is not None and state.session_id is not None:
                self._before_mutation(state.session)
        return value

    def _noting(self, plain: type[Any], relationship: RelationshipProperty[Any]) -> Callable[..., Any]:
        read: Callable[[Any, Any, Any], Any] = plain.__get__
        is_watched = "watch" in vars(plain)
        key, sessions = relationship.key, self.open

        def __get__(attribute: Any, instance: Any, owner: Any) -> Any:  # noqa: ANN401, N807 - a descriptor's
            if instance is None:
                return read(attribute, None, owner)
            values = instance.__dict__
            if sessions:
                state = values.get("_sa_instance_state")
                if state is not None and (read_of := sessions.get(state.session_id)) is not None:
                    read_of.add(state)
            if key in values and not is_watched:
                return values[key]
            return read(attribute, instance, owner)

        return __get__
