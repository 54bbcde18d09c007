"""Instances of classes with fields: what they are made of, and made again from it.

None of this runs `__init__` or `__post_init__` again, but for msgspec's Structs, which cannot be made
otherwise.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum, Flag
from functools import cached_property
from typing import Any, cast

import msgspec
from sqlalchemy import Row

from upshift.cache.codec.shape import is_model, mapper_of
from upshift.errors import CodecError

_BY_REPR = frozenset({float, complex, Decimal, dt.datetime, dt.time})
"""Types with values that are equal and not the same: 0.0 and -0.0, or one moment in two time zones."""


def has_fields(kind: Any) -> bool:
    """Whether instances of a class are made of fields, which `state_of` tells by name."""
    return issubclass(kind, msgspec.Struct) or is_dataclass(kind) or is_model(kind)


def state_of(value: Any) -> Any:
    """Return what an instance of a class with fields is made of, in builtins and further instances.

    Raises:
        CodecError: it has attributes that its class does not tell of.
    """
    kind: Any = type(value)
    if isinstance(value, Flag):
        return value.value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in kind.__struct_fields__}
    if isinstance(value, tuple):
        return list(value)
    if is_model(kind):
        state = value.__getstate__()
        return {name: part for name, part in state.items() if part is not None}
    state = {each.name: getattr(value, each.name) for each in fields(kind) if hasattr(value, each.name)}
    for name in getattr(value, "__dict__", ()):
        if name not in state and not isinstance(getattr(kind, name, None), cached_property):
            raise CodecError(f"{kind.__qualname__} has an attribute {name!r} that is none of its fields")
    return state


def made_again(kind: Any, state: Any) -> Any:
    """Return an instance that is made of `state`.

    Raises:
        CodecError: none can be made of that.
    """
    if issubclass(kind, Flag):
        return kind(state)
    if issubclass(kind, Enum):
        return kind[state]
    if issubclass(kind, tuple):
        return kind._make(state)
    if issubclass(kind, msgspec.Struct):
        return kind(**state)
    if is_model(kind):
        model = kind.__new__(kind)
        missing = dict.fromkeys(("__pydantic_extra__", "__pydantic_private__"))
        model.__setstate__(missing | state)
        return model
    if is_dataclass(kind) and state.keys() <= {each.name for each in fields(kind)}:
        made = object.__new__(cast("type[Any]", kind))
        for name, part in state.items():
            object.__setattr__(made, name, part)  # frozen or not
        return made
    raise CodecError(f"a kept value has no proper state of a {kind.__qualname__}")


def is_same(one: Any, other: Any) -> bool:  # noqa: PLR0911 - one for each kind of value
    """Whether two values cannot be told apart: equal, and of the same types all the way down.

    Of mapped objects only the classes are compared.

    Example:
        >>> is_same([1, 2.0], [1, 2.0]), is_same([1], [True]), is_same((1,), [1])
        (True, False, False)
    """
    kind = type(one)
    if kind is not type(other):
        return False
    if one is other:
        return True
    if kind in _BY_REPR:
        return repr(one) == repr(other)
    if kind is dict:
        return len(one) == len(other) and all(map(is_same, one.items(), other.items()))
    if kind in {set, frozenset}:
        return {(type(each), each) for each in one} == {(type(each), each) for each in other}
    if isinstance(one, (list, tuple, Row)):
        return len(one) == len(other) and all(map(is_same, one, other))
    if mapper_of(kind) is not None:
        return True
    if has_fields(kind):
        return is_same(state_of(one), state_of(other))
    return bool(one == other)
