"""Attributes of mapped classes that tell when they are read.

While somebody watches an attribute, its descriptor on the class (`Order.items`) is of a subclass of its own
class, whose `__get__` tells first. Nothing else is changed: values stay where they are, in the object's dict,
and what looks at them in another way than by reading the attribute is not seen (`vars(order)`, pickle). An
attribute that nobody watches is the plain one, and costs nothing.

Several may watch one attribute, also of several `Upshift`s, and stop in any order: a descriptor that is not
the outermost any more stays, tells nobody, and is taken off by the one above it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.attributes import QueryableAttribute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import MapperProperty

    Tell = Callable[[MapperProperty[Any], Any], None]
    Reading = Callable[[type[Any], Any], Callable[..., Any]]


class Watch:
    """Watches one attribute, on its class and on the subclasses.

    Args:
        prop: the attribute.
        tell: called with it and the object before each read.
        reading: makes the `__get__` of a descriptor, given the plain descriptor's class and the attribute,
            where telling by a call is too slow.
        before_set: called with the object before the attribute is set or deleted.
    """

    def __init__(
        self,
        prop: MapperProperty[Any],
        tell: Tell,
        reading: Reading | None = None,
        before_set: Callable[[Any], None] | None = None,
    ) -> None:
        self._attributes = tuple(_attributes(prop))
        self.tell: Tell | None = tell
        for attribute in self._attributes:
            _set_class(attribute, _telling(type(attribute), prop, self, reading, before_set))

    def stop(self) -> None:
        """Stop watching. Calling it twice does nothing more."""
        self.tell = None
        for attribute in self._attributes:
            kind: Any = type(attribute)
            while (watch := vars(kind).get("watch")) is not None and watch.tell is None:
                kind = kind.__base__
                _set_class(attribute, kind)


_set_class: Callable[[object, type[Any]], None] = vars(object)["__class__"].__set__


def _attributes(prop: MapperProperty[Any]) -> Iterator[QueryableAttribute[Any]]:
    for mapper in prop.parent.self_and_descendants:
        attribute = vars(mapper.class_).get(prop.key)
        if isinstance(attribute, QueryableAttribute) and mapper.attrs.get(prop.key) is not None:
            yield attribute


def _telling(
    plain: type[Any],
    prop: MapperProperty[Any],
    watch: Watch,
    reading: Reading | None,
    before_set: Callable[[Any], None] | None,
) -> type[Any]:
    read: Callable[[Any, Any, Any], Any] = plain.__get__

    def __get__(self: Any, instance: Any, owner: Any) -> Any:  # noqa: ANN401, N807 - a descriptor's
        if instance is not None and watch.tell is not None:
            watch.tell(prop, instance)
        return read(self, instance, owner)

    # For SQLAlchemy's cache of statements, which asks an attribute for its `__class__`, it is the plain one.
    get = reading(plain, prop) if reading is not None else __get__
    members = {"__slots__": (), "__get__": get, "__class__": property(lambda _: plain), "watch": watch}
    if before_set is not None:
        members |= _setting(plain, before_set)
    own: type[Any] = type(plain.__name__, (plain,), {**members, "inherit_cache": True})
    return own


def _setting(plain: type[Any], before_set: Callable[[Any], None]) -> dict[str, Any]:
    def __set__(self: Any, instance: Any, value: Any) -> None:  # noqa: ANN401, N807 - a descriptor's
        before_set(instance)
        plain.__set__(self, instance, value)

    def __delete__(self: Any, instance: Any) -> None:  # noqa: ANN401, N807 - a descriptor's
        before_set(instance)
        plain.__delete__(self, instance)

    return {"__set__": __set__, "__delete__": __delete__}
