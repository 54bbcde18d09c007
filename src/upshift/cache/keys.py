"""Keys of calls: made from the arguments by the signature, so that equal calls have equal keys.

`f(1)`, `f(x=1)` and a call that leaves 1 as the default have one key; `f(1)`, `f(1.0)` and `f(True)` have
three. Values that are equal and yet written in other ways, as 1.0 and 1.00 or noon in two zones, have two.
What may be in a key is a closed list of types with values that mean the same in every process. An object that
is equal only to itself would fill the cache with entries that nobody can ever hit.
"""

from __future__ import annotations

import datetime as dt
import inspect
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from upshift.errors import CacheKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

MAX_TEXT = 1_000
"""Characters of a text, or bytes, in a key: whoever passes more, passes a document and not its name."""

_PLAIN = frozenset({int, str})
_WRITTEN = frozenset({complex, float, Decimal, dt.datetime, dt.time})
"""Types of which equal values may differ: by digits, by sign, by time zone."""

_ATOMS = frozenset({
    bool, bytes, complex, float, int, str, type(None), Decimal, UUID,
    dt.date, dt.datetime, dt.time, dt.timedelta,
})  # fmt: skip


class CallKeys:
    """Makes the keys of one function's calls.

    Args:
        function: the function.
        ignore: parameters that the value does not depend on, such as a session.

    Attributes:
        is_simple: whether all there is to a call is one argument; a number is a key as it is.

    Raises:
        CacheKeyError: the function has no parameter of that name, or is a method: what of `self` the value
            depends on has to be told by a key of its own.

    Example:
        >>> def product(session, number, *, currency="TWD"): ...
        >>> keys = CallKeys(product, ignore=["session"])
        >>> keys(object(), 7) == keys(object(), number=7, currency="TWD")
        True
    """

    def __init__(self, function: Callable[..., Any], ignore: Iterable[str] = ()) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        self._signature = inspect.signature(function)
        self._ignored = frozenset(ignore)
        parameters = self._signature.parameters
        for name in self._ignored - parameters.keys():
            raise CacheKeyError(f"{self._name} has no parameter {name!r} that could be ignored")
        first = next(iter(parameters), "")
        if first in {"self", "cls"} and first not in self._ignored:
            raise CacheKeyError(
                f"{self._name} is a method: tell by key= what of {first} the value depends on, "
                f"or ignore=[{first!r}] if it depends on nothing of it"
            )
        plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.is_simple = (
            len(parameters) == 1
            and not self._ignored
            and all(each.kind in plain for each in parameters.values())
        )

    def __call__(self, *arguments: Any, **named: Any) -> Hashable:
        """Return the key of a call, written as that.

        Raises:
            CacheKeyError: an argument cannot be part of a key; the message says which, and what to do.
            TypeError: the function cannot be called like that.
        """
        bound = self._signature.bind(*arguments, **named)
        bound.apply_defaults()
        if self.is_simple:
            (only,) = bound.arguments.values()
            part = self._part(next(iter(bound.arguments)), only)
            return only if type(only) in _PLAIN else part
        return tuple(
            (name, self._part(name, value))
            for name, value in bound.arguments.items()
            if name not in self._ignored
        )

    def _part(self, name: str, value: Any) -> Hashable:
        kind = type(value)
        if kind in _ATOMS:
            if isinstance(value, (str, bytes)) and len(value) > MAX_TEXT:
                raise self._refused(name, f"has {len(value)} characters, and a key holds {MAX_TEXT}")
            return value if kind is str else (kind.__name__, _written(value) if kind in _WRITTEN else value)
        if isinstance(value, Enum):
            return _name_of(kind), value.name or repr(value)
        if kind in {tuple, list}:
            return kind.__name__, tuple(self._part(name, each) for each in value)
        if kind in {set, frozenset}:
            return kind.__name__, frozenset(self._part(name, each) for each in value)
        if kind is dict:
            items = ((self._part(name, key), self._part(name, each)) for key, each in value.items())
            return kind.__name__, frozenset(items)
        if is_dataclass(kind) and _is_frozen(kind):
            parts = ((each.name, self._part(name, getattr(value, each.name))) for each in fields(kind))
            return _name_of(kind), tuple(parts)
        raise self._refused(name, f"is a {kind.__qualname__}, whose value means nothing in another process")

    def _refused(self, name: str, reason: str) -> CacheKeyError:
        return CacheKeyError(
            f"{name} of {self._name} {reason}: "
            f"give key=, or ignore=[{name!r}] if the value does not depend on it"
        )


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _written(value: Any) -> str:
    zone = getattr(value, "tzinfo", None)  # not all of it is in the offset
    is_offset = zone is None or type(zone) is dt.timezone
    return f"{value}{'' if is_offset else f'[{zone}]'}{'[fold]' if getattr(value, 'fold', 0) else ''}"


def _is_frozen(kind: Any) -> bool:
    return bool(kind.__dataclass_params__.frozen)


def text_of(key: Hashable) -> str:
    """Return what stands for a call, as people write it. Two may look alike.

    Example:
        >>> def product(number, *, currency="TWD"): ...
        >>> text_of(CallKeys(product)(7)), text_of(7), text_of((1, "a"))
        ('number=7,currency=TWD', '7', '1,a')
    """
    if not isinstance(key, tuple):
        return _part_text(key)
    return ",".join(
        f"{each[0]}={_part_text(each[1])}" if _is_named(each) else _part_text(each) for each in key
    )


def _part_text(part: Any) -> str:
    value = part[1] if _is_named(part) else part
    if isinstance(value, tuple):
        return f"({','.join(map(_part_text, value))})"
    return str(value)


def _is_named(part: Any) -> bool:
    return isinstance(part, tuple) and len(part) == 2 and isinstance(part[0], str)  # noqa: PLR2004
