"""Values with mapped objects, of which each who asks gets one of their own.

A mapped object belongs to one session at a time, and whoever changes it changes it for all. So a cache in
memory must not hand out the same one twice. What holds none can be handed out as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row

from upshift.cache.codec.instances import has_fields, state_of
from upshift.cache.codec.shape import ATOMS, mapper_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from upshift.cache.codec.codec import Codec


class Copies:
    """A value as bytes, to be made again for each who asks.

    Args:
        data: the value as bytes.
        codec: what it was written by.
    """

    __slots__ = ("_codec", "_data")

    def __init__(self, data: bytes, codec: Codec) -> None:
        self._data = data
        self._codec = codec

    def take(self, session: Session | None = None) -> Any:
        """Return a value that nobody else has.

        Args:
            session: where its objects belong; they are detached where none is given.

        Raises:
            CodecError: none can be made, as where a listener for "load" wants a query.
        """
        return self._codec.decode(self._data, session)


def copies_of(value: object, codec: Codec) -> Copies | None:
    """Return what makes copies of a value; None where it holds nothing mapped, and may be shared.

    Raises:
        CodecError: it does, and would not come back as it is.

    Example:
        >>> from upshift.cache.codec import codec_for
        >>> copies_of({"names": ["Mei", "Ling"]}, codec_for()) is None
        True
    """
    return Copies(codec.encode(value), codec) if holds_mapped(value) else None


def holds_mapped(value: object) -> bool:
    """Whether there is a mapped object in a value, in whatever collections and classes with fields."""
    waiting: list[Any] = [value]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if mapper_of(type(one)) is not None:
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
    return state_of(value).values() if has_fields(type(value)) else ()
