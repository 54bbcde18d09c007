"""What an annotation says about values: the classes in it, and a fingerprint that changes when they do.

A value that was written by another version of the application has to be a miss, also where it could be read:
a renamed field with a default would read as that default, and columns in another order as each other. So the
fingerprint covers the names, the order, the types and what else decides how a value is written of everything
that the annotation reaches.
"""

from __future__ import annotations

import collections.abc
import datetime as dt
import re
import types
import typing
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import inspect
from sqlalchemy.orm import Mapper

from upshift.cache.codec.frame import FINGERPRINT_BYTES

ATOMS = frozenset({
    bool, bytearray, bytes, float, int, str, type(None), Decimal, UUID,
    dt.date, dt.datetime, dt.time, dt.timedelta,
})  # fmt: skip
"""Types whose values msgspec brings back from their annotation alone."""

_COLLECTIONS = frozenset({
    list, tuple, set, frozenset, dict,
    collections.abc.Collection, collections.abc.Sequence, collections.abc.MutableSequence,
    collections.abc.Set, collections.abc.MutableSet, collections.abc.Mapping, collections.abc.MutableMapping,
})  # fmt: skip
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Shape(NamedTuple):
    """What is known of values from their annotation.

    Attributes:
        fingerprint: changes with everything that decides how such a value is written.
        classes: classes with fields, and enumerations, that a value may have instances of.
        is_closed: whether msgspec can write and read such a value from the annotation alone.
        has_models: whether there are Pydantic models in it.
    """

    fingerprint: bytes
    classes: tuple[type[Any], ...]
    is_closed: bool
    has_models: bool


def fingerprint_of(*texts: str) -> bytes:
    """Return a fingerprint of a description; where objects lie in memory does not count."""
    text = "\n".join(_ADDRESS.sub("", text) for text in texts)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=FINGERPRINT_BYTES).digest()


def shape_of(annotation: object) -> Shape:
    """Return the shape of an annotation; None for one that says nothing.

    Example:
        >>> shape_of(list[int]).is_closed, shape_of(dict[str, typing.Any]).is_closed
        (True, False)
        >>> shape_of(list[int]).fingerprint == shape_of(list[str]).fingerprint
        False
    """
    walk = _Walk()
    text = walk.describe(typing.Any if annotation is None else annotation)
    return Shape(
        fingerprint_of(text, *walk.lines.values()),
        tuple(walk.lines),
        walk.is_closed,
        walk.has_models,
    )


def mapper_of(kind: Any) -> Mapper[Any] | None:
    """Return the mapper of a class; None where it is not mapped."""
    found = inspect(kind, raiseerr=False) if isinstance(kind, type) else None
    return found if isinstance(found, Mapper) else None


def is_model(kind: Any) -> bool:
    """Whether a class is a Pydantic model."""
    return (
        isinstance(kind, type) and hasattr(kind, "__pydantic_core_schema__") and hasattr(kind, "model_fields")
    )


def hints_of(kind: Any) -> dict[str, Any]:
    """Return the annotations of a class's attributes, as far as they can be told."""
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError, AttributeError):  # of names that are there for type checkers only
        hints: dict[str, Any] = {}
        for base in reversed(kind.__mro__):
            hints |= vars(base).get("__annotations__", {})
        return hints


def name_of(kind: type[Any]) -> str:
    """Return the name of a class with its module."""
    return f"{kind.__module__}.{kind.__qualname__}"


class _Walk:
    """A walk through an annotation.

    Attributes:
        lines: a line for each class that was met, in the order of meeting.
        is_closed: see `Shape`.
        has_models: see `Shape`.
    """

    def __init__(self) -> None:
        self.lines: dict[type[Any], str] = {}
        self.is_closed = True
        self.has_models = False

    def describe(self, annotation: Any) -> str:
        if isinstance(annotation, type) and not typing.get_args(annotation):
            return self._describe_class(annotation)
        if annotation is None:
            return "None"
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is not None:
            return self._describe_generic(annotation, origin, arguments)
        if isinstance(annotation, typing.NewType):
            return f"{annotation.__name__} of {self.describe(annotation.__supertype__)}"
        if hasattr(annotation, "__value__"):  # `type X = …`
            return f"{annotation} of {self.describe(annotation.__value__)}"
        self.is_closed = False
        return repr(annotation)

    def _describe_generic(self, annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> str:
        if origin is typing.Annotated:
            return f"{self.describe(arguments[0])} with {annotation.__metadata__!r}"
        if origin is typing.Literal:
            return repr(annotation)
        if origin in {typing.Union, types.UnionType}:
            return " | ".join(map(self.describe, arguments))
        if origin in _COLLECTIONS:
            if not arguments:
                self.is_closed = False
            parts = ", ".join("..." if each is ... else self.describe(each) for each in arguments)
            return f"{origin}[{parts}]"
        inner = ", ".join(map(self.describe, arguments))
        return f"{self._describe_class(origin)}[{inner}]"

    def _describe_class(self, kind: Any) -> str:
        name = name_of(kind)
        if kind in ATOMS or kind in self.lines:
            return name
        if not self._note(kind):
            self.is_closed = False
        return name

    def _note(self, kind: Any) -> bool:
        """Note a class, if it is of a kind that has fields; tell whether msgspec knows it."""
        if mapper_of(kind) is not None:
            return False  # its shape is in the payload, as that of each class that is met
        if issubclass(kind, Enum):
            self.lines[kind] = f"{name_of(kind)}: {[(each.name, each.value) for each in kind]}"
            return True
        if is_model(kind):
            self._note_fields(kind, repr(kind.model_config))
            self.has_models = True
            return False
        if issubclass(kind, msgspec.Struct):
            config = kind.__struct_config__
            how = [config.array_like, config.tag, config.tag_field, kind.__struct_encode_fields__]
            if config.omit_defaults:  # then a default is written by being left out
                how.append(kind.__struct_defaults__)
            self._note_fields(kind, repr(how))
            return True
        is_tuple = issubclass(kind, tuple) and hasattr(kind, "_fields")
        if is_dataclass(kind) or is_tuple or typing.is_typeddict(kind):
            self._note_fields(kind, "")
            return True
        return False

    def _note_fields(self, kind: Any, how: str) -> None:
        self.lines[kind] = ""  # met, though not told yet: classes refer to themselves
        hints = hints_of(kind)
        if is_dataclass(kind):
            hints = {each.name: hints.get(each.name, each.type) for each in fields(kind)}
        parts = ", ".join(f"{name}: {self.describe(hint)}" for name, hint in hints.items())
        self.lines[kind] = f"{name_of(kind)}({parts}) {how}"
