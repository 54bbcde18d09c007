"""Values with mapped objects, of which each who asks gets one of their own.

A mapped object belongs to one session at a time, and whoever changes it changes it for all. So a cache in
memory must not hand out the same one twice. What holds none can be handed out as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row

from upshift.cache.codec.instances import has_fields
from upshift.cache.codec.shape import ATOMS, is_model, mapper_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upshift.cache.codec.codec import Codec

_BUILTIN = ATOMS | {dict, list, tuple, set, frozenset}
"""Types that are not mapped, so that SQLAlchemy need not be asked, which takes its time."""


class Copies:
    """A value as bytes, to be made again for each who asks.

    Args:
        data: the value as bytes.
        codec: what it was written by.
        first: a value that was made of them; whoever asks first gets it.

    Attributes:
        data: the value as bytes.
    """

    __slots__ = ("_codec", "_made", "data")

    def __init__(self, data: bytes, codec: Codec, first: object) -> None:
        self.data = data
        self._codec = codec
        self._made = [first]

    def take(self) -> Any:
        """Return a value that nobody else has; its mapped objects are detached.

        Raises:
            CodecError: none can be made, as where a listener for "load" wants a query.
        """
        try:
            return self._made.pop()
        except IndexError:
            return self._codec.decode(self.data)


def copies_of(value: object, codec: Codec) -> Copies | None:
    """Return what makes copies of a value; None where it holds nothing mapped, and may be shared.

    Raises:
        CodecError: it does, and would not come back as it is, or not at all.

    Example:
        >>> from upshift.cache.codec import codec_for
        >>> copies_of({"names": ["Mei", "Ling"]}, codec_for()) is None
        True
    """
    if not holds_mapped(value):
        return None
    data = codec.encode(value)
    return Copies(data, codec, codec.decode(data))


def holds_mapped(value: object) -> bool:
    """Whether there is a mapped object in a value, in whatever collections and classes with fields."""
    waiting: list[Any] = [value]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if type(one) not in _BUILTIN and mapper_of(type(one)) is not None:
            return True
        if id(one) in seen:
            continue
        seen.add(id(one))
        parts = list(_parts(one))
        if not set(map(type, parts)) <= ATOMS:
            waiting += parts
    return False


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, (list, tuple, set, frozenset, Row)):
        return value
    kind = type(value)
    if not has_fields(kind):
        return ()
    # Not by `state_of`, which refuses attributes beside the fields: no bytes are made of these.
    names = {*getattr(kind, "__struct_fields__", ()), *getattr(kind, "__dataclass_fields__", ())}
    names |= {*getattr(value, "__dict__", ())}
    if is_model(kind):
        names |= {"__pydantic_extra__", "__pydantic_private__"}
    return [getattr(value, name, None) for name in names]
