"""What a setting's type allows, checked whoever gives the value, and said in words where it does not fit."""

from __future__ import annotations

import re
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from upshift.errors import SettingsError


class Within(NamedTuple):
    """The least and the most that a number can be; whatever takes it can bear the most."""

    least: float
    most: float


Share = Annotated[float, Within(0, 1)]
Seconds = Annotated[float, Within(0, 1_000_000)]
Size = Annotated[int, Within(0, 10**15)]

_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def variable_of(name: str) -> str:
    """The variable of a setting.

    Example:
        >>> variable_of("batching")
        'UPSHIFT_BATCHING'
    """
    return f"UPSHIFT_{name.upper()}"


def check(section: object) -> None:
    """Refuse what a section's types do not allow: arguments come from code that nobody may have checked."""
    for name, kind in get_type_hints(type(section), include_extras=True).items():
        value = getattr(section, name)
        wanted = _wanted(value, kind)
        if wanted:
            raise SettingsError(f"{name} ({variable_of(name)}) is {value!r}; it can be {wanted}")


def _wanted(value: object, kind: Any) -> str:  # noqa: ANN401 - any type
    """What a setting of this type can be, in words; nothing where the value is such."""
    inner = get_args(kind)
    if NoneType in inner:
        return "" if value is None else _wanted(value, inner[0])
    if get_origin(kind) is Literal:
        fits, words = value in inner, " or ".join(inner)
    elif get_origin(kind) is Annotated:
        number, (least, most) = inner
        fits = isinstance(value, (int, number)) and not isinstance(value, bool) and least <= value <= most
        words = f"a {'whole ' if number is int else ''}number from {least} to {most}"
    elif get_origin(kind) is tuple:
        fits = isinstance(value, tuple) and all(isinstance(each, str) for each in value)
        words = "a tuple of texts, such as ('one', 'two')"
    elif kind is str:
        fits = isinstance(value, str) and not _UNWRITABLE.search(value)
        words = "a text without control characters"
    else:
        fits, words = isinstance(value, kind), "true or false" if kind is bool else f"a {kind.__name__}"
    return "" if fits else words
