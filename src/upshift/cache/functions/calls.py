"""One call of a cached function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from upshift.cache.memory import Key


class Call(msgspec.Struct, frozen=True):  # made a quarter as long as a named tuple
    """A call of a cached function, and the key of its value."""

    key: Key
    arguments: tuple[Any, ...]
    named: dict[str, Any]


def arguments_of(call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments, and those by name, that stand for a call in a list of calls.

    Example:
        >>> arguments_of(7), arguments_of((7, "en")), arguments_of({"number": 7})
        (((7,), {}), ((7, 'en'), {}), ((), {'number': 7}))
    """
    if isinstance(call, tuple):
        return call, {}
    if isinstance(call, Mapping):
        return (), dict(call)
    return (call,), {}
